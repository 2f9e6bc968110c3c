/** After the week: alerts that nobody answered are put back, and the busiest day is read again by a group of its own. */

import { setTimeout as sleep } from "node:timers/promises";
import { handleAlerts } from "./desk.js";
import type { Quake, QuakeBroker } from "./contract.js";
import { Failure } from "./failure.js";
import type { Ledger } from "./ledger.js";
import { count } from "./progress.js";
import { dayOf, describe, tally, topOf } from "./summary.js";

const LOOK_EVERY_MS = 20;

/** Both may be run again: what was put back is no longer parked, and the group is made anew. */
export async function reportAfterwards(broker: QuakeBroker, ledger: Ledger): Promise<string> {
  const quakes = ledger.entries("counted").map(({ quake }) => quake);
  const [busiest] = topOf(tally(quakes, dayOf).toSorted(([, a], [, b]) => b - a));
  if (busiest === undefined) throw new Failure("nothing has been played yet: run it without --afterwards first");
  return [...(await redriveUnanswered(broker, ledger)), "", ...(await readDayAgain(broker, busiest[0]))].join("\n");
}

/** The telephone works again. Alerts that were rejected stay where they are: there is still nobody to call. */
async function redriveUnanswered(broker: QuakeBroker, ledger: Ledger): Promise<string[]> {
  const alerts = broker.queue("alerts");
  const ids: string[] = [];
  const lines: string[] = [];
  for await (const { id, message, reason } of alerts.deadLetters()) {
    if (reason.kind !== "failed") continue;
    ids.push(id);
    if (message !== undefined) lines.push(`  ${describe(message.data)}`);
  }
  if (ids.length === 0) return ["Redrive     nothing to put back: no alert failed"];
  await using consumer = await handleAlerts(broker, ledger, { telephone: "mended" });
  const redriven = await alerts.redrive({ ids });
  while (await isUnderWay(broker)) await sleep(LOOK_EVERY_MS);
  await consumer.close();
  return [`Redrive     ${count(redriven)} dead letters put back, and handled now that the telephone works:`, ...lines];
}

async function isUnderWay(broker: QuakeBroker): Promise<boolean> {
  const { waiting, leased, delayed } = await broker.queue("alerts").stats();
  return waiting + leased + delayed > 0;
}

/** The two ways to read the past: a replay, which leaves no trace, and a group that starts at a position. */
async function readDayAgain(broker: QuakeBroker, day: string): Promise<string[]> {
  const { events } = broker;
  const positions: string[] = [];
  const { handled, passedOver } = await events.replay(
    "quake.recorded",
    { from: "beginning", where: (quake) => dayOf(quake) === day },
    (_, { message }) => {
      positions.push(message.position);
    },
  );

  const [first] = positions;
  if (first === undefined) throw new Failure(`the stream no longer holds ${day}`);
  const group = events.group("quake.recorded", `day-${day}`);
  await group.delete(); // Of an earlier run that was killed.
  const again: Quake[] = [];
  await using consumer = await events.subscribe(
    "quake.recorded",
    { group: group.name, from: { at: first } },
    (quake) => {
      if (dayOf(quake) === day) again.push(quake);
    },
  );
  while (again.length < handled) await sleep(LOOK_EVERY_MS);
  await consumer.close();
  await group.delete();

  const strongest = again.toSorted((a, b) => b.magnitude - a.magnitude)[0];
  return [
    `Replay      ${count(handled)} quakes on ${day}, the busiest day; ${count(passedOver)} on other days passed over`,
    `            read again by a group of its own: ${count(again.length)}, the strongest ${strongest === undefined ? "none" : describe(strongest)}`,
  ];
}
