/** A clock that stands still until it is told to move, so that tests of time neither sleep nor race. */

import type { Clock, Timer } from "../core/clock.js";

export interface FakeClock extends Clock {
  /**
   * Lets `ms` pass: fires the timers that come due, in order, and after each lets promises and immediates run, so that
   * what it set off can set timers of its own. Calls that overlap pass one after the other.
   */
  advance(ms: number): Promise<void>;
  /** How many timers are set, have not fired, and would keep a process alive. */
  pending(): number;
}

/** The longest delay that Node's own timers keep; beyond it they fire at once, and so a fake clock refuses it. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Turns of the event loop that a chain of promises, a synchronous store and its callbacks need to come to rest. */
const TURNS = 4;

interface FakeTimer extends Timer {
  readonly due: number;
  readonly fire: () => void;
}

/** Makes a clock that shows `start`, in milliseconds since the epoch; by default a fixed moment in 2026. */
export function createFakeClock(start: number = Date.UTC(2026, 0, 1)): FakeClock {
  let time = start;
  // A Set keeps the order of setting, which decides between timers of the same moment.
  const timers = new Set<FakeTimer>();
  const unreferenced = new WeakSet<FakeTimer>();
  let last: Promise<void> = Promise.resolve();

  const next = (end: number): FakeTimer | undefined => {
    let earliest: FakeTimer | undefined;
    for (const timer of timers) {
      if (timer.due <= end && (earliest === undefined || timer.due < earliest.due)) earliest = timer;
    }
    return earliest;
  };
  const pass = async (ms: number): Promise<void> => {
    await comeToRest();
    const end = time + ms;
    for (let timer = next(end); timer !== undefined; timer = next(end)) {
      timers.delete(timer);
      time = Math.max(time, timer.due);
      timer.fire();
      await comeToRest();
    }
    time = end;
  };
  return {
    now: () => time,
    setTimer(fire, ms) {
      if (ms > LONGEST_TIMER_MS) throw new RangeError(`a timer of ${ms} ms: Node's would fire at once`);
      // Node's timers take at least a millisecond too, which also keeps a chain of zeros from standing still for ever.
      const timer = {
        due: time + Math.max(1, ms),
        fire,
        cancel: () => void timers.delete(timer),
        ref: () => void unreferenced.delete(timer),
        unref: () => void unreferenced.add(timer),
      };
      timers.add(timer);
      return timer;
    },
    advance(ms) {
      const passed = last.then(() => pass(ms));
      // A timer that throws is its advance's failure, and must not stop the advances behind it.
      last = passed.catch(() => {});
      return passed;
    },
    pending: () => [...timers].filter((timer) => !unreferenced.has(timer)).length,
  };
}

async function comeToRest(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}
