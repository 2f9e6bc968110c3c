/** A minute of chaos on a Cluster of three masters with two replicas each: nothing that was replicated is lost. */

import { test } from "vitest";
import { expectChaosToHold } from "./support/chaos-expect.js";

/** Messages a second: there are other tests beside this one. */
const RATE = 2_500;

test(
  "a minute of faults on a Cluster, at replicated",
  () => expectChaosToHold({ topology: "cluster", minutes: 1, seed: 3, rate: RATE }),
  300_000,
);
