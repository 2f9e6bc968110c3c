/**
 * Publishes without pause until it is killed, and says what came of it.
 * Arguments: URL, facade, durability, and "consume" where it is to consume as well.
 */

import { connect, type Durability, SignalboxError } from "../../../src/index.js";
import { say } from "../../support/child-side.js";
import { pause } from "../../support/wait.js";

const [url, facade, durability, role] = process.argv.slice(2);
const broker = await connect(url, {
  durability: durability as Durability,
  logger: { debug() {}, info() {}, warn() {}, error() {} },
  onError: (error) => say({ reported: codeOf(error) }),
});
/** It takes a moment, so that at any time something is in hand that has to be settled. */
const handler = async (data: unknown): Promise<void> => {
  await pause(5);
  say({ handled: data });
};
if (role === "consume") {
  if (facade === "events") await broker.events.subscribe("work", { group: "g", from: "beginning" }, handler);
  else await broker.queue("work").subscribe({}, handler);
}

let next = 0;
async function publish(): Promise<never> {
  for (;;) {
    const number = next;
    next += 1;
    say({ tried: number });
    try {
      const publishing =
        facade === "events" ? broker.events.publish("work", number) : broker.queue("work").publish(number);
      const { durability } = await publishing;
      say({ acked: number, durability });
    } catch (error) {
      say({ failed: codeOf(error) });
    }
    // More than its pipe can take would be lost with it.
    await pause(1);
  }
}

/** Whatever has none is no error of the library. */
function codeOf(error: unknown): string {
  return error instanceof SignalboxError ? error.code : String(error);
}

await Promise.all([publish(), publish(), publish()]);
