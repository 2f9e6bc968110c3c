/** One of several processes that open the same file at the same moment, and append to it. */

import { openSqlite } from "../../../src/backends/sqlite/index.js";
import { systemClock } from "../../../src/core/clock.js";
import { heard, say } from "../../support/child-side.js";

const [path = "", name = ""] = process.argv.slice(2);
const report = (error: unknown, where: string): void => say({ failed: `${where}: ${String(error)}` });
say({ ready: name });
for await (const _start of heard()) {
  try {
    const { log } = await openSqlite({ path }, { namespace: "shop", clock: systemClock, report });
    const entry = { header: name, data: name, key: name, dedupeId: name };
    await log.append("orders", [entry, entry], { maxEntries: 1_000, overflow: "reject" });
    say({ appended: name });
  } catch (error) {
    say({ failed: String(error) });
  }
}
process.exit(0);
