/** A queue: each message goes to one consumer, the most urgent first; an inbox is for one recipient alone. */

import { connect, defineContract } from "signalbox";
import { z } from "zod";

const contract = defineContract({ queues: { repairs: z.string() } });
await using broker = await connect("memory:", { contract });
const repairs = broker.queue("repairs");

// Higher is sooner, and the older of two equals. `ttlMs` ends the waiting, `delayMs` begins with it.
await repairs.publish("paint the fence");
await repairs.publish("mend the roof", { priority: 10 });
await repairs.publish("oil the door");
await repairs.publish("stop the flood", { priority: 99, ttlMs: 60_000 });
await repairs.publish("trim Ada's roses", { target: "ada" });

// The iterable form: every delivery is settled by hand. Leaving the loop gives back what it still holds.
for await (const delivery of repairs.deliveries({ concurrency: 1 })) {
  console.log(`anyone: ${delivery.data}`);
  await delivery.ack();
  if (delivery.data === "oil the door") break;
}
for await (const delivery of repairs.deliveries({ as: "ada" })) {
  console.log(`ada: ${delivery.data}`);
  await delivery.ack();
  break;
}

const { waiting } = await repairs.stats();
console.log(`${waiting} left`);
