/**
 * A program whose clock may be wrong tries what a queue does by the clock, and says how each went. Arguments: URL.
 */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";
import { pause, until } from "../../support/wait.js";

const [url] = process.argv.slice(2);
const losses: string[] = [];
const broker = await connect(url, { onError: (error) => void losses.push(error.message) });
const queue = broker.queue("times", { recipientTtlMs: 600_000, keepAckedMs: 60_000 });
const arrived = new Map<unknown, { readonly at: number; readonly attempt: number }>();
const LEASE_MS = 1_000;

await queue.register("ada");
// What is held takes longer than a lease, which is renewed meanwhile.
await queue.subscribe({ leaseMs: LEASE_MS, concurrency: 20 }, async (data, { attempt }) => {
  arrived.set(data, { at: performance.now(), attempt });
  if (data === "held") await pause(2.5 * LEASE_MS);
});
const startedAt = performance.now();
await queue.publish("held");
await queue.publish("mortal", { ttlMs: 60_000 });
await queue.publish("delayed", { delayMs: 400 });
await queue.publish("delayed and mortal", { delayMs: 400, ttlMs: 60_000 });
await queue.publish("dead before it is ready", { delayMs: 400, ttlMs: 100 });
await queue.publish("named", { id: "one" });
const again = await queue.publish("named again", { id: "one" });
const all = await queue.publish("for all", { audience: "registered" });
await until(() => arrived.has("delayed and mortal"), { deadlineMs: 10_000 });
await pause(2.5 * LEASE_MS);
const [pending] = (await queue.pending("ada")).items;
const record = await queue.get("one");
const { expired, leased } = await queue.stats();
say({
  now: Date.now(),
  delayedMs: Math.round((arrived.get("delayed")?.at ?? 0) - startedAt),
  attempts: Object.fromEntries([...arrived].map(([data, { attempt }]) => [data, attempt])),
  duplicate: again.duplicate,
  recipients: all.recipients,
  pending: pending?.data,
  record: record?.state,
  expired,
  leased,
  losses,
});
await broker.close({ drainMs: 0 });
