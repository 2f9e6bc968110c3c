/** Clearing away after the dead: whoever lives has its time, and nobody who died waits for another. */

import { describe, expect, test } from "vitest";
import type { Membership, Reaped } from "../../src/core/backend.js";
import { GRACE_MS, Reaper } from "../../src/core/reaper.js";
import { createFakeClock } from "../../src/testing/index.js";

/** A store in which each holder has so many parts left to reap; what cannot be reaped throws. */
function openReaper(parts: Readonly<Record<string, number | Error>>) {
  const clock = createFakeClock();
  const left = new Map(Object.entries(parts));
  const reaped: string[] = [];
  const reports: unknown[] = [];
  const membership = {
    lapsing: async () => [...left.keys()],
    async reap(holder: string): Promise<Reaped> {
      const of = left.get(holder) ?? 0;
      if (of instanceof Error) throw of;
      reaped.push(holder);
      if (of > 1) left.set(holder, of - 1);
      else left.delete(holder);
      return { lapsed: [], isDone: of <= 1 };
    },
  };
  const reaper = new Reaper({
    // The rest of the port is not asked.
    membership: membership as unknown as Membership,
    clock,
    announce: async () => undefined,
    reaped: () => undefined,
    report: (error) => void reports.push(error),
  });
  return { reaper, clock, reaped, reports };
}

const failure = new Error("its master is down");

describe("a look", () => {
  test("reaps in turn, and says that there is more", async () => {
    const { reaper, clock, reaped } = openReaper({ big: 1_000, small: 1 });
    expect(await reaper.look(["big", "small"])).toBe("new");
    await clock.advance(GRACE_MS);
    expect(await reaper.look(["big", "small"])).toBe("more");
    expect(reaped.slice(0, 3)).toEqual(["big", "small", "big"]);
  });

  test("goes on with those whom the one before has not come to", async () => {
    const names = Array.from({ length: 30 }, (_, index) => `holder-${index}`);
    const { reaper, clock, reaped } = openReaper(Object.fromEntries(names.map((name) => [name, 1_000])));
    await reaper.look(names);
    await clock.advance(GRACE_MS);
    await reaper.look(names);
    await reaper.look(names);
    expect(new Set(reaped)).toEqual(new Set(names));
  });

  test("leaves whom it sees for the first time the whole grace, however often it is looked meanwhile", async () => {
    const { reaper, clock, reaped } = openReaper({ big: 1_000, alive: 1 });
    await reaper.look(["big"]);
    await clock.advance(GRACE_MS);
    for (let passed = 0; passed < GRACE_MS; passed += 20) {
      await reaper.look(["big", "alive"]);
      await clock.advance(20);
    }
    expect(reaped).not.toContain("alive");
    await reaper.look(["big", "alive"]);
    expect(reaped).toContain("alive");
  });

  test("leaves who was renewed, or forgiven, the whole grace again", async () => {
    const { reaper, clock, reaped } = openReaper({ one: 1, two: 1 });
    await reaper.look(["one", "two"]);
    await reaper.look(["two"]);
    await clock.advance(GRACE_MS / 2);
    reaper.forgive();
    expect(await reaper.look(["one", "two"])).toBe("new");
    await clock.advance(GRACE_MS / 2 + 10);
    expect(await reaper.look(["one", "two"])).toBe("soon");
    expect(reaped).toEqual([]);
    await clock.advance(GRACE_MS / 2);
    expect(await reaper.look(["one", "two"])).toBe("done");
    expect(reaped).toEqual(["one", "two"]);
  });

  test("in which one cannot be reaped takes the others away, and throws then", async () => {
    const { reaper, clock, reaped } = openReaper({ stuck: failure, one: 30, two: 1 });
    const names = ["stuck", "one", "two"];
    await reaper.look(names);
    await clock.advance(GRACE_MS);
    await expect(reaper.look(names)).rejects.toBe(failure);
    expect(new Set(reaped)).toEqual(new Set(["one", "two"]));
    // The others keep the time that they have had.
    const before = reaped.length;
    await reaper.look(["stuck", "one"]);
    expect(reaped.length).toBeGreaterThan(before);
  });
});

describe("who only asks", () => {
  test("does not fail because of one that cannot be reaped: it is reported, and the others are gone", async () => {
    const { reaper, clock, reaped, reports } = openReaper({ stuck: failure, one: 3, two: 1 });
    const tidying = reaper.tidy();
    await clock.advance(GRACE_MS);
    await tidying;
    expect(reaped).toEqual(["one", "one", "one", "two"]);
    expect(reports).toEqual([failure]);
  });
});
