/** What is said of a queue when it is opened, checked and with its defaults. */

import type { QueueLimits, RecordSettings } from "../core/backend.js";
import { ConfigError } from "../core/errors.js";
import {
  aDuration,
  aFunction,
  anAge,
  anInteger,
  type Check,
  type Checks,
  findProblems,
  oneOf,
  show,
} from "../core/options.js";

/**
 * Options are each handle's own: a queue that is opened twice goes by either handle's options, depending on which is used.
 * Only `keepAckedMs`, `maxRecords` and `index` are the queue's: they are stored with it, and a handle that says something
 * else cannot publish, list or count.
 */
export interface QueueOptions {
  /** Unfinished messages that the queue may hold when something is published. Default 1,000,000. */
  readonly maxItems?: number;
  /**
   * What becomes of a message for which there is no room: `reject`, the default, is a `LimitError`, `block` lets it wait,
   * `drop-oldest` drops the oldest of the least urgent ones of its recipients instead, which is counted.
   */
  readonly overflow?: NonNullable<QueueLimits["overflow"]>;
  /** With `overflow: "block"`: how long a publish waits before it is refused. Default 30,000. */
  readonly blockMs?: number;
  /** How long a message that says nothing itself waits and is retried, before it expires. Default: for ever. */
  readonly ttlMs?: number;
  /** A recipient that nobody has read for this long is forgotten, with all that it had. Default 604,800,000: seven days. */
  readonly recipientTtlMs?: number;
  /** How long a finished message stays as a record, for `get`, `list` and `explain`. Default 0: not at all. */
  readonly keepAckedMs?: number;
  /** With `keepAckedMs`: records kept; beyond it the one that was finished first goes. Default 10,000. */
  readonly maxRecords?: number;
  /** What `list` and `count` can filter by, besides the state. Default: there is no `list`. */
  readonly index?: readonly IndexedField[];
  /** Told of messages that expired before they were handled, by the consumers of this handle. */
  readonly onExpired?: (expired: ExpiredMessages) => void | Promise<void>;
}

export type IndexedField = "source" | "target";

/** Messages that a consumer found expired. */
export interface ExpiredMessages {
  readonly queue: string;
  /** Empty: whoever consumes the queue. */
  readonly recipient: string;
  readonly count: number;
  /** Of those that are known by their ids: at most 1,000, and fewer than `count` where others had found them expired. */
  readonly ids: readonly string[];
}

/** The same, with everything decided. */
export interface Settings {
  readonly limits: QueueLimits;
  /** How long a publish waits for room; undefined: not at all. */
  readonly blockMs: number | undefined;
  readonly ttlMs: number | undefined;
  readonly recipientTtlMs: number;
  /** Undefined: whatever is stored with the queue goes. */
  readonly records: RecordsAsked | undefined;
  readonly onExpired: QueueOptions["onExpired"];
}

export interface RecordsAsked {
  readonly settings: RecordSettings;
  /** The same for the same settings. */
  readonly key: string;
}

const DEFAULT_MAX_ITEMS = 1_000_000;
const DEFAULT_BLOCK_MS = 30_000;
const DEFAULT_RECIPIENT_TTL_MS = 7 * 86_400_000;
const DEFAULT_MAX_RECORDS = 10_000;
/** A consumer that waits shows itself every two seconds: a shorter life would end in between on a busy machine. */
const MIN_RECIPIENT_TTL_MS = 10_000;
const INDEXED: readonly string[] = ["source", "target"] satisfies readonly IndexedField[];

const aListOfFields: Check = (value) => {
  const fields = INDEXED.map((field) => `"${field}"`).join(" and ");
  if (!Array.isArray(value)) return `must be a list of ${fields}`;
  const wrong: unknown = value.find((field) => !INDEXED.includes(field as string));
  return wrong === undefined && !value.includes(undefined)
    ? undefined
    : `must list ${fields} alone: it has ${show(wrong)}`;
};

export const recipientTtlCheck: Check = aDuration(MIN_RECIPIENT_TTL_MS);

const CHECKS: Checks<QueueOptions> = {
  maxItems: anInteger(1, 1_000_000_000),
  overflow: oneOf("reject", "block", "drop-oldest"),
  blockMs: aDuration(),
  ttlMs: aDuration(1),
  recipientTtlMs: recipientTtlCheck,
  keepAckedMs: anAge(),
  maxRecords: anInteger(1, 10_000_000),
  index: aListOfFields,
  onExpired: aFunction,
};

/** @throws {ConfigError} listing every problem */
export function settingsOf(queue: string, options: QueueOptions = {}): Settings {
  const problems = findProblems(`queue "${queue}"`, options, CHECKS);
  if (problems.length === 0) problems.push(...contradictions(queue, options));
  if (problems.length > 0) throw new ConfigError(problems);
  const { maxItems = DEFAULT_MAX_ITEMS, overflow = "reject", blockMs = DEFAULT_BLOCK_MS } = options;
  const records = recordsOf(options);
  return {
    limits: { maxItems, overflow, ...(records && { records: records.settings }) },
    blockMs: overflow === "block" ? blockMs : undefined,
    ttlMs: options.ttlMs,
    recipientTtlMs: options.recipientTtlMs ?? DEFAULT_RECIPIENT_TTL_MS,
    records,
    onExpired: options.onExpired,
  };
}

function contradictions(queue: string, { overflow, blockMs, keepAckedMs, maxRecords }: QueueOptions): string[] {
  const problems: string[] = [];
  if (blockMs !== undefined && overflow !== "block") problems.push(`queue "${queue}": blockMs is for overflow "block"`);
  if (maxRecords !== undefined && (keepAckedMs ?? 0) === 0)
    problems.push(`queue "${queue}": maxRecords is for keepAckedMs: say how long records are kept`);
  return problems;
}

function recordsOf({ keepAckedMs, maxRecords, index }: QueueOptions): RecordsAsked | undefined {
  if (keepAckedMs === undefined && index === undefined) return undefined;
  const settings = {
    keepAckedMs: keepAckedMs ?? 0,
    maxRecords: (keepAckedMs ?? 0) === 0 ? 0 : (maxRecords ?? DEFAULT_MAX_RECORDS),
    index: index === undefined ? undefined : [...new Set(index)].toSorted(),
  };
  return { settings, key: JSON.stringify(settings) };
}

/** What the queue is stored with and the handle says otherwise. */
export function recordProblems(queue: string, asked: RecordSettings, stored: RecordSettings): string[] {
  return (["keepAckedMs", "maxRecords", "index"] as const)
    .filter((name) => shown(asked[name]) !== shown(stored[name]))
    .map(
      (name) =>
        `queue "${queue}" is stored with ${name} ${shown(stored[name])}, and this handle says ${shown(asked[name])}: ` +
        "they must agree; once the queue is empty, the next handle that says something decides",
    );
}

function shown(value: number | readonly string[] | undefined): string {
  if (value === undefined) return "none";
  return typeof value === "number" ? show(value) : `[${value.toSorted().join(", ")}]`;
}
