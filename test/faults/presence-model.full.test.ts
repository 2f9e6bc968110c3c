/** Presence while more than a thousand come and go each second and processes are killed: a minute of it. */

import { expect, test } from "vitest";
import { runPresenceModel } from "./support/presence-model.js";
import { startStandalone } from "./support/systems.js";

test("[D19] a model agrees with presence through 1,000 joins and leaves a second for a minute, with holders being killed", {
  timeout: 300_000,
}, async () => {
  const { url, stop } = await startStandalone();
  try {
    const course = { url, seconds: 60, perSecond: 1_100, processes: 4, killEveryMs: 6_000 };
    const findings = await runPresenceModel(course);
    console.log(findings);
    expect(findings.kills).toBe(9);
    expect(findings.done).toBeGreaterThanOrEqual(60_000);
  } finally {
    await stop();
  }
});
