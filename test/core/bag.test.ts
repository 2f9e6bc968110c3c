/** Things that come and go, and how long they may stay. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Bag, type Bagged } from "../../src/core/bag.js";
import { type Limited, TimeLimit } from "../../src/core/time-limit.js";
import { createFakeClock } from "../../src/testing/index.js";

describe("bag", () => {
  it("holds what a set would hold, whatever comes and goes", () => {
    const things = Array.from({ length: 8 }, (): Bagged => ({ place: 0 }));
    const steps = fc.array(fc.record({ index: fc.nat({ max: things.length - 1 }), isAdded: fc.boolean() }));
    fc.assert(
      fc.property(steps, (all) => {
        const [bag, set] = [new Bag<Bagged>(), new Set<Bagged>()];
        for (const { index, isAdded } of all) {
          const thing = things[index] as Bagged;
          if (!isAdded) expect(bag.remove(thing)).toBe(set.delete(thing));
          else if (!set.has(thing)) {
            bag.add(thing);
            set.add(thing);
          }
          expect(bag.size).toBe(set.size);
          expect(new Set(bag.all())).toEqual(set);
        }
      }),
    );
  });
});

describe("time limit", () => {
  function createLimited(startedAt: number): Limited & { readonly told: Error[] } {
    const told: Error[] = [];
    return { place: 0, startedAt, countedFrom: 0, told, late: (error) => void told.push(error) };
  }

  it("each is told when its own time is up, once, whoever else comes and goes", async () => {
    const clock = createFakeClock();
    const limit = new TimeLimit(clock, 100);
    const begin = (): ReturnType<typeof createLimited> => {
      const limited = createLimited(clock.now());
      limit.begin(limited);
      return limited;
    };
    const first = begin();
    await clock.advance(40);
    const [second, ended] = [begin(), begin()];
    await clock.advance(30);
    limit.end(ended);
    const third = begin();
    await clock.advance(30);
    expect([first, second, third].map(({ told }) => told.length)).toEqual([1, 0, 0]);
    await clock.advance(40);
    expect([first, second, third].map(({ told }) => told.length)).toEqual([1, 1, 0]);
    await clock.advance(1_000);
    expect([first, second, third, ended].map(({ told }) => told.length)).toEqual([1, 1, 1, 0]);
  });

  it("whoever is begun because another was late gets all of its time", async () => {
    const clock = createFakeClock();
    const limit = new TimeLimit(clock, 100);
    const next = createLimited(clock.now() + 100);
    limit.begin({ place: 0, startedAt: clock.now(), countedFrom: 0, late: () => limit.begin(next) });
    await clock.advance(100);
    await clock.advance(99);
    expect(next.told).toHaveLength(0);
    await clock.advance(1);
    expect(next.told).toHaveLength(1);
  });

  /** A fake clock that can be set back, and whose timers are counted, those too that keep no process alive. */
  function createOwnClock() {
    const clock = createFakeClock();
    const own = { set: 0, fired: 0, aheadMs: 0, advance: (ms: number) => clock.advance(ms) };
    return Object.assign(own, {
      now: () => clock.now() + own.aheadMs,
      setTimer(fire: () => void, ms: number) {
        own.set += 1;
        return clock.setTimer(() => {
          own.fired += 1;
          fire();
        }, ms);
      },
    });
  }

  it("when nothing runs its timer is gone within a second, and handlers one after the other share one", async () => {
    const clock = createOwnClock();
    const limit = new TimeLimit(clock, 3_600_000);
    for (let round = 0; round < 100; round += 1) {
      const limited = createLimited(clock.now());
      limit.begin(limited);
      await clock.advance(1);
      limit.end(limited);
    }
    expect(clock.set).toBe(1);
    await clock.advance(1_000);
    expect([clock.set, clock.fired]).toEqual([1, 1]);
  });

  it.each([1_000, 40 * 86_400_000])(
    "a clock that is set back by %d ms delays it by a second at most",
    async (backMs) => {
      const clock = createOwnClock();
      const limit = new TimeLimit(clock, 30_000);
      const first = createLimited(clock.now());
      limit.begin(first);
      await clock.advance(400);
      const second = createLimited(clock.now());
      limit.begin(second);
      clock.aheadMs -= backMs;
      await clock.advance(29_599);
      expect([first.told.length, second.told.length]).toEqual([0, 0]);
      await clock.advance(1_000);
      expect(first.told).toHaveLength(1);
      await clock.advance(400);
      expect(second.told).toHaveLength(1);
      expect(clock.set).toBeLessThan(40);
    },
  );
});
