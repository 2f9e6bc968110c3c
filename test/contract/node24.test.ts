/** The contract on Node 24, where SQLite is Node's own: the cases run in a process of it, and each is a test here. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contractCases } from "../../src/testing/index.js";
import { type Child, runChild } from "../support/children.js";
import { testBinaries } from "../support/install.js";

const { node24: node } = testBinaries();
/** The first test waits until its case's turn has come, which may be after a slow start. */
const DEADLINE_MS = 60_000;
let child: Child | undefined;

beforeAll(() => {
  if (node === undefined) console.warn("!! The contract does NOT run on Node 24: see the start of this run for why.");
  else child = runChild(new URL("./support/case-runner.ts", import.meta.url), { node });
});
afterAll(() => child?.stop());

test.skipIf(node === undefined)("there is a Node 24, with SQLite in it, to run the contract on", async () => {
  const said = await child?.next((message) => "node" in message, DEADLINE_MS);
  expect(said).toEqual({ node: expect.stringMatching(/^v24\./), driver: "node:sqlite" });
});

/** One test per case that the process runs. */
function defineCases(lane: "memory" | "sqlite"): void {
  for (const { title } of contractCases) {
    test(title, { timeout: DEADLINE_MS + 1_000 }, async () => {
      const outcome = await child?.next(
        (message) => message["lane"] === lane && message["title"] === title,
        DEADLINE_MS,
      );
      // The whole of what went wrong there is the failure's text here.
      expect(outcome?.["error"]).toBeUndefined();
      expect(outcome?.["title"]).toBe(title);
    });
  }
}

if (node !== undefined) {
  describe("[X8] memory on node 24", () => {
    defineCases("memory");
  });
  describe("[X8] sqlite on node 24", () => {
    defineCases("sqlite");
  });
}
