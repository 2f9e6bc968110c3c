/** From a URL to a broker: the composition root. Loads a backend only when its URL asks for it. */

import { type Broker, createBroker } from "./broker.js";
import { type Address, parseAddress, redactUrl } from "./core/address.js";
import type { Backend, BackendContext, Durability } from "./core/backend.js";
import { type Clock, systemClock } from "./core/clock.js";
import { aCodec, type Codec, jsonCodec } from "./core/codec.js";
import { type Contract, type ContractDefinition, findContractProblems, type NoContract } from "./core/contract.js";
import { ConfigError, toError } from "./core/errors.js";
import { fallbackNamespace, readFallback } from "./core/fallback.js";
import { aHolderLease } from "./core/holder-lease.js";
import { createIdFactory } from "./core/ids.js";
import { abortable, Owner } from "./core/lifecycle.js";
import { DEFAULT_SOURCE } from "./core/message.js";
import { validName, validText } from "./core/names.js";
import {
  aDuration,
  aFunction,
  anInteger,
  anObject,
  anObjectWith,
  aSignal,
  aString,
  type Check,
  type Checks,
  findProblems,
  isPlainObject,
  oneOf,
} from "./core/options.js";
import { openOutbox } from "./core/outbox.js";
import { openPatiently } from "./core/primary.js";
import type { Runtime } from "./core/runtime.js";
import { declareStreams, findStreamProblems, type StreamOptions, type Streams } from "./core/streams.js";
import {
  aLogger,
  createTelemetry,
  type Logger,
  observeBackend,
  stderrLogger,
  type Telemetry,
} from "./core/telemetry.js";
import { isThenable } from "./core/thenable.js";
import type { RedisOptions, TlsOptions } from "./backends/redis/target.js";

export interface ConnectOptions<C = NoContract> {
  /** Names, payloads and validators: see `defineContract`. */
  readonly contract?: C;
  /** Separates applications that share a store: part of every key. Default `default`. */
  readonly namespace?: string;
  /** The source of messages whose publisher names none. Default `signalbox`. */
  readonly source?: string;
  /** Encodes payloads that are not bytes. Default: strict JSON. Messages of any known codec are read. */
  readonly codec?: Codec;
  /** Largest payload, encoded. Default 1 MiB. */
  readonly maxPayloadBytes?: number;
  /**
   * Streams that several types share, and how long streams may grow, by the stream's name. A type that stands nowhere has
   * a stream of its own name, of at most 1,000,000 events.
   */
  readonly streams?: Readonly<Record<string, StreamOptions<C>>>;
  /** `health()` names a group that has had something to do for this long and done nothing. Default 600,000. */
  readonly groupIdleMs?: number;
  /**
   * How long what this broker enters into a presence outlives it when its process dies. Renewed three times as often.
   * 3,000 to 600,000, default 90,000.
   */
  readonly presenceLeaseMs?: number;
  /** Takes log events; pino fits. Default: warnings and errors to stderr. */
  readonly logger?: Logger;
  /** Takes failures that no caller waits for. Default: the logger. */
  readonly onError?: (error: Error, where: string) => void | Promise<void>;
  /** Gives up connecting: rejects with its reason, and closes what opens meanwhile. Afterwards it means nothing. */
  readonly signal?: AbortSignal;
  /** For tests. The Redis backend's leases and expiry follow the server's clock regardless. */
  readonly clock?: Clock;
  /** What a receipt must have attained. Refused here where the store cannot give it. Default: what the store gives by itself. */
  readonly durability?: Durability;
  /**
   * Redis: a file such as `sqlite:./outbox.db` that keeps published events while the server is away, and is emptied into
   * it in order once it is back. With the server absent `connect` resolves all the same, and everything but publishing
   * events is refused until it is there. Default: none; nothing falls back by itself.
   */
  readonly fallback?: string;
  /** Redis: how long `connect` goes on trying to reach an absent server. Default 0: an error once one try has failed. */
  readonly waitForServerMs?: number;
  /** Redis: replicas that must have a write before it counts as `replicated`. Default 1. */
  readonly replicas?: number;
  /** Redis: the operator's word that `appendfsync` is `always`, where the server does not let us read it. */
  readonly assertAppendFsync?: "always";
  /** Redis: accept a `maxmemory-policy` that may evict messages. */
  readonly allowEviction?: "yes, lose messages";
  /** Redis: how long a command may take before its socket is given up. Default 5,000. */
  readonly commandTimeoutMs?: number;
  /** Redis: how long an interrupted publish is tried again before it is refused or indeterminate. Default 15,000. */
  readonly publishTimeoutMs?: number;
  /** Redis: how long `connect` may take. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /** Redis: connections for blocking reads, beyond which consumers look once a second. Default 50. */
  readonly maxBlockingConnections?: number;
  /** Redis: as in Node's `tls.connect`, with a `rediss:` URL. */
  readonly tls?: TlsOptions;
  /** Redis: accept `tls.rejectUnauthorized: false`, which lets anybody pose as the server. */
  readonly allowInsecureTls?: "yes, trust any certificate";
  /** Redis: how the connections are called in CLIENT LIST. Default `signalbox`. */
  readonly clientName?: string;
  /** Redis: of the Sentinels, which have users of their own. */
  readonly sentinelUsername?: string;
  readonly sentinelPassword?: string;
}

/** Half of how long Redis remembers what became of a publisher's batches, so that no try comes later than that. */
const MAX_PUBLISH_TIMEOUT_MS = 300_000;
const DEFAULT_MAX_PAYLOAD_BYTES = 1_048_576;
/** Redis itself refuses more than this. */
const MAX_PAYLOAD_BYTES = 512 * 1_048_576;

