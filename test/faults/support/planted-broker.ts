/** A broker as `connect` makes it, with a bug or somebody who observes between the facades and the store. */

import { createClient } from "@redis/client";
import { type Broker, createBroker } from "../../../src/broker.js";
import { openRedis } from "../../../src/backends/redis/index.js";
import { parseAddress } from "../../../src/core/address.js";
import type { BackendContext } from "../../../src/core/backend.js";
import { systemClock } from "../../../src/core/clock.js";
import { jsonCodec } from "../../../src/core/codec.js";
import { Codecs } from "../../../src/core/codecs.js";
import { createIdFactory } from "../../../src/core/ids.js";
import { Owner } from "../../../src/core/lifecycle.js";
import { DEFAULT_SOURCE } from "../../../src/core/message.js";
import { declareStreams } from "../../../src/core/streams.js";
import { createTelemetry, observeBackend } from "../../../src/core/telemetry.js";
import { toError } from "../../../src/core/errors.js";
import type { ConnectOptions } from "../../../src/index.js";
import type { Observe } from "./chaos-broker.js";
import type { PlantedBug, RawRedis } from "./planted.js";

/** @param bug for a standalone Redis */
export async function connectOver(
  url: string,
  options: ConnectOptions,
  bug: PlantedBug | undefined,
  observe: Observe = (backend) => backend,
): Promise<Broker> {
  const address = parseAddress(url);
  if (address.kind === "memory" || address.kind === "sqlite") throw new Error("this is for Redis alone");
  const clock = systemClock;
  const raw = rawRedis(url);
  const context: BackendContext = {
    namespace: "default",
    clock,
    report(thrown, where) {
      bug?.heard?.(where, raw);
      void options.onError?.(toError(thrown), where);
    },
  };
  const { durability = "memory", commandTimeoutMs, connectTimeoutMs } = options;
  const redis = await openRedis(
    address,
    { durability, replicas: 1, commandTimeoutMs, connectTimeoutMs, ...UNSET, ...bug?.redis },
    context,
  );
  const telemetry = createTelemetry(options.logger ?? console);
  const backend = observeBackend(observe(bug?.plant?.(redis, raw) ?? redis), telemetry, clock);
  const streams = await declareStreams(backend.log, options.streams);
  const runtime = {
    backend,
    clock,
    telemetry,
    contract: undefined,
    codec: jsonCodec,
    codecs: new Codecs({ namespace: "default", codec: jsonCodec, transforms: [] }),
    middleware: [],
    source: DEFAULT_SOURCE,
    maxPayloadBytes: 1_048_576,
    streams,
    owner: new Owner(clock),
    createId: createIdFactory(clock),
    report: context.report,
  };
  return createBroker(runtime, backend, { groupIdleMs: IDLE_MS });
}

/** Beyond any run. */
const IDLE_MS = 3_600_000;

const UNSET = {
  assertAppendFsync: undefined,
  allowEviction: undefined,
  maxBlockingConnections: undefined,
  tls: undefined,
  clientName: undefined,
  sentinelUsername: undefined,
  sentinelPassword: undefined,
};

/** A connection of the bug's own, opened when it is first used. */
function rawRedis(url: string): RawRedis {
  let connecting: Promise<{ sendCommand(args: string[]): Promise<unknown> }> | undefined;
  return async (...args) => {
    connecting ??= (async () => {
      const client = createClient({ url, commandOptions: { timeout: 0 }, maintNotifications: "disabled" });
      client.on("error", () => undefined); // the call that needs it rejects by itself
      return await client.connect();
    })();
    return (await connecting).sendCommand(args);
  };
}
