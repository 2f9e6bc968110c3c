/** A process that publishes with a fallback until it is killed. Arguments: server, fallback, event type, first number. */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";
import { silentLogger } from "./lanes.js";

const [url = "", fallback = "", type = "", first = "0"] = process.argv.slice(2);
const options = { logger: silentLogger, onError: () => undefined, connectTimeoutMs: 500 };
const broker = await connect(url, { ...options, fallback });
for (let number = Number(first); ; number += 10) {
  const numbers = Array.from({ length: 10 }, (_, index) => number + index);
  const receipts = await broker.events.publishMany(type, numbers);
  say({ published: numbers, kept: receipts.every((receipt) => receipt.fallback === true) });
}
