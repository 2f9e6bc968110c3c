/**
 * A process that forwards from one broker to another until it is killed, and freezes when it is told for how long.
 * Arguments: source, target, event type.
 */

import { connect } from "../../../src/index.js";
import { heard, say } from "../../support/child-side.js";
import { silentLogger } from "./lanes.js";

const [from = "", to = "", type = ""] = process.argv.slice(2);
const options = { logger: silentLogger, onError: (error: Error) => say({ reported: error.message }) };
const source = await connect(from, options);
const target = await connect(to, options);
const forwarding = await source.events.forward(type, target);
let role = "";
setInterval(() => {
  const [stats] = forwarding.stats();
  if (stats === undefined || stats.role === role) return;
  role = stats.role;
  say({ role });
}, 20);

for await (const { freezeMs } of heard()) {
  say({ frozen: freezeMs });
  // Not by a signal: that could hit it in the middle of a commit, and keep the file locked from all others.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(freezeMs));
  say({ thawed: freezeMs });
}
