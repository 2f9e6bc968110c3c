/** A minute of chaos on a primary with two replicas, watched by Sentinels: nothing that was replicated is lost. */

import { test } from "vitest";
import { expectChaosToHold } from "./support/chaos-expect.js";

/** Messages a second: there are other tests beside this one. */
const RATE = 2_500;

test(
  "a minute of faults with Sentinels, at replicated",
  () => expectChaosToHold({ topology: "sentinel", minutes: 1, seed: 2, rate: RATE }),
  300_000,
);
