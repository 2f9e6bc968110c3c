/** signalbox itself, through its public API, with its defaults. */

import { type Broker, connect, type Subscription } from "../../src/index.js";
import { until } from "../../test/support/wait.js";
import { databaseFile, removeDatabase } from "../database-files.js";
import type { Contender, Environment, Trial } from "../harness.js";
import type { BackendName } from "../options.js";
import {
  assertEqual,
  CONCURRENT_PUBLISHES,
  type Order,
  pace,
  type Payload,
  pump,
  Stopwatch,
  Tally,
} from "../workload.js";

/** What the paths differ in, bound to a broker. */
export interface Channel {
  publish(n: number): Promise<unknown>;
  subscribe(handler: (data: unknown) => Promise<void>): Promise<Subscription>;
  /** Messages that wait or are in flight. */
  unfinished(): Promise<number>;
  /** Messages stored, when nobody has consumed. */
  stored(): Promise<number>;
  /** The order in which a backlog of `count` is delivered. */
  orderOf(count: number): Order;
}

export interface OpenChannel {
  (broker: Broker): Channel;
  /** What is special about it, for the row's name. */
  readonly variant?: string;
}

export const WARM_UP: Readonly<Record<BackendName, number>> = { memory: 20_000, sqlite: 5_000, redis: 20_000 };

/** One message at a time, 1,000 of them under way. */
export function publishing(open: OpenChannel, backend: BackendName): Contender {
  return contender(open, backend, async (channel, count) => ({
    run: () => pump(count, CONCURRENT_PUBLISHES, (n) => channel.publish(n)),
    verify: async () => assertEqual("messages stored", await channel.stored(), count),
  }));
}

/** A backlog, from subscribing until the last handler has run; then it must all be acknowledged. */
export function draining(open: OpenChannel, backend: BackendName): Contender {
  return contender(open, backend, async (channel, count) => {
    await pump(count, CONCURRENT_PUBLISHES, (n) => channel.publish(n));
    const tally = new Tally(count, channel.orderOf(count));
    let subscription: Subscription | undefined;
    return {
      async run() {
        subscription = await channel.subscribe(async (data) => tally.see(numberOf(data)));
        await tally.complete();
      },
      async verify() {
        await settled(channel, subscription, count);
        tally.verify();
      },
    };
  });
}

/** Publishing and consuming at the same time, in one process. */
export function living(open: OpenChannel, backend: BackendName): Contender {
  return contender(open, backend, async (channel, count) => {
    const tally = new Tally(count);
    const subscription = await channel.subscribe(async (data) => tally.see(numberOf(data)));
    return {
      async run() {
        await pump(count, CONCURRENT_PUBLISHES, (n) => channel.publish(n));
        await tally.complete();
      },
      async verify() {
        await settled(channel, subscription, count);
        tally.verify();
      },
    };
  });
}

/** From the call of publish to the start of the handler, at an even rate. */
export function latency(open: OpenChannel, backend: BackendName, perSecond: number): Contender {
  return contender(open, backend, async (channel, count) => {
    const tally = new Tally(count);
    const watch = new Stopwatch(count);
    const subscription = await channel.subscribe(async (data) => {
      const n = numberOf(data);
      watch.handled(n);
      tally.see(n);
    });
    return {
      latencies: watch.latencies,
      async run() {
        await pace(count, perSecond, (n) => {
          watch.sent(n);
          return channel.publish(n);
        });
        await tally.complete();
      },
      async verify() {
        await settled(channel, subscription, count);
        tally.verify();
      },
    };
  });
}

function contender(
  openChannel: OpenChannel,
  backend: BackendName,
  prepare: (channel: Channel, count: number) => Promise<Omit<Trial, "close">>,
): Contender {
  return {
    name: nameOf(backend, openChannel),
    backend,
    role: "signalbox",
    is: IS[backend],
    warmUp: WARM_UP[backend],
    async prepare(environment, count) {
      const { brokers, close } = await openBrokers(environment, backend, 1);
      try {
        return { ...(await prepare(openChannel(brokers[0] as Broker), count)), close }; // One was asked for.
      } catch (error) {
        await close();
        throw error;
      }
    },
  };
}

function nameOf(backend: BackendName, { variant }: OpenChannel): string {
  return variant === undefined ? `signalbox ${backend}` : `signalbox ${backend} ${variant}`;
}

export const IS: Readonly<Record<BackendName, string>> = {
  memory: 'connect("memory:")',
  sqlite: 'connect("sqlite:…"), a new file, synchronous=FULL',
  redis: 'connect("redis://…")',
};

/** Opens brokers on one new store. `close` closes them, and removes what they leave. */
export async function openBrokers(
  environment: Environment,
  backend: BackendName,
  count: number,
): Promise<{ readonly brokers: readonly Broker[]; close(): Promise<void> }> {
  const { url, cleanUp } = storeFor(environment, backend);
  const brokers = await Promise.all(Array.from({ length: count }, () => connect(url)));
  const close = async (): Promise<void> => {
    await Promise.all(brokers.map((broker) => broker.close()));
    cleanUp();
  };
  return { brokers, close };
}

function storeFor(environment: Environment, backend: BackendName): { readonly url: string; cleanUp(): void } {
  if (backend === "memory") return { url: `memory:${environment.unique("bench")}`, cleanUp: () => undefined };
  if (backend === "redis") {
    const { redis } = environment;
    if (redis === undefined) throw new Error("no Redis was started for this run");
    return { url: redis.url, cleanUp: () => undefined };
  }
  const file = databaseFile(environment, "signalbox");
  return { url: `sqlite:${file}`, cleanUp: () => removeDatabase(file) };
}

/** The acknowledgements of the last handlers are still on their way when the last handler has run. */
async function settled(channel: Channel, subscription: Subscription | undefined, count: number): Promise<void> {
  const sum = (field: "settled" | "lost"): number =>
    (subscription?.stats() ?? []).reduce((total, stats) => total + stats[field], 0);
  await until(() => sum("settled") === count, { what: `${count} acknowledgements (${sum("settled")} so far)` });
  assertEqual("leases lost", sum("lost"), 0);
  assertEqual("messages left over", await channel.unfinished(), 0);
}

/** What was published, and comes back as `unknown` without a contract. */
export function numberOf(data: unknown): number {
  return (data as Payload).n;
}
