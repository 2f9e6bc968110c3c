/**
 * Enters members into the presence `lobby`, and stays until it is stopped or killed. Arguments: URL, lease, what their ids
 * begin with, how many. Says `ready`, and with which time by its own clock.
 */

import { connect } from "../../../src/index.js";
import { heard, say } from "../../support/child-side.js";

const [url, leaseMs, prefix, count] = process.argv.slice(2);
const broker = await connect(url, { presenceLeaseMs: Number(leaseMs), onError: () => undefined });
const lobby = broker.presence("lobby");
await Promise.all(Array.from({ length: Number(count) }, (_, index) => lobby.enter(`${prefix}${index}`)));
say({ ready: true, now: Date.now() });
for await (const message of heard()) if ("close" in message) break;
await broker.close();
process.exit(0);
