/** The chaos runner and its checker against bugs that brokers have had with queues: what cannot find them proves nothing. */

import { describe, test } from "vitest";
import { createHunt } from "./support/planted-expect.js";
import { PLANTED_QUEUE_BUGS } from "./support/planted-queue-bugs.js";

// So many that some wait: on a quick machine nothing else shows a wrong order.
const hunt = createHunt("queue", { queueRate: 1_000 });

describe.each(PLANTED_QUEUE_BUGS)("where $name", (bug) => {
  test(`it is found by the rule "${bug.foundBy}", from a seed that passes without the bug`, async () => {
    await hunt.find(bug);
  }, 120_000);
});
