/** A broker in memory, on a fake clock, whose subscriptions are told of gaps when a test says so. */

import { openMemory } from "../../src/backends/memory/index.js";
import { type Broker, createBroker } from "../../src/broker.js";
import type { BroadcastListener } from "../../src/core/backend.js";
import { jsonCodec } from "../../src/core/codec.js";
import { Codecs } from "../../src/core/codecs.js";
import { createIdFactory } from "../../src/core/ids.js";
import { Owner } from "../../src/core/lifecycle.js";
import { bareHeader } from "../../src/core/message.js";
import type { Runtime } from "../../src/core/runtime.js";
import { declareStreams } from "../../src/core/streams.js";
import { createTelemetry } from "../../src/core/telemetry.js";
import { createFakeClock, type FakeClock } from "../../src/testing/index.js";
import { silentLogger } from "../facades/support/lanes.js";

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
  const listeners = new Set<BroadcastListener>();
  const backend: Runtime["backend"] = {
    ...memory,
    broadcast: {
      publish: (messages) => memory.broadcast.publish(messages),
      async subscribe(target, listener) {
        const unsubscribe = await memory.broadcast.subscribe(target, listener);
        listeners.add(listener);
        return async () => {
          listeners.delete(listener);
          await unsubscribe();
        };
      },
    },
  };
  const runtime: Runtime = {
    backend,
    clock,
    telemetry: createTelemetry(silentLogger),
    contract,
    codec: jsonCodec,
    codecs: new Codecs({ namespace: "n", codec: jsonCodec, transforms: [] }),
    middleware: [],
    source: "s",
    maxPayloadBytes: 100_000,
    streams: await declareStreams(backend.log, {}),
    owner: new Owner(clock),
    createId: createIdFactory(clock),
    report,
  };
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
