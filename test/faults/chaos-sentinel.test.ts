/** A minute of chaos on a primary with two replicas, watched by Sentinels: nothing that was replicated is lost. */

import { test } from "vitest";
import { expectChaosToHold } from "./support/chaos-expect.js";

/** Messages a second: there are other tests beside this one. */
const RATES = { rate: 2_000, queueRate: 300 };

test(
  "a minute of faults with Sentinels, at replicated",
  () => expectChaosToHold({ topology: "sentinel", minutes: 1, seed: 2, ...RATES }),
  300_000,
);
