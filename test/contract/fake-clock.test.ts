/** The fake clock and `until`, which other people's tests rest on too. */

import { expect, test } from "vitest";
import { wait } from "../../src/core/clock.js";
import { createFakeClock, until } from "../../src/testing/index.js";

test("the clock stands still until it is advanced", async () => {
  const clock = createFakeClock(1_000);
  expect(clock.now()).toBe(1_000);
  await clock.advance(250);
  expect(clock.now()).toBe(1_250);
});

test("timers fire in the order in which they come due, and see that time", async () => {
  const clock = createFakeClock(0);
  const fired: [string, number][] = [];
  for (const [name, ms] of [
    ["c", 30],
    ["a", 10],
    ["b", 20],
    ["a2", 10],
  ] as const) {
    clock.setTimer(() => fired.push([name, clock.now()]), ms);
  }
  expect(clock.pending()).toBe(4);
  await clock.advance(20);
  expect(fired).toEqual([
    ["a", 10],
    ["a2", 10],
    ["b", 20],
  ]);
  expect(clock.pending()).toBe(1);
  await clock.advance(10);
  expect(fired.at(-1)).toEqual(["c", 30]);
  expect(clock.pending()).toBe(0);
});

test("a timer that a fired one sets through promises fires in the same advance", async () => {
  const clock = createFakeClock(0);
  const seen: number[] = [];
  const loop = async (): Promise<void> => {
    for (let round = 0; round < 5; round += 1) {
      await wait(clock, 100);
      await new Promise((resolve) => setImmediate(resolve));
      seen.push(clock.now());
    }
  };
  const done = loop();
  await clock.advance(450);
  expect(seen).toEqual([100, 200, 300, 400]);
  await clock.advance(50);
  await done;
});

test("a cancelled timer never fires, and may be cancelled again", async () => {
  const clock = createFakeClock();
  let fired = 0;
  const timer = clock.setTimer(() => (fired += 1), 10);
  timer.cancel();
  timer.cancel();
  await clock.advance(100);
  expect([fired, clock.pending()]).toEqual([0, 0]);
});

test("advances that overlap pass one after the other", async () => {
  const clock = createFakeClock(0);
  const seen: number[] = [];
  clock.setTimer(() => seen.push(clock.now()), 150);
  await Promise.all([clock.advance(100), clock.advance(100)]);
  expect([seen, clock.now()]).toEqual([[150], 200]);
});

test("a timer that throws fails its advance and no other", async () => {
  const clock = createFakeClock(0);
  clock.setTimer(() => {
    throw new Error("in the timer");
  }, 10);
  await expect(clock.advance(20)).rejects.toThrow("in the timer");
  await clock.advance(20);
  expect(clock.now()).toBe(30);
});

test("a delay that Node's timers do not keep is refused", () => {
  expect(() => createFakeClock().setTimer(() => {}, 2 ** 31)).toThrow(RangeError);
});

test("until waits for a condition, and names it when it never comes", async () => {
  let looks = 0;
  await until(() => (looks += 1) > 3);
  expect(looks).toBe(4);
  await expect(until(() => false, { what: "the impossible", deadlineMs: 20 })).rejects.toThrow("the impossible");
});
