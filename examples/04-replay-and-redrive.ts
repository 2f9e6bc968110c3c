/** The past again: dead letters are put back, a replay reads once more, and a group is sent back to the beginning. */

import { setTimeout as sleep } from "node:timers/promises";
import { connect, defineContract } from "signalbox";
import { z } from "zod";

const contract = defineContract({
  events: { "meter.read": z.object({ meter: z.string(), kwh: z.number() }) },
});
const logger = { debug() {}, info() {}, warn() {}, error: console.error };
await using broker = await connect("memory:", { contract, logger });
const { events } = broker;

// Readings of one meter are billed one after the other, in whatever process, also when an attempt fails. What was billed
// is kept by the event's id: an event that comes again changes nothing.
let isMended = false;
let calls = 0;
const billed = new Map<string, number>();
const options = { group: "bills", from: "beginning", order: "key", retry: { maxAttempts: 2, initialMs: 10 } } as const;
await events.subscribe("meter.read", options, ({ kwh }, { message }) => {
  calls += 1;
  if (kwh < 0 && !isMended) throw new Error("counts backwards");
  billed.set(message.id, kwh);
});

const readings = [
  { meter: "east", kwh: 5 },
  { meter: "west", kwh: 2 },
  { meter: "east", kwh: -1 },
  { meter: "east", kwh: 3 },
];
// With ids of their own, sending them again after a crash does not store them twice.
const ids = { key: ({ meter }: { meter: string }) => meter, id: (_: unknown, index: number) => `reading-${index}` };
const receipts = await events.publishMany("meter.read", readings, ids);
const again = await events.publishMany("meter.read", readings, ids);
console.log(`stored: ${receipts.length}, stored twice: ${again.filter(({ duplicate }) => !duplicate).length}`);

const group = events.group("meter.read", "bills");
const report = async (what: string): Promise<void> => {
  for (let left = 1; left > 0; await sleep(5)) {
    const { lag, pending, retrying } = await group.stats();
    left = lag + pending + retrying;
  }
  const sum = [...billed.values()].reduce((total, kwh) => total + kwh, 0);
  console.log(`${what}: ${sum} kWh billed in ${calls} calls, dead letters: ${(await group.stats()).dead}`);
};
await report("first");

// 1. Redrive, after a fix: this group gets it again, and no other.
isMended = true;
await group.redrive();
await report("redriven");

// 2. Replay: a look at the past, from one event to another. No group notices.
const [, second, third] = receipts;
if (second !== undefined && third !== undefined) {
  const range = { from: second.position, to: third.position };
  await events.replay("meter.read", range, ({ meter, kwh }, { message }) => {
    console.log(`replayed: ${message.id}, ${meter} ${kwh}`);
  });
}

// 3. Seek: the group itself goes back and gets everything once more, what was redriven as well.
await group.seek("beginning");
await report("from the beginning");
