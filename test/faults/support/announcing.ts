/** Publishes for an audience, one message after the other, until it is killed, and says what came of it. Arguments: URL, its name. */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";
import { pause } from "../../support/wait.js";

const [url, name] = process.argv.slice(2);
const broker = await connect(url);
const queue = broker.queue("notices");
for (let number = 0; ; number += 1) {
  const id = `${name}-${number}`;
  say({ tried: id });
  const { recipients } = await queue.publish(number, { id, audience: "registered" });
  say({ acked: id, recipients });
  // More than its pipe can take would be lost with it.
  await pause(1);
}
