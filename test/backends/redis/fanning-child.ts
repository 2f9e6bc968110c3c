/** A publisher for an audience, to be killed in the middle. Arguments: port, queue. */

import { openRedis } from "../../../src/backends/redis/index.js";
import { systemClock } from "../../../src/core/clock.js";
import { say } from "../../support/child-side.js";

const [port, queue = ""] = process.argv.slice(2);
const target = { kind: "standalone", host: "127.0.0.1", port: Number(port), tls: false, database: 0 } as const;
const context = { namespace: "test", clock: systemClock, report: (error: unknown) => say({ error: String(error) }) };
const backend = await openRedis(target, { durability: "memory", replicas: 1 }, context);
const item = {
  id: "announced",
  recipient: { audience: "registered" },
  header: "h",
  data: "d",
  priority: 0,
  delayMs: 0,
} as const;
say({ pushing: true });
const pushed = await backend.queue.push(queue, [item], { maxItems: 1_000_000 });
say({ pushed });
