/** Whatever comes to queues, their tables fit together, and nothing is left behind. */

import { expect, test } from "vitest";
import { openSqlite } from "../../../src/backends/sqlite/index.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { contractCases } from "../../../src/testing/index.js";
import { laneStore, type LaneStore } from "../../contract/support/lane-store.js";
import { runCase } from "../../contract/support/run-case.js";
import { connect, newPath } from "./opening.js";
import { faultsOf } from "./queue-audit.js";

/** Those that use what has its own tables or counts; the longest of the others would only take time. */
const TELLING =
  /whatever comes|audience|for all|register|laps|record|remove|clear|forg|drops?\b|acknowledged by|remembered|expire/;

async function openAudited(path: string): Promise<LaneStore> {
  const clock = createFakeClock();
  return laneStore({
    open: (context) => openSqlite({ path }, context),
    clock,
    elapse: (ms) => clock.advance(ms),
    now: async () => clock.now(),
  });
}

const cases = contractCases.filter(({ title }) => title.startsWith("queue:") && TELLING.test(title));

test("there are cases to look over", () => {
  expect(cases.length).toBeGreaterThan(60);
});

test.each(cases)("the file fits together after $title", async (contractCase) => {
  const path = newPath();
  await runCase(contractCase, () => openAudited(path));
  const file = await connect(path);
  expect(faultsOf(file)).toEqual([]);
  expect(file.prepare("SELECT count(*) AS count FROM sb1_online").get()).toEqual({ count: 0 });
});
