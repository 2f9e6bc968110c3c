/** Tries to use a store that it may only read; as nobody, because nothing is read-only for root. Argument: URL. */

import { loadDriver } from "../../../src/backends/sqlite/driver.js";
import { connect, SignalboxError } from "../../../src/index.js";
import { say } from "../../support/child-side.js";

// Before this process may read less.
await loadDriver();
await import("../../../src/backends/sqlite/index.js");
if (process.getuid?.() === 0) {
  process.setgid?.(65_534);
  process.setuid?.(65_534);
}
try {
  const broker = await connect(process.argv[2]);
  await broker.events.publish("work", "written");
  say({ opened: true });
  await broker.close();
} catch (error) {
  say({ code: error instanceof SignalboxError ? error.code : "none", message: String(error) });
}
