/**
 * A process that publishes with a fallback until it is killed. Arguments: server, fallback, event type, first number, and
 * its name among several.
 */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";
import { silentLogger } from "./lanes.js";

const [url = "", fallback = "", type = "", first = "0", publisher = ""] = process.argv.slice(2);
const quick = { connectTimeoutMs: 500, commandTimeoutMs: 1_000 };
const broker = await connect(url, { logger: silentLogger, onError: () => undefined, ...quick, fallback });
for (let number = Number(first); ; number += 10) {
  const published = Array.from({ length: 10 }, (_, index) => number + index);
  const data = published.map((number) => (publisher === "" ? number : { publisher, number }));
  const receipts = await broker.events.publishMany(type, data);
  say({ published, kept: receipts.every((receipt) => receipt.fallback === true) });
  if (publisher !== "") await new Promise((resolve) => setTimeout(resolve, 5));
}
