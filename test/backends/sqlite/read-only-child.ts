/** Tries to open what may only be read; as nobody, because nothing is read-only for root. */

import { chmodSync } from "node:fs";
import { dirname } from "node:path";
import { loadDriver } from "../../../src/backends/sqlite/driver.js";
import { openSqlite } from "../../../src/backends/sqlite/index.js";
import { systemClock } from "../../../src/core/clock.js";
import { say } from "../../support/child-side.js";

const path = process.argv[2] ?? "";
// Before this process may read less.
await loadDriver();
chmodSync(path, 0o444);
chmodSync(dirname(path), 0o777);
if (process.getuid?.() === 0) {
  process.setgid?.(65_534);
  process.setuid?.(65_534);
}
await attempt("file", path);
if (process.getuid?.() !== 65_534) chmodSync(dirname(path), 0o555);
await attempt("directory", process.getuid?.() === 65_534 ? "/etc/signalbox-test.db" : `${path}-new`);
if (process.getuid?.() !== 65_534) chmodSync(dirname(path), 0o755);

async function attempt(what: string, file: string): Promise<void> {
  try {
    await (await openSqlite({ path: file }, { namespace: "n", clock: systemClock, report: () => undefined })).close();
    say({ what, error: "none" });
  } catch (error) {
    say({
      what,
      error: `${error instanceof Error ? error.name : ""}: ${error instanceof Error ? error.message : error}`,
    });
  }
}
