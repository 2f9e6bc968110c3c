/** A consumer that a certain message kills, as a fault in native code does. Arguments: URL, facade, lease. */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";

const [url, facade, leaseMs] = process.argv.slice(2);
const broker = await connect(url);
const handler = (data: unknown, { attempt }: { attempt: number }): void => {
  say({ began: data, attempt });
  if (data === "poison") process.abort();
  say({ handled: data });
};
const options = { leaseMs: Number(leaseMs), concurrency: 1, retry: { maxAttempts: 3 } };
if (facade === "events") await broker.events.subscribe("work", { ...options, group: "g", from: "beginning" }, handler);
else await broker.queue("work").subscribe(options, handler);
