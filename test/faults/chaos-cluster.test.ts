/** A minute of chaos on a Cluster of three masters with two replicas each: nothing that was replicated is lost. */

import { test } from "vitest";
import { expectChaosToHold } from "./support/chaos-expect.js";

/** Messages a second: there are other tests beside this one. */
const RATES = { rate: 2_000, queueRate: 300 };

test(
  "a minute of faults on a Cluster, at replicated",
  () => expectChaosToHold({ topology: "cluster", minutes: 1, seed: 3, ...RATES }),
  300_000,
);
