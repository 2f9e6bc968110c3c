/** One of several processes on one file: publishes its share, consumes a group's, and says what it was given. */

import { openSqlite } from "../../../src/backends/sqlite/index.js";
import type { Outcome } from "../../../src/core/backend.js";
import { systemClock } from "../../../src/core/clock.js";
import { heard, say } from "../../support/child-side.js";

const [path = "", name = ""] = process.argv.slice(2);
const COUNT = 600;
const report = (error: unknown, where: string): void => say({ reported: `${where}: ${String(error)}` });
const backend = await openSqlite({ path }, { namespace: "test", clock: systemClock, report });
const rules = { consumer: name, leaseMs: 30_000, maxAttempts: 3, maxDeadLetters: 10 };
const feeds = [await backend.log.open("s", "g", name), await backend.queue.open("q", "", rules)];
await backend.broadcast.subscribe(
  { pattern: "*" },
  {
    message: (channel, data) => say({ heard: `${channel} ${Buffer.from(data).toString()}` }),
    gap: (reason) => say({ reported: reason }),
  },
);
say({ ready: name });

async function consume(kind: string, feed: (typeof feeds)[number]): Promise<never> {
  let outcomes: Outcome[] = [];
  for (;;) {
    const { deliveries, lost } = await feed.take({ max: 10, waitMs: 5_000 }, outcomes);
    outcomes = deliveries.map(({ receipt }) => ({ receipt, as: "ack" }));
    if (lost.length > 0) say({ reported: `lost ${lost.length}` });
    for (const { data, attempt } of deliveries) say({ [kind]: Buffer.from(data).toString(), attempt });
  }
}

for await (const message of heard()) {
  if ("start" in message) {
    for (const [index, feed] of feeds.entries()) void consume(index === 0 ? "entry" : "item", feed);
    for (let count = 0; count < COUNT; count += 3) {
      const ids = [count, count + 1, count + 2].map((number) => `${name}-${number}`);
      await Promise.all([
        backend.log.append(
          "s",
          ids.map((data) => ({ header: "h", data })),
          { maxEntries: 10_000, overflow: "reject" },
        ),
        backend.queue.push(
          "q",
          ids.map((id) => ({ id, recipient: "", header: "h", data: id, priority: 0, delayMs: 0 })),
          { maxItems: 10_000 },
        ),
        backend.broadcast.publish([{ channel: name, data: String(count) }]),
      ]);
    }
    say({ published: name });
  }
}
process.exit(0);
