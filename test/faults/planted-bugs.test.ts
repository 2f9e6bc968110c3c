/** The chaos runner and its checker against bugs that brokers have had with events: what cannot find them proves nothing. */

import { describe, test } from "vitest";
import { PLANTED_BUGS } from "./support/planted-bugs.js";
import { createHunt } from "./support/planted-expect.js";

const hunt = createHunt("events", { rate: 2_000 });

describe.each(PLANTED_BUGS)("where $name", (bug) => {
  test(`it is found by the rule "${bug.foundBy}", from a seed that passes without the bug`, async () => {
    await hunt.find(bug);
  }, 120_000);
});
