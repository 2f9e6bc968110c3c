/** Brokers on one store in memory, on a fake clock, whose store fails, forgets and tells nothing as a test says. */

import { onTestFinished } from "vitest";
import { openMemory } from "../../src/backends/memory/index.js";
import { type Broker, createBroker } from "../../src/broker.js";
import type { Backend, Membership } from "../../src/core/backend.js";
import type { Clock } from "../../src/core/clock.js";
import type { NoContract } from "../../src/core/contract.js";
import { createTelemetry } from "../../src/core/telemetry.js";
import { createFakeClock } from "../../src/testing/index.js";
import { recordingLogger } from "../facades/support/lanes.js";
import { type Watcher, watching } from "../facades/support/watching.js";
import { overheard, runtimeOver } from "./runtime-support.js";

export interface Store {
  /** Another broker, as in another process. */
  open(options?: { readonly leaseMs?: number; readonly timers?: "hang" }): Promise<Opened>;
  /** Lets time pass for all. */
  pass(ms: number): Promise<void>;
  /** The store's own clock jumps, and nobody's timers. */
  jump(ms: number): void;
  /** The store itself, as nobody's. */
  readonly membership: Membership;
  /** Tells those who listen there, as whoever may write to the store can. */
  publish(channel: string, data: string): Promise<unknown>;
}

export interface Opened {
  readonly broker: Broker;
  readonly reports: readonly Error[];
  events(): readonly string[];
  /** How often each call of the membership port was made. */
  readonly calls: ReadonlyMap<string, number>;
  /** While set, every call of its membership port and its broadcasts fail with it. */
  failure: Error | undefined;
  /** A holder that it cannot reap. */
  unreapable: string | undefined;
  /** Whether its news reach anybody. */
  tells: boolean;
  /** Runs after each page of a list, before the broker has it. */
  afterPage: (() => Promise<unknown>) | undefined;
  /** This process's clock is set forward or back. */
  jump(ms: number): void;
  /** Tells all its subscriptions that they may have missed something. */
  gap(): void;
  watch(name?: string): Promise<Watcher>;
}

let stores = 0;

export async function openStore(): Promise<Store> {
  const clock = createFakeClock();
  let offset = 0;
  const storeClock: Clock = { now: () => clock.now() + offset, setTimer: clock.setTimer.bind(clock) };
  const name = `members-${(stores += 1)}`;
  const openBackend = (): Promise<Backend> =>
    openMemory({ name }, { namespace: "n", clock: storeClock, report: () => undefined });
  const own = await openBackend();
  const closing: (() => Promise<void>)[] = [() => own.close()];
  onTestFinished(async () => {
    // A broker that waits for its clock on the way is not to keep the test from ending.
    const closed = Promise.all(closing.map((close) => close()));
    for (let turns = 0; turns < 5; turns += 1) await clock.advance(2_000);
    await closed;
  });
  return {
    membership: own.membership,
    publish: (channel, data) => own.broadcast.publish([{ channel, data }]),
    pass: (ms) => clock.advance(ms),
    jump: (ms) => void (offset += ms),
    async open({ leaseMs = 90_000, timers } = {}) {
      let ownOffset = 0;
      const hang: Clock["setTimer"] = () => ({ cancel: () => undefined });
      const own: Clock = {
        now: () => clock.now() + ownOffset,
        setTimer: timers === "hang" ? hang : clock.setTimer.bind(clock),
      };
      const jump = (ms: number): void => void (ownOffset += ms);
      const opened = Object.assign(await openOne(await openBackend(), own, leaseMs), { jump });
      closing.push(() => opened.broker.close({ drainMs: 0 }));
      return opened;
    },
  };
}

async function openOne(memory: Backend, clock: Clock, presenceLeaseMs: number): Promise<Omit<Opened, "jump">> {
  const { broadcast, listeners } = overheard(memory.broadcast);
  const reports: Error[] = [];
  const calls = new Map<string, number>();
  const { logger, entries } = recordingLogger();
  const state: Pick<Opened, "failure" | "unreapable" | "tells" | "afterPage"> = {
    failure: undefined,
    unreapable: undefined,
    tells: true,
    afterPage: undefined,
  };
  const guarded = <A extends readonly unknown[], R>(name: string, call: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      calls.set(name, (calls.get(name) ?? 0) + 1);
      if (state.failure !== undefined) throw state.failure;
      if (name === "reap" && args[0] === state.unreapable) throw new Error("it cannot be reaped");
      const result = await call(...args);
      if (name === "list") await state.afterPage?.();
      return result;
    };
  };
  const port = Object.entries(memory.membership).map(([name, call]) => [
    name,
    guarded(name, call as () => Promise<never>),
  ]);
  const backend: Backend = {
    ...memory,
    membership: Object.fromEntries(port) as Membership,
    broadcast: {
      publish: guarded("publish", async (messages) =>
        state.tells ? await broadcast.publish(messages) : messages.map(() => 0),
      ),
      subscribe: guarded("subscribe", (target, listener) => broadcast.subscribe(target, listener)),
    },
  };
  const runtime = await runtimeOver(backend, clock, {
    telemetry: createTelemetry(logger),
    maxPayloadBytes: 1_000,
    report: (error) => void reports.push(error as Error),
  });
  const broker = createBroker<NoContract>(runtime, backend, { presenceLeaseMs });
  return Object.assign(state, {
    broker,
    reports,
    calls,
    events: () => entries.map(({ fields }) => String(fields["event"])),
    gap: () => {
      for (const { gap } of listeners) gap("a test says so");
    },
    watch: (name = "lobby") => watching(broker.presence(name)),
  });
}
