/** Pub/sub: whoever listens now hears it, by exact name, by template and by pattern. Nothing is stored. */

import { connect, defineContract, skip, when } from "signalbox";
import { until } from "signalbox/testing";
import { z } from "zod";

const contract = defineContract({
  channels: { "quakes.{region}": z.object({ magnitude: z.number() }), notices: z.string() },
});

// Two brokers on one store, as two processes would have them.
await using station = await connect("memory:air", { contract });
await using radio = await connect("memory:air", { contract });

const heard: string[] = [];
await radio.pubsub.subscribe("quakes.{region}", ({ magnitude }, { params }) => {
  if (magnitude < 0) throw new Error("no such magnitude");
  heard.push(`${params.region}: magnitude ${magnitude}`);
});
await radio.pubsub.subscribe(
  "quakes.alaska",
  (_, { channel }) => void heard.push(`somebody cares for ${channel} alone`),
);

// The first rule that fits decides; without one a handler is tried again in place, and the failure is then reported.
radio.pubsub.onError(
  when((error) => error instanceof Error && error.message.startsWith("no such")),
  () => skip(),
);

const receipt = await station.pubsub.publish("quakes.alaska", { magnitude: 5.1 });
console.log(`heard by ${receipt.receivers} broker`);
await station.pubsub.publish("quakes.nevada", { magnitude: -1 });
await station.pubsub.publish("quakes.california", { magnitude: 2.4 });
await until(() => heard.length === 3);
for (const line of heard.toSorted()) console.log(line);

// As an iterable. Its buffer is bounded: what a slow reader does not fetch in time is dropped, and counted.
const notices = radio.pubsub.listen("notices", { buffer: 100, overflow: "drop-oldest" });
await notices.ready();
await station.pubsub.publish("notices", "the desk closes at six");
for await (const { data } of notices) {
  console.log(`notice: ${data}`);
  break;
}

// Nobody hears this, and nobody ever will: what must arrive is an event, or goes to a queue.
const lost = await station.pubsub.publish("notices", "is anybody there?");
console.log(`heard by ${lost.receivers}`);
