/** Which parts of the desk run, in this process and in others: a presence that ends with whoever runs them. */

import type { QuakeBroker } from "./contract.js";

/** What one desk runs. Two desks on the same store run each of these twice. */
const PARTS = ["feed", "statistics", "alerting", "alerts"];

/** Enters the parts of this process. They leave when the broker closes, or soon after the process was killed. */
export async function enterParts(broker: QuakeBroker): Promise<void> {
  const desk = broker.presence("desk");
  await Promise.all(PARTS.map((part) => desk.enter(part, { pid: process.pid })));
}

/** `alerting, alerts, feed, statistics`, each with how many desks run it where that is more than one. */
export async function runningParts(broker: QuakeBroker): Promise<string> {
  const { members } = await broker.presence("desk").list();
  return members
    .map(({ id, connections }) => (connections > 1 ? `${id} × ${connections}` : id))
    .toSorted()
    .join(", ");
}
