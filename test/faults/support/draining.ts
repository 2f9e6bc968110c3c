/**
 * A program as users write it: closes its broker at the first SIGTERM, and has nothing to say against the second.
 * Arguments: URL, facade, how long a handler takes, how long it drains.
 */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";
import { pause } from "../../support/wait.js";

const [url, facade, handlerMs, drainMs] = process.argv.slice(2);
const broker = await connect(url);
process.once("SIGTERM", () => {
  say({ closing: true });
  void broker.close({ drainMs: Number(drainMs) }).then(() => say({ closed: true }));
});
const handler = async (data: unknown): Promise<void> => {
  say({ began: data });
  await pause(Number(handlerMs));
  say({ finished: data });
};
const options = { concurrency: 5, leaseMs: 2_000 };
if (facade === "events") await broker.events.subscribe("work", { ...options, group: "g", from: "beginning" }, handler);
else await broker.queue("work").subscribe(options, handler);
