/** A program that publishes without pause and writes down what it tried and what it was told. Argument: its configuration. */

import { pause } from "../../support/wait.js";
import { PublishIndeterminateError, TimeoutError } from "../../../src/core/errors.js";
import { connectPatiently, obey, setUp, silent } from "./chaos-child.js";
import { idOf, keyOf, keyText, payloadOf, type PublisherConfig, STREAM } from "./chaos-load.js";
import { now } from "./history-log.js";

const TICK_MS = 5;
/** After a refusal, which comes at once: without it this program would do nothing but collect them. */
const REFUSED_MS = 100;
/** How often something is published again that may not have been stored. */
const MAX_REPEATS = 3;
/** The broker itself gives up earlier. */
const FINISH_MS = 25_000;

const setting = setUp<PublisherConfig>();
const { config, history, noteForeign } = setting;
const { number: p, durability, window, ids } = config;
history.write({ op: "opened", t: now(), process: "publisher", number: p });
const broker = await connectPatiently(setting, { logger: silent, durability });

const state = { next: 0, underway: 0, running: true, allowance: 0, rate: config.rate, resumeAt: 0 };

async function publish(n: number): Promise<void> {
  const key = keyOf(p, n);
  const options = { ...(key === undefined ? {} : { key: keyText(p, key) }), ...(ids ? { id: idOf(p, n) } : {}) };
  for (let repeats = 0; ; repeats += 1) {
    try {
      const receipt = await broker.events.publish(STREAM, payloadOf(p, n), options);
      if (receipt.durability !== durability)
        history.write({ op: "corrupt", t: now(), what: `a receipt of ${receipt.durability}, not ${durability}` });
      history.write({ op: "ok", t: now(), n });
      return;
    } catch (error) {
      noteForeign(error, "publish");
      const isUnknown = error instanceof PublishIndeterminateError || error instanceof TimeoutError;
      // With its key it would stand behind what was published after it.
      if (isUnknown && ids && key === undefined && repeats < MAX_REPEATS && state.running) continue;
      const name = error instanceof Error ? error.name : String(error);
      // What was unknown once is not made certain by a later refusal.
      history.write({ op: isUnknown || repeats > 0 ? "unknown" : "fail", t: now(), n, error: name });
      state.resumeAt = performance.now() + REFUSED_MS;
      return;
    }
  }
}

/** All are written down before the first of them leaves. */
function publishSome(count: number): void {
  const first = state.next;
  state.next += count;
  for (let n = first; n < state.next; n += 1) {
    const k = keyOf(p, n);
    history.write({ op: "invoke", t: now(), n, ...(k === undefined ? {} : { k }) });
  }
  history.flush();
  for (let n = first; n < state.next; n += 1) {
    state.underway += 1;
    void publish(n).finally(() => (state.underway -= 1));
  }
}

async function publishOn(): Promise<void> {
  let lookedAt = performance.now();
  while (state.running) {
    await pause(TICK_MS);
    const at = performance.now();
    state.allowance = Math.min(state.allowance + ((at - lookedAt) / 1_000) * state.rate, state.rate / 4);
    lookedAt = at;
    if (at < state.resumeAt) continue;
    const count = Math.min(Math.floor(state.allowance), window - state.underway);
    if (count <= 0) continue;
    state.allowance -= count;
    publishSome(count);
  }
}

const publishing = publishOn();
await obey(
  setting,
  {
    rate: (perSecond) => {
      state.rate = perSecond;
      state.allowance = 0;
    },
    /** Publishes so many at once, whatever the rate. */
    burst: publishSome,
  },
  async () => {
    state.running = false;
    await publishing;
    const deadline = performance.now() + FINISH_MS;
    while (state.underway > 0 && performance.now() < deadline) await pause(TICK_MS);
    await broker.close({ drainMs: 0 });
  },
);
