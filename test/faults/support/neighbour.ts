/** Another consumer of the same group, which finishes at once and says what it got. Arguments: URL, facade, lease. */

import { connect } from "../../../src/index.js";
import { say } from "../../support/child-side.js";

const [url, facade, leaseMs] = process.argv.slice(2);
const broker = await connect(url);
const handler = (data: unknown, { attempt }: { attempt: number }): void => say({ handled: data, attempt });
const options = { leaseMs: Number(leaseMs) };
if (facade === "events") await broker.events.subscribe("work", { ...options, group: "g", from: "beginning" }, handler);
else await broker.queue("work").subscribe(options, handler);
say({ ready: true, now: Date.now() });
