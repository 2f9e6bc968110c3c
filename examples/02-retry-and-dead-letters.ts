/** What a handler's result means: returning acknowledges, throwing retries, and what cannot succeed is parked with its reason. */

import { setTimeout as sleep } from "node:timers/promises";
import { connect, deadLetter, type HandlerOutcome } from "signalbox";

await using broker = await connect("memory:", { logger: { debug() {}, info() {}, warn() {}, error: console.error } });

// Each group has its own retries and its own dead letters. The delay doubles from `initialMs` on.
const options = { group: "billing", from: "beginning", retry: { maxAttempts: 3, initialMs: 20 } } as const;
await broker.events.subscribe("card.charged", options, (card, { attempt }): HandlerOutcome | void => {
  console.log(`${String(card)}: attempt ${attempt}`);
  // Thrown: it may work next time. After the last attempt it becomes a dead letter.
  if (card === "flaky" && attempt < 3) throw new Error("the bank does not answer");
  if (card === "broken") throw new Error("the bank knows no such card");
  // Returned: it will never work, so it is parked at once.
  if (card === "stolen") return deadLetter("reported as stolen");
});
await broker.events.publishMany("card.charged", ["good", "flaky", "broken", "stolen"]);

const isBusy = async (): Promise<boolean> => {
  const { groups } = await broker.events.stats("card.charged");
  return groups.some(({ lag, pending, retrying }) => lag + pending + retrying > 0);
};
while (await isBusy()) await sleep(10);

for await (const { message, attempts, reason } of broker.events.group("card.charged", "billing").deadLetters()) {
  console.log(`dead letter: ${String(message?.data)}, ${reason.kind} after ${attempts}: ${reason.message}`);
}
