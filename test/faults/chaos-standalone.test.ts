/** A minute of chaos on one server that syncs each write: nothing acknowledged is lost, and work goes on by itself. */

import { test } from "vitest";
import { expectChaosToHold } from "./support/chaos-expect.js";

/** Messages a second: there are other tests beside this one. */
const RATES = { rate: 2_000, queueRate: 300 };

test(
  "a minute of faults on one server, at fsync",
  () => expectChaosToHold({ topology: "standalone", minutes: 1, seed: 1, ...RATES }),
  300_000,
);
