/** A consumer that fails every attempt, and waits before the next as it is told. Arguments: URL, facade, first delay. */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";

const [url, facade, initialMs] = process.argv.slice(2);
const broker = await connect(url);
const handler = (data: unknown, { attempt }: { attempt: number }): void => {
  say({ failed: data, attempt, at: Date.now() });
  throw new Error("not yet");
};
const options = { retry: { initialMs: Number(initialMs), jitter: 0 } };
if (facade === "events") await broker.events.subscribe("work", { ...options, group: "g", from: "beginning" }, handler);
else await broker.queue("work").subscribe(options, handler);
