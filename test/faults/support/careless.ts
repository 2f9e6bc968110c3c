/** A program that listens to no error at all: neither a logger nor `onError`, nor anything of the process. Arguments: URL, facade. */

import { connect } from "../../../src/index.js";
import { heard, say } from "../../support/child-side.js";

const [url, facade] = process.argv.slice(2);
const broker = await connect(url, { commandTimeoutMs: 500 });
const handler = (data: unknown): void => say({ handled: data });
if (facade === "events") await broker.events.subscribe("work", { group: "g", from: "beginning" }, handler);
else await broker.queue("work").subscribe({}, handler);
say({ ready: true });
for await (const message of heard()) {
  if ("close" in message) break;
  if ("publish" in message) {
    // Whether it is stored or not, nobody wants to know.
    const publish = (): Promise<unknown> =>
      facade === "events"
        ? broker.events.publish("work", message["publish"])
        : broker.queue("work").publish(message["publish"]);
    publish().then(
      () => say({ published: message["publish"] }),
      () => say({ refused: message["publish"] }),
    );
  }
}
process.stdin.destroy(); // nothing else may keep this process from ending
await broker.close();
say({ closed: true });
