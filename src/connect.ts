/** From a URL to a broker: the composition root. Loads a backend only when its URL asks for it. */

import { type Broker, createBroker } from "./broker.js";
import { checkConnect, type ConnectOptions, type Places } from "./connect-options.js";
import type { Address } from "./core/address.js";
import { announced } from "./core/announce.js";
import type { Backend, BackendContext, Durability } from "./core/backend.js";
import { systemClock } from "./core/clock.js";
import { jsonCodec } from "./core/codec.js";
import { Codecs } from "./core/codecs.js";
import type { Contract, ContractDefinition, NoContract } from "./core/contract.js";
import { ConfigError, toError } from "./core/errors.js";
import { fallbackNamespace } from "./core/fallback.js";
import { createIdFactory } from "./core/ids.js";
import { abortable, Owner } from "./core/lifecycle.js";
import { DEFAULT_SOURCE } from "./core/message.js";
import { validName } from "./core/names.js";
import { openOutbox } from "./core/outbox.js";
import { openPatiently } from "./core/primary.js";
import type { Runtime } from "./core/runtime.js";
import { declareStreams, type Streams } from "./core/streams.js";
import { createTelemetry, observeBackend, stderrLogger, type Telemetry } from "./core/telemetry.js";
import { onRejection } from "./core/thenable.js";
import type { RedisOptions } from "./backends/redis/target.js";

const DEFAULT_MAX_PAYLOAD_BYTES = 1_048_576;

/**
 * Opens a broker.
 *
 * @param url `memory:`, `memory:name`, `sqlite:./file.db`, `redis://…`, `rediss://…`, `redis+unix://…`,
 *   `redis-cluster://…`, `redis-sentinel://…`. Default: the environment's SIGNALBOX_URL, else REDIS_URL; with neither
 *   set it is a `ConfigError`, because a missing secret must not become a local file.
 * @throws {ConfigError} listing every problem of URL and options at once
 * @throws {ConnectionError | AuthError} when the store cannot be used; nothing stays open
 * @throws the signal's reason, once it aborts
 */
export async function connect<C extends Contract | NoContract = NoContract>(
  url?: string,
  options: ConnectOptions<C> = {},
): Promise<Broker<C>> {
  const places = checkConnect(url, options);
  const { signal } = options;
  signal?.throwIfAborted();
  const telemetry = createTelemetry(options.logger ?? stderrLogger);
  const clock = options.clock ?? systemClock;
  const report = createReporter(options.onError, telemetry);
  const context: BackendContext = { namespace: validName("namespace", options.namespace ?? "default"), clock, report };
  const opened = await openUnlessAborted(openStore(places, options, context, telemetry), signal, report);
  try {
    const backend = observeBackend(opened, telemetry, clock);
    const streams = await abortable(declareStreams(backend.log, options.streams as Declared), signal);
    const runtime = createRuntime(options, backend, streams, telemetry, context);
    const { name, durability } = backend;
    const fallback = places.fallback === undefined ? {} : { fallback: places.fallback };
    telemetry.log("backend_opened", { backend: name, durability, url: places.shown, ...fallback });
    return createBroker<C>(runtime, backend, options);
  } catch (error) {
    await opened.close().catch((failure: unknown) => report(failure, "closing a backend that could not be used"));
    throw error;
  }
}

/** Names of types are strings, whatever the contract says. */
type Declared = ConnectOptions["streams"];

/** Waits for an absent server as long as the options say, and with a fallback goes on without it. */
async function openStore<C>(
  { address, shown, fallback: path }: Places,
  options: ConnectOptions<C>,
  context: BackendContext,
  telemetry: Telemetry,
): Promise<Backend> {
  const { durability = "memory", waitForServerMs: forMs = 0, signal } = options;
  const openOnce = (): Promise<Backend> => openBackend(address, options, context);
  const isRedis = address.kind !== "memory" && address.kind !== "sqlite";
  const server = { url: shown, isCluster: address.kind === "cluster" };
  const open = isRedis ? (): Promise<Backend> => announced(server, telemetry, openOnce) : openOnce;
  const openFirst = (): Promise<Backend> => openPatiently(open, { clock: context.clock, forMs, signal });
  if (path === undefined) return await openFirst();
  const { openSqlite } = await import("./backends/sqlite/index.js");
  const fallback = await openSqlite({ path }, { ...context, namespace: fallbackNamespace(context.namespace) });
  return await openOutbox({ name: "redis", durability, openFirst, open, fallback, context, telemetry });
}

