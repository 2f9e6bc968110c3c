/** Reaps a part of the first holder that is to be reaped, tells nobody, and dies by SIGKILL. Arguments: the port of a Redis. */

import { openRedis } from "../../../src/backends/redis/index.js";
import { systemClock } from "../../../src/core/clock.js";
import { say } from "../../support/child-side.js";

const [port] = process.argv.slice(2);
const target = { kind: "standalone", host: "127.0.0.1", port: Number(port), tls: false, database: 0 } as const;
const context = { namespace: "default", clock: systemClock, report: () => undefined };
const { membership } = await openRedis(target, { durability: "memory", replicas: 1 }, context);
say({ ready: true });
for (;;) {
  const [holder] = await membership.lapsing();
  if (holder === undefined) continue;
  const { lapsed, isDone } = await membership.reap(holder);
  say({ reaped: lapsed.reduce((sum, { change }) => sum + change.changes.length, 0), isDone });
  process.kill(process.pid, "SIGKILL");
}
