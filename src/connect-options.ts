/** What `connect` takes, checked before anything is opened. */

import type { TlsOptions } from "./backends/redis/target.js";
import { type Address, parseAddress, redactUrl } from "./core/address.js";
import type { Durability } from "./core/backend.js";
import type { Clock } from "./core/clock.js";
import { aCodec, type Codec } from "./core/codec.js";
import { type ContractDefinition, findContractProblems, type NoContract } from "./core/contract.js";
import { ConfigError, toError } from "./core/errors.js";
import { readFallback } from "./core/fallback.js";
import { aHolderLease } from "./core/holder-lease.js";
import { findMiddlewareProblems, type Middleware } from "./core/middleware.js";
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
import { findStreamProblems, type StreamOptions } from "./core/streams.js";
import { aLogger, type Logger } from "./core/telemetry.js";

export interface ConnectOptions<C = NoContract> {
  /** Names, payloads and validators: see `defineContract`. */
  readonly contract?: C;
  /** Separates applications that share a store: part of every key. Default `default`. */
  readonly namespace?: string;
  /** The source of messages whose publisher names none. Default `signalbox`. */
  readonly source?: string;
  /** Encodes payloads that are not bytes. Default: strict JSON. Messages of any known codec are read. */
  readonly codec?: Codec;
  /** What all messages pass through, the first outermost. Default: nothing. */
  readonly middleware?: readonly Middleware[];
  /** Largest payload, encoded. Default 1 MiB. */
  readonly maxPayloadBytes?: number;
  /**
   * Streams that several types share, and how long streams may grow, by the stream's name. A type that stands nowhere has
   * a stream of its own name, of at most 1,000,000 events.
   */
  readonly streams?: Readonly<Record<string, StreamOptions<C>>>;
  /** Pub/sub: messages that may wait to be sent, for each channel; beyond it `publish` is a `LimitError`. Default 1,000. */
  readonly publishBuffer?: number;
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
  middleware: () => undefined, // Like the contract.
  maxPayloadBytes: anInteger(1, MAX_PAYLOAD_BYTES),
  streams: () => undefined, // Like the contract.
  publishBuffer: anInteger(1, 1_000_000),
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

/** Where a broker lives. */
export interface Places {
  readonly address: Address;
  /** The URL without its password. */
  readonly shown: string;
  /** The file that stands in for the server. */
  readonly fallback: string | undefined;
}

/** @throws {ConfigError} with every problem, before anything is opened */
export function checkConnect<C>(url: string | undefined, options: ConnectOptions<C>): Places {
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
function declarationProblems<C>({ contract, streams, middleware }: ConnectOptions<C>): string[] {
  const problems = contract === undefined ? [] : findContractProblems(contract);
  const checked = problems.length === 0 ? (contract as ContractDefinition | undefined) : undefined;
  return [...problems, ...findStreamProblems(streams, checked), ...findMiddlewareProblems(middleware)];
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