const named: Check = (value) => {
  try {
    validName("it", value);
    return undefined;
  } catch (error) {
    return `is no legal name (${toError(error).message})`;
  }
};

const text: Check = (value) => {
  try {
    validText("it", value);
    return undefined;
  } catch (error) {
    return `cannot be used (${toError(error).message})`;
  }
};

const CHECKS: Checks<ConnectOptions<ContractDefinition>> = {
  contract: () => undefined, // Checked on its own, to tell all its problems.
  namespace: named,
  source: text,
  codec: aCodec,
  maxPayloadBytes: anInteger(1, MAX_PAYLOAD_BYTES),
  streams: () => undefined, // Like the contract.
  groupIdleMs: aDuration(1),
  presenceLeaseMs: aHolderLease,
  logger: aLogger,
  onError: aFunction,
  signal: aSignal,
  clock: anObjectWith("now", "setTimer"),
  durability: oneOf("memory", "fsync", "replicated"),
  fallback: aString,
  waitForServerMs: aDuration(),
  replicas: anInteger(1, 100),
  assertAppendFsync: oneOf("always"),
  allowEviction: oneOf("yes, lose messages"),
  commandTimeoutMs: aDuration(100),
  publishTimeoutMs: anInteger(100, MAX_PUBLISH_TIMEOUT_MS),
  connectTimeoutMs: aDuration(100),
  maxBlockingConnections: anInteger(1, 10_000),
  tls: anObject,
  allowInsecureTls: oneOf("yes, trust any certificate"),
  clientName: aString,
  sentinelUsername: aString,
  sentinelPassword: aString,
};

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
  const places = check(url, options);
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

interface Places {
  readonly address: Address;
  /** The URL without its password. */
  readonly shown: string;
  /** The file that stands in for the server. */
  readonly fallback: string | undefined;
}

/** @throws {ConfigError} with every problem, before anything is opened */
function check<C>(url: string | undefined, options: ConnectOptions<C>): Places {
  const problems = findProblems("connect", options as ConnectOptions<ContractDefinition>, CHECKS);
  const areReadable = isPlainObject(options);
  if (areReadable) problems.push(...declarationProblems(options));
  try {
    const at = urlOf(url);
    const address = parseAddress(at);
    if (areReadable) problems.push(...tlsProblems(address, options));
    const fallback =
      areReadable && typeof options.fallback === "string" && options.fallback !== ""
        ? readFallback(options.fallback, address, options.durability)
        : undefined;
    problems.push(...(fallback?.problems ?? []));
    if (problems.length === 0) return { address, shown: redactUrl(at), fallback: fallback?.path };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.unshift(...error.problems);
  }
  throw new ConfigError(problems);
}

/** A stream's types are looked up in the contract only when it is one. */
function declarationProblems<C>({ contract, streams }: ConnectOptions<C>): string[] {
  const problems = contract === undefined ? [] : findContractProblems(contract);
  const checked = problems.length === 0 ? (contract as ContractDefinition | undefined) : undefined;
  return [...problems, ...findStreamProblems(streams, checked)];
}

/** Waits for an absent server as long as the options say, and with a fallback goes on without it. */
async function openStore<C>(
  { address, fallback: path }: Places,
  options: ConnectOptions<C>,
  context: BackendContext,
  telemetry: Telemetry,
): Promise<Backend> {
  const { durability = "memory", waitForServerMs: forMs = 0, signal } = options;
  const open = (): Promise<Backend> => openBackend(address, options, context);
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
  { clock, report }: BackendContext,
): Runtime {
  const codec = options.codec ?? jsonCodec;
  return {
    backend,
    clock,
    telemetry,
    // NoContract has no sections, which is what an undefined contract means.
    contract: options.contract as ContractDefinition | undefined,
    codec,
    codecs: new Map([jsonCodec, codec].map((known) => [known.contentType, known])),
    source: options.source ?? DEFAULT_SOURCE,
    maxPayloadBytes: options.maxPayloadBytes ?? DEFAULT_MAX_PAYLOAD_BYTES,
    streams,
    owner: new Owner(clock),
    createId: createIdFactory(clock),
    report,
  };
}

/** Null is no absence: it is a setting that was not there. */
function urlOf(given: string | undefined): string {
  if (given !== undefined) return given;
  const url = process.env["SIGNALBOX_URL"] ?? process.env["REDIS_URL"];
  if (url === undefined) {
    throw new ConfigError([
      'no URL: pass one to connect, such as "sqlite:./messages.db", or set SIGNALBOX_URL or REDIS_URL',
    ]);
  }
  return url;
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

/** Encryption is never dropped in silence. */
function tlsProblems<C>(address: Address, { tls, allowInsecureTls }: ConnectOptions<C>): string[] {
  // What is no object has been complained about already.
  if (typeof tls !== "object" || tls === null || address.kind === "memory" || address.kind === "sqlite") return [];
  const problems: string[] = [];
  if (!address.tls)
    problems.push("connect: tls is given, but the URL is not encrypted: write rediss:// instead of redis://");
  if (tls.rejectUnauthorized === false && allowInsecureTls === undefined) {
    problems.push(
      'connect: tls.rejectUnauthorized: false lets anybody pose as the server: pass the server\'s ca instead, or allowInsecureTls: "yes, trust any certificate"',
    );
  }
  return problems;
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
      const handled: unknown = onError(error, where);
      if (isThenable(handled)) handled.then(undefined, logFailure);
    } catch (failure) {
      logFailure(failure);
    }
  };
}
