/** Pub/sub through its public API, with its defaults: from one broker to another on the same store. */

import type { Broker, ChannelSubscription } from "../../src/index.js";
import type { Contender, Environment, Trial } from "../harness.js";
import type { BackendName } from "../options.js";
import {
  assertEqual,
  CONCURRENT_PUBLISHES,
  pace,
  payloadOf,
  pump,
  Stopwatch,
  streamOrder,
  Tally,
} from "../workload.js";
import { IS, numberOf, openBrokers, WARM_UP } from "./signalbox.js";

const CHANNEL = "orders";
/** A round trip each, so that a second holds few. */
const LONE_WARM_UP = 500;
/** So many go before those that are counted, on the same connections: new ones make V8 compile some of the code anew. */
export const LONE_LEAD_IN = 1_500;
export const LOAD_LEAD_IN = 20_000;

interface Pair {
  readonly publisher: Broker;
  readonly tally: Tally;
  /** Resolves when that message has been handled; for one at a time. */
  handled(n: number): Promise<void>;
  readonly watch: Stopwatch;
}

/** Publishes messages `from` to `to`, without the last. */
type Run = (pair: Pair, from: number, to: number) => Promise<void>;

/** One at a time: the next is published when the one before has been handled. */
export function lone(backend: BackendName): Contender {
  const run: Run = async ({ publisher, handled }, from, to) => {
    for (let n = from; n < to; n += 1) await Promise.all([handled(n), publisher.pubsub.publish(CHANNEL, payloadOf(n))]);
  };
  return { ...contender(backend, "between two", run, { leadIn: LONE_LEAD_IN }), warmUp: LONE_WARM_UP };
}

/** 1,000 publishes under way at once. */
export function load(backend: BackendName, between: Between = "between two"): Contender {
  const run: Run = ({ publisher }, from, to) =>
    pump(to - from, CONCURRENT_PUBLISHES, (n) => publisher.pubsub.publish(CHANNEL, payloadOf(from + n)));
  return contender(backend, between, run, { leadIn: LOAD_LEAD_IN });
}

/** At an even rate. */
export function pubsubLatency(backend: BackendName, perSecond: number): Contender {
  const run: Run = ({ publisher, watch }, from, to) =>
    pace(to - from, perSecond, (n) => {
      watch.sent(from + n);
      return publisher.pubsub.publish(CHANNEL, payloadOf(from + n));
    });
  return contender(backend, "between two", run, { timing: "timed" });
}

/** `in one`: the subscriber is in the publisher's own broker, which need not wait for the store. */
type Between = "between two" | "in one";

/** How a contender is measured. */
export interface Manner {
  readonly timing?: "timed";
  /** Messages before those that are counted. Default none. */
  readonly leadIn?: number;
}

function contender(backend: BackendName, between: Between, run: Run, manner: Manner = {}): Contender {
  return {
    name: between === "in one" ? `signalbox ${backend} in one broker` : `signalbox ${backend}`,
    backend,
    role: "signalbox",
    is: IS[backend],
    warmUp: WARM_UP[backend],
    prepare: (environment, count) => prepare(environment, backend, between, { ...manner, run, count }),
  };
}

async function prepare(
  environment: Environment,
  backend: BackendName,
  between: Between,
  { run, count, timing, leadIn = 0 }: Manner & { readonly run: Run; readonly count: number },
): Promise<Trial> {
  const all = leadIn + count;
  const { brokers, close } = await openBrokers(environment, backend, between === "in one" ? 1 : 2);
  try {
    const [publisher, subscriber = publisher] = brokers;
    if (publisher === undefined || subscriber === undefined) throw new Error("no broker was opened");
    const tally = new Tally(all, streamOrder);
    const watch = new Stopwatch(all);
    let wake: (() => void) | undefined;
    const subscription: ChannelSubscription = await subscriber.pubsub.subscribe(CHANNEL, async (data) => {
      const n = numberOf(data);
      watch.handled(n);
      tally.see(n);
      wake?.();
    });
    const handled = (): Promise<void> => new Promise((resolve) => void (wake = resolve));
    const pair = { publisher, tally, watch, handled };
    await run(pair, 0, leadIn);
    return {
      ...(timing !== undefined && { latencies: watch.latencies }),
      async run() {
        await run(pair, leadIn, all);
        await tally.complete();
      },
      async verify() {
        tally.verify();
        const { received, handled: done, dropped, gaps } = subscription.stats();
        assertEqual("messages handled", `${received} ${done} ${dropped} ${gaps}`, `${all} ${all} 0 0`);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
