/** Has a feed open for a recipient, and takes nothing, until it is stopped or killed. */

import { openSqlite } from "../../../src/backends/sqlite/index.js";
import { systemClock } from "../../../src/core/clock.js";
import { say } from "../../support/child-side.js";
import { AUDIENCE, CONSUMER } from "./queueing.js";

const [path = "", recipient = ""] = process.argv.slice(2);
const report = (error: unknown, where: string): void => say({ reported: `${where}: ${String(error)}` });
const { queue } = await openSqlite({ path }, { namespace: "test", clock: systemClock, report });
await queue.open("q", recipient, { ...CONSUMER, registration: AUDIENCE });
say({ open: true });