/** An abort ends the waiting at once. What opens afterwards belongs to nobody, and is closed. */
async function openUnlessAborted(
  opening: Promise<Backend>,
  signal: AbortSignal | undefined,
  report: BackendContext["report"],
): Promise<Backend> {
  try {
    return await abortable(opening, signal);
  } catch (error) {
    const close = (backend: Backend): Promise<void> => backend.close();
    // Where opening itself failed there is nothing to close, and the caller knows or does not want to.
    const ignore = (): void => undefined;
    opening.then(close, ignore).catch((failure: unknown) => report(failure, "closing a backend that opened too late"));
    throw error;
  }
}

function createRuntime<C>(
  options: ConnectOptions<C>,
  backend: Backend,
  streams: Streams,
  telemetry: Telemetry,
  { clock, namespace, report }: BackendContext,
): Runtime {
  const { codec = jsonCodec, middleware = [] } = options;
  return {
    backend,
    clock,
    telemetry,
    // NoContract has no sections, which is what an undefined contract means.
    contract: options.contract as ContractDefinition | undefined,
    codec,
    codecs: new Codecs({ namespace, codec, transforms: middleware.flatMap(({ payload }) => payload ?? []) }),
    middleware,
    source: options.source ?? DEFAULT_SOURCE,
    maxPayloadBytes: options.maxPayloadBytes ?? DEFAULT_MAX_PAYLOAD_BYTES,
    publishBuffer: options.publishBuffer,
    streams,
    owner: new Owner(clock),
    createId: createIdFactory(clock),
    report,
  };
}

async function openBackend<C>(address: Address, options: ConnectOptions<C>, context: BackendContext): Promise<Backend> {
  switch (address.kind) {
    case "memory": {
      refuseBeyond("memory", "memory:", options.durability);
      const { openMemory } = await import("./backends/memory/index.js");
      return await openMemory(address, context);
    }
    case "sqlite": {
      refuseBeyond("fsync", "sqlite:", options.durability);
      const { openSqlite } = await import("./backends/sqlite/index.js");
      const synchronous = options.durability === "memory" ? "normal" : "full";
      return await openSqlite({ path: address.path, synchronous }, context);
    }
    default: {
      const { openRedis } = await import("./backends/redis/index.js");
      return await openRedis(address, redisOptions(options), context);
    }
  }
}

/** What was asked for and cannot be given is refused here, not hoped for. */
function refuseBeyond(attained: Durability, scheme: string, asked: Durability | undefined): void {
  const order: readonly Durability[] = ["memory", "fsync", "replicated"];
  if (asked !== undefined && order.indexOf(asked) > order.indexOf(attained)) {
    throw new ConfigError([
      `connect: ${scheme} attains durability "${attained}" at most, not "${asked}": use a Redis that does`,
    ]);
  }
}

function redisOptions<C>(options: ConnectOptions<C>): RedisOptions {
  const { durability = "memory", replicas = 1, assertAppendFsync, allowEviction } = options;
  const { commandTimeoutMs, publishTimeoutMs, connectTimeoutMs, maxBlockingConnections, tls } = options;
  const { clientName, sentinelUsername, sentinelPassword } = options;
  return {
    durability,
    replicas,
    assertAppendFsync,
    allowEviction,
    commandTimeoutMs,
    publishTimeoutMs,
    connectTimeoutMs,
    maxBlockingConnections,
    tls,
    clientName,
    sentinelUsername,
    sentinelPassword,
  };
}

/** Background failures go to `onError`, by default to the logger, never nowhere. */
function createReporter(
  onError: ConnectOptions["onError"],
  telemetry: Telemetry,
): (error: unknown, where: string) => void {
  const logFailure = (failure: unknown): void =>
    telemetry.log("background_failure", { where: "onError", err: toError(failure) });
  return (thrown, where) => {
    const error = toError(thrown);
    if (onError === undefined) {
      telemetry.log("background_failure", { where, err: error });
      return;
    }
    try {
      onRejection(onError(error, where), logFailure);
    } catch (failure) {
      logFailure(failure);
    }
  };
}
