/** A program that listens to no error at all: neither a logger nor `onError`, nor anything of the process. Arguments: URL, facade. */

import { connect } from "../../../src/index.js";
import { heard, say } from "../../support/child-side.js";

const [url, facade] = process.argv.slice(2);
const broker = await connect(url, { commandTimeoutMs: 500 });
const handler = (data: unknown): void => say({ handled: data });
if (facade === "pubsub") await broker.pubsub.subscribe("work", handler);
else if (facade === "events") await broker.events.subscribe("work", { group: "g", from: "beginning" }, handler);
else await broker.queue("work").subscribe({}, handler);
say({ ready: true });

function publish(data: unknown): Promise<unknown> {
  if (facade === "pubsub") return broker.pubsub.publish("work", data);
  return facade === "events" ? broker.events.publish("work", data) : broker.queue("work").publish(data);
}

for await (const message of heard()) {
  if ("close" in message) break;
  if ("publish" in message) {
    // Whether it is stored or not, nobody wants to know.
    publish(message["publish"]).then(
      () => say({ published: message["publish"] }),
      () => say({ refused: message["publish"] }),
    );
  }
}
process.stdin.destroy(); // nothing else may keep this process from ending
await broker.close();
say({ closed: true });
