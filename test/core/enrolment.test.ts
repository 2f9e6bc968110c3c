/** Telling the store who is held: nothing that changes is forgotten, whenever it does. */

import { expect, test } from "vitest";
import { openMemory } from "../../src/backends/memory/index.js";
import { systemClock } from "../../src/core/clock.js";
import { Enrolment } from "../../src/core/enrolment.js";

/** Calls back after so many steps of the queue of promises. */
async function afterMicrotasks(count: number, call: () => void): Promise<void> {
  for (let step = 0; step < count; step += 1) await Promise.resolve();
  call();
}

test.each(Array.from({ length: 20 }, (_, steps) => steps))(
  "what changes %i steps after a call was announced is told by itself",
  async (steps) => {
    const context = { namespace: "n", clock: systemClock, report: () => undefined };
    const { membership } = await openMemory({}, context);
    await membership.begin("holder", 60_000);
    let announced = 0;
    const enrolment: Enrolment = new Enrolment({
      group: "presence:lobby",
      membership,
      clock: systemClock,
      holder: async () => "holder",
      lapsed: () => undefined,
      report: () => undefined,
      announce: async () => {
        announced += 1;
        if (announced > 1) return;
        void afterMicrotasks(steps, () => {
          enrolment.seats.add("late", "null");
          enrolment.tell();
        });
      },
    });
    enrolment.maxMembers = 10;
    enrolment.seats.add("early", "null");
    await enrolment.told("early");
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    const { members } = await membership.list("presence:lobby", { max: 10 });
    expect(members.map(({ id }) => id)).toEqual(["early", "late"]);
    expect(enrolment.isIdle).toBe(false);
    await enrolment.close();
  },
);
