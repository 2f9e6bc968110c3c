/** Presence while a thousand come and go each second and processes are killed: ten seconds of it. */

import { expect, test } from "vitest";
import { runPresenceModel } from "./support/presence-model.js";
import { startStandalone } from "./support/systems.js";

test("a model agrees with presence through joins and leaves by the hundred, with holders being killed", {
  timeout: 120_000,
}, async () => {
  const { url, stop } = await startStandalone();
  try {
    const course = { url, seconds: 10, perSecond: 1_000, processes: 3, killEveryMs: 4_000 };
    const { done, kills } = await runPresenceModel(course);
    // As many as a busy machine gets done.
    expect([kills, done > 3_000]).toEqual([2, true]);
  } finally {
    await stop();
  }
});
