/** A program that runs the contract cases on the embedded backends, without vitest, and says what came of each. */

import { contractCases } from "../../../src/testing/index.js";
import { loadDriver } from "../../../src/backends/sqlite/driver.js";
import { say } from "../../support/child-side.js";
import type { OpenStore } from "./lane-store.js";
import { openMemoryStore } from "./memory-store.js";
import { runCase } from "./run-case.js";
import { openSqliteStore } from "./sqlite-store.js";

const lanes: Readonly<Record<string, OpenStore>> = { memory: openMemoryStore, sqlite: openSqliteStore };

say({ node: process.version, driver: (await loadDriver()).name });
for (const [lane, openStore] of Object.entries(lanes)) {
  for (const contractCase of contractCases) {
    const error = await runCase(contractCase, openStore).then(
      () => undefined,
      (thrown: unknown) => (thrown instanceof Error ? String(thrown.stack) : String(thrown)),
    );
    say({ lane, title: contractCase.title, ...(error === undefined ? {} : { error }) });
  }
}
