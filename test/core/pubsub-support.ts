/** A broker in memory, on a fake clock, whose subscriptions are told of gaps when a test says so. */

import { openMemory } from "../../src/backends/memory/index.js";
import { type Broker, createBroker } from "../../src/broker.js";
import { createIdFactory } from "../../src/core/ids.js";
import { bareHeader } from "../../src/core/message.js";
import type { Runtime } from "../../src/core/runtime.js";
import { createFakeClock, type FakeClock } from "../../src/testing/index.js";
import { overheard, runtimeOver } from "./runtime-support.js";

export interface Opened extends AsyncDisposable {
  readonly broker: Broker;
  readonly clock: FakeClock;
  /** What `onError` has heard. */
  readonly told: { readonly error: unknown; readonly where: string }[];
  /** Tells all subscriptions that they may have missed something. */
  gap(reason: string): void;
  /** Publishes text that no contract has seen. */
  raw(channel: string, text: string): Promise<unknown>;
}

export async function openPubSub(contract?: Runtime["contract"]): Promise<Opened> {
  const clock = createFakeClock();
  const told: { error: unknown; where: string }[] = [];
  const report: Runtime["report"] = (error, where) => void told.push({ error, where });
  const memory = await openMemory({}, { namespace: "n", clock, report });
  const { broadcast, listeners } = overheard(memory.broadcast);
  const backend = { ...memory, broadcast };
  const runtime = await runtimeOver(backend, clock, { contract, report, createId: createIdFactory(clock) });
  const broker = createBroker(runtime, backend, { groupIdleMs: 1_000 });
  return {
    broker,
    clock,
    told,
    gap: (reason) => {
      for (const { gap } of listeners) gap(reason);
    },
    raw: (channel, data) => memory.broadcast.publish([{ channel, data: `${bareHeader(runtime.createId())}\n${data}` }]),
    [Symbol.asyncDispose]: () => broker.close({ drainMs: 0 }),
  };
}
