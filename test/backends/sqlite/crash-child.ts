/** Publishes and consumes as fast as it can until it is killed, and says what it was told to be done. */

import type { Outcome } from "../../../src/core/backend.js";
import { systemClock } from "../../../src/core/clock.js";
import { openSqlite } from "../../../src/backends/sqlite/index.js";
import { say } from "../../support/child-side.js";

const [path = "", run = ""] = process.argv.slice(2);
const report = (error: unknown, where: string): void => say({ reported: `${where}: ${String(error)}` });
const { log } = await openSqlite({ path }, { namespace: "test", clock: systemClock, report });

/** Batches of three, many at a time: each is stored whole or not at all. */
async function publish(writer: number): Promise<never> {
  for (let count = 0; ; count += 1) {
    const batch = `${run}-${writer}-${count}`;
    say({ trying: batch });
    const entries = [1, 2, 3].map((part) => ({ header: batch, data: `${batch}/${part}`.padEnd(300, ".") }));
    const appended = await log.append("s", entries, { maxEntries: 1_000_000, overflow: "reject" });
    say({ appended: batch, positions: appended.map(({ position }) => position) });
  }
}

async function consume(): Promise<never> {
  const feed = await log.open("s", "g", `consumer-${run}`);
  let outcomes: Outcome[] = [];
  for (;;) {
    const settling = outcomes;
    const { deliveries } = await feed.take({ max: 20, waitMs: 100 }, settling);
    if (settling.length > 0) say({ acked: settling.map(({ receipt }) => receipt.split(".")[2]) });
    outcomes = deliveries.map(({ receipt }) => ({ receipt, as: "ack" }));
  }
}

await Promise.all([1, 2, 3, 4, 5].map(publish).concat(consume()));
