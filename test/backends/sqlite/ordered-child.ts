/** Publishes what all of its kind publish, consumes a group with order by key, and keeps a journal of it in the same file. */

import { openSqlite } from "../../../src/backends/sqlite/index.js";
import type { Delivery, Outcome } from "../../../src/core/backend.js";
import { systemClock } from "../../../src/core/clock.js";
import { heard, say } from "../../support/child-side.js";

/** `death`: after so many deliveries it dies, with one in hands that nobody retries; 0 for never. */
const [path = "", name = "", keys = "", count = "", death = ""] = process.argv.slice(2);
const report = (error: unknown, where: string): void => say({ reported: `${where}: ${String(error)}` });
const { log } = await openSqlite({ path }, { namespace: "test", clock: systemClock, report });
const roomy = { maxEntries: 1_000_000, overflow: "reject" } as const;

async function publish(): Promise<void> {
  for (let number = 1; number <= Number(count); number += 1) {
    const entries = keys.split("").map((key) => {
      const text = `${key}:${number}`;
      return { header: key, data: text, key, dedupeId: text };
    });
    const appended = await log.append("s", entries, roomy);
    say({ stored: appended.filter(({ duplicate }) => !duplicate).map(({ position }) => position) });
  }
}

let handled = 0;

async function handle({ receipt, data, attempt }: Delivery): Promise<Outcome> {
  const text = Buffer.from(data).toString();
  await log.append("journal", [{ header: `${text}#${attempt}`, data }], roomy);
  const number = Number(text.split(":")[1]);
  handled += 1;
  if (Number(death) > 0 && handled >= Number(death) && number % 7 !== 0) process.kill(process.pid, "SIGKILL");
  if (number % 20 === 0) return { receipt, as: "deadLetter", reason: { kind: "rejected", message: name } };
  if (number % 7 === 0 && attempt === 1) return { receipt, as: "retry", delayMs: 5, counted: true };
  return { receipt, as: "ack" };
}

async function consume(): Promise<never> {
  const feed = await log.open("s", "g", name);
  for (let outcomes: Outcome[] = []; ; ) {
    const { deliveries, lost, gone } = await feed.take({ max: 3, waitMs: 1_000 }, outcomes);
    if (lost.length + gone > 0) say({ reported: `${lost.length} lost, ${gone} gone` });
    outcomes = await Promise.all(deliveries.map(handle));
  }
}

say({ ready: name });
for await (const _start of heard()) await Promise.all([publish(), consume()]);
