/** Events: every group of consumers gets all of them, whether it was there when they were published or not. */

import { connect, defineContract } from "signalbox";
import { z } from "zod";

const contract = defineContract({
  events: { "order.created": z.object({ order: z.number(), euros: z.number() }) },
});

// `await using` closes the broker at the end. With "sqlite:./orders.db" everything survives until the next run.
await using broker = await connect("memory:", { contract });

const { durability } = await broker.events.publish("order.created", { order: 1, euros: 30 });
console.log(`order 1 is stored, as safely as ${durability}`);

// Two groups: one wants all that ever happened, the other what happens from now on.
let expected = 3 + 2;
let finish = (): void => undefined;
const finished = new Promise<void>((resolve) => {
  finish = resolve;
});
const report = (line: string): void => {
  console.log(line);
  expected -= 1;
  if (expected === 0) finish();
};

let revenue = 0;
await broker.events.subscribe("order.created", { group: "accounting", from: "beginning" }, ({ order, euros }) => {
  revenue += euros;
  report(`accounting: order ${order}, ${revenue} euros so far`);
});
await broker.events.subscribe("order.created", { group: "shipping", from: "new" }, ({ order }) => {
  report(`shipping: sends order ${order}`);
});

await broker.events.publish("order.created", { order: 2, euros: 20 });
await broker.events.publish("order.created", { order: 3, euros: 50 });
await finished;
