/** A consumer that holds what it gets and never finishes, until it is killed. Arguments: URL, facade, lease, and of a queue the recipient. */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";

const [url, facade, leaseMs, recipient] = process.argv.slice(2);
const broker = await connect(url);
const handler = async (data: unknown): Promise<void> => {
  say({ holds: data });
  await new Promise(() => undefined);
};
const options = { leaseMs: Number(leaseMs) };
if (facade === "events") await broker.events.subscribe("work", { ...options, group: "g", from: "beginning" }, handler);
else await broker.queue("work").subscribe({ ...options, ...(recipient !== undefined && { as: recipient }) }, handler);
// An unresolved promise alone does not keep a process alive.
setInterval(() => undefined, 60_000);
