/**
 * A consumer that keeps its own event loop busy for longer than its lease, and then finishes as if nothing had happened.
 * Arguments: URL, facade, lease, how long.
 */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";
import { until } from "../../support/wait.js";

const [url, facade, leaseMs, busyMs] = process.argv.slice(2);
const broker = await connect(url);
const handler = (data: unknown, { attempt }: { attempt: number }): void => {
  say({ holds: data, attempt });
  const end = performance.now() + Number(busyMs);
  while (performance.now() < end);
  // Returning acknowledges.
};
const options = { leaseMs: Number(leaseMs), concurrency: 1 };
const subscription =
  facade === "events"
    ? await broker.events.subscribe("work", { ...options, group: "g", from: "beginning" }, handler)
    : await broker.queue("work").subscribe(options, handler);
say({ ready: true });
await until(() => subscription.stats()[0]?.lost === 1, { deadlineMs: 20_000, what: "the late acknowledgement" });
const { lost, settled } = subscription.stats()[0]!;
await broker.close({ drainMs: 0 });
say({ lost, settled });
