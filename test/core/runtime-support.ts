/** What a broker over any backend needs besides it, for tests that put something of their own in between. */

import type { Backend, Broadcast, BroadcastListener } from "../../src/core/backend.js";
import type { Clock } from "../../src/core/clock.js";
import { jsonCodec } from "../../src/core/codec.js";
import { Codecs } from "../../src/core/codecs.js";
import { Owner } from "../../src/core/lifecycle.js";
import type { Runtime } from "../../src/core/runtime.js";
import { declareStreams } from "../../src/core/streams.js";
import { createTelemetry } from "../../src/core/telemetry.js";
import { silentLogger } from "../facades/support/lanes.js";

export async function runtimeOver(
  backend: Backend,
  clock: Clock,
  own: Pick<Runtime, "report"> & Partial<Runtime>,
): Promise<Runtime> {
  return {
    backend,
    clock,
    telemetry: createTelemetry(silentLogger),
    contract: undefined,
    codec: jsonCodec,
    codecs: new Codecs({ namespace: "n", codec: jsonCodec, transforms: [] }),
    middleware: [],
    source: "s",
    maxPayloadBytes: 100_000,
    streams: await declareStreams(backend.log, {}),
    owner: new Owner(clock),
    createId: () => "id",
    ...own,
  };
}

/** The same port, and those who listen: to be told of gaps. */
export function overheard(broadcast: Broadcast): {
  readonly broadcast: Broadcast;
  readonly listeners: ReadonlySet<BroadcastListener>;
} {
  const listeners = new Set<BroadcastListener>();
  return {
    listeners,
    broadcast: {
      publish: (messages) => broadcast.publish(messages),
      async subscribe(target, listener) {
        listeners.add(listener);
        const unsubscribe = await broadcast.subscribe(target, listener);
        return async () => {
          listeners.delete(listener);
          await unsubscribe();
        };
      },
    },
  };
}
