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

interface Pair {
  readonly publisher: Broker;
  readonly tally: Tally;
  /** Resolves when that message has been handled; for one at a time. */
  handled(n: number): Promise<void>;
  readonly watch: Stopwatch;
}

type Run = (pair: Pair, count: number) => Promise<void>;

/** One at a time: the next is published when the one before has been handled. */
export function lone(backend: BackendName): Contender {
  const run: Run = async ({ publisher, handled }, count) => {
    for (let n = 0; n < count; n += 1) await Promise.all([handled(n), publisher.pubsub.publish(CHANNEL, payloadOf(n))]);
  };
  return { ...contender(backend, "between two", run), warmUp: LONE_WARM_UP };
}

/** 1,000 publishes under way at once. */
export function load(backend: BackendName, between: Between = "between two"): Contender {
  return contender(backend, between, ({ publisher }, count) =>
    pump(count, CONCURRENT_PUBLISHES, (n) => publisher.pubsub.publish(CHANNEL, payloadOf(n))),
  );
}

/** At an even rate. */
export function pubsubLatency(backend: BackendName, perSecond: number): Contender {
  const run: Run = ({ publisher, watch }, count) =>
    pace(count, perSecond, (n) => {
      watch.sent(n);
      return publisher.pubsub.publish(CHANNEL, payloadOf(n));
    });
  return contender(backend, "between two", run, "timed");
}

/** `in one`: the subscriber is in the publisher's own broker, which need not wait for the store. */
type Between = "between two" | "in one";

function contender(backend: BackendName, between: Between, run: Run, timing?: "timed"): Contender {
  return {
    name: between === "in one" ? `signalbox ${backend} in one broker` : `signalbox ${backend}`,
    backend,
    role: "signalbox",
    is: IS[backend],
    warmUp: WARM_UP[backend],
    prepare: (environment, count) => prepare(environment, backend, between, { run, count, timing }),
  };
}

async function prepare(
  environment: Environment,
  backend: BackendName,
  between: Between,
  { run, count, timing }: { readonly run: Run; readonly count: number; readonly timing: "timed" | undefined },
): Promise<Trial> {
  const { brokers, close } = await openBrokers(environment, backend, between === "in one" ? 1 : 2);
  try {
    const [publisher, subscriber = publisher] = brokers;
    if (publisher === undefined || subscriber === undefined) throw new Error("no broker was opened");
    const tally = new Tally(count, streamOrder);
    const watch = new Stopwatch(count);
    let wake: (() => void) | undefined;
    const subscription: ChannelSubscription = await subscriber.pubsub.subscribe(CHANNEL, async (data) => {
      const n = numberOf(data);
      watch.handled(n);
      tally.see(n);
      wake?.();
    });
    const handled = (): Promise<void> => new Promise((resolve) => void (wake = resolve));
    return {
      ...(timing !== undefined && { latencies: watch.latencies }),
      async run() {
        await run({ publisher, tally, watch, handled }, count);
        await tally.complete();
      },
      async verify() {
        tally.verify();
        const { received, handled: done, dropped, gaps } = subscription.stats();
        assertEqual("messages handled", `${received} ${done} ${dropped} ${gaps}`, `${count} ${count} 0 0`);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
