/** Which stream an event's type belongs to, and how long streams may grow: what `connect` is told of them. */

import type { Log, Retention } from "./backend.js";
import type { ContractDefinition, NameIn, NoContract } from "./contract.js";
import { ConfigError, InvalidArgumentError, toError } from "./errors.js";
import { validName } from "./names.js";
import { aDuration, anAge, anInteger, type Checks, findProblems, isPlainObject, oneOf, show } from "./options.js";
import { payloadOf } from "./payload.js";

/** What is said of one stream. Limits are stored with it: whoever says something else later is refused; `events.configure` changes them. */
export interface StreamOptions<C = NoContract> {
  /** The types that share it, with order between them. Default: the type of the stream's own name. */
  readonly types?: readonly NameIn<C, "events">[];
  /** Default 1,000,000. */
  readonly maxEntries?: number;
  /** Events older than this are dropped. Default: none for their age. */
  readonly maxAgeMs?: number;
  /**
   * When an event would have to go that some group has not handled: `reject`, the default, refuses what is published,
   * `block` lets it wait for room, `drop-oldest` drops the event and says so.
   */
  readonly overflow?: Retention["overflow"];
  /** With `overflow: "block"`: how long a publish waits before it is refused. Default 30,000. */
  readonly blockMs?: number;
}

/** A stream as this process knows it. */
export interface Stream {
  readonly name: string;
  /** What it holds: sorted where it is shared, otherwise the type of its own name alone. */
  readonly types: readonly string[];
  readonly isShared: boolean;
  readonly retention: Retention;
  /** How long a publish waits for room; undefined: not at all. */
  readonly blockMs: number | undefined;
}

export interface Streams {
  /**
   * The stream of an event's type.
   *
   * @throws {InvalidArgumentError} for a name that is none, or is that of a stream of other types
   */
  of(type: string): Stream;
  readonly declared: readonly Stream[];
  /** How long the stream of that name may grow, as far as this process knows. */
  retentionOf(stream: string): Retention;
  /** Notes that this process publishes to the stream or consumes from it. */
  use(stream: Stream): void;
  /** Those noted, the latest 1,000 of them. */
  used(): readonly string[];
}

const DEFAULT_MAX_ENTRIES = 1_000_000;
const DEFAULT_BLOCK_MS = 30_000;
const MAX_ENTRIES = 1_000_000_000;
/** Types that may share a stream. */
const MAX_TYPES = 1_000;
const MAX_USED = 1_000;

const aListOfTypes = (value: unknown): string | undefined => {
  if (!Array.isArray(value) || value.length === 0) return "must be a list of event types that is not empty";
  return value.length > MAX_TYPES ? `must list at most ${MAX_TYPES} types` : undefined;
};

/** What is stored with a stream; checked alike where it is declared and where it is changed. */
export const LIMIT_CHECKS: Checks<Retention> = {
  maxEntries: anInteger(1, MAX_ENTRIES),
  maxAgeMs: anAge(1),
  overflow: oneOf("reject", "block", "drop-oldest"),
};

const CHECKS: Checks<StreamOptions> = { types: aListOfTypes, ...LIMIT_CHECKS, blockMs: aDuration() };

type Declarations = Readonly<Record<string, StreamOptions>>;

/** Everything that is wrong with what `connect` is told of streams. */
export function findStreamProblems(given: unknown, contract: ContractDefinition | undefined): string[] {
  if (given === undefined) return [];
  if (!isPlainObject(given)) return [`connect: streams must be a plain object of streams by name, not ${show(given)}`];
  const problems: string[] = [];
  const owners = new Map<string, string>();
  const names = new Set(Object.keys(given).map((name) => name.normalize("NFC")));
  if (names.size < Object.keys(given).length)
    problems.push("connect: streams names one stream twice, spelt differently");
  for (const [written, options] of Object.entries(given)) {
    const at = `connect: streams["${written}"]`;
    const name = legalName(at, "stream", written, problems);
    const found = findProblems(at, options as StreamOptions, CHECKS); // findProblems checks that it is an object.
    problems.push(...found);
    if (name === undefined || found.length > 0 || !isPlainObject(options)) continue;
    if (options["blockMs"] !== undefined && options["overflow"] !== "block")
      problems.push(`${at}: blockMs is for overflow "block"`);
    for (const type of (options["types"] as readonly unknown[] | undefined) ?? [name]) {
      const legal = legalName(at, "event type", type, problems);
      if (legal === undefined) continue;
      if (contract !== undefined) problems.push(...findUnknown(at, legal, contract));
      const owner = owners.get(legal);
      if (owner !== undefined) problems.push(`${at}: the type "${legal}" is already in the stream "${owner}"`);
      else if (legal !== name && names.has(legal))
        problems.push(`${at}: the type "${legal}" is the name of another stream: call that stream something else`);
      owners.set(legal, name);
    }
  }
  return problems;
}

function legalName(at: string, kind: string, name: unknown, problems: string[]): string | undefined {
  try {
    return validName(kind, name);
  } catch (error) {
    problems.push(`${at}: ${toError(error).message}`);
    return undefined;
  }
}

function findUnknown(at: string, type: string, contract: ContractDefinition): string[] {
  try {
    payloadOf(contract, "events", type);
    return [];
  } catch (error) {
    return [`${at}: ${toError(error).message}`];
  }
}

/**
 * Stores the limits that are declared, where none are stored yet.
 *
 * @throws {ConfigError} listing every limit that is stored otherwise
 */
export async function declareStreams(log: Log, declarations: Declarations | undefined): Promise<Streams> {
  const problems: string[] = [];
  const declared: Stream[] = [];
  for (const [written, options] of Object.entries(declarations ?? {})) {
    const name = validName("stream", written);
    const asked = retentionOf(options);
    // Without a limit there is nothing to agree about: whatever is stored goes.
    const isLimited = LIMITS.some((limit) => options[limit] !== undefined);
    const stored = isLimited ? await log.configure(name, asked) : asked;
    problems.push(...disagreements(name, options, stored));
    declared.push(streamOf(name, options, stored));
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return createStreams(declared);
}

const LIMITS = ["maxEntries", "maxAgeMs", "overflow"] as const;

function retentionOf({ maxEntries, maxAgeMs, overflow }: StreamOptions): Retention {
  return {
    maxEntries: maxEntries ?? DEFAULT_MAX_ENTRIES,
    ...(maxAgeMs !== undefined && { maxAgeMs }),
    overflow: overflow ?? "reject",
  };
}

/** What is not declared is as it is stored. */
function disagreements(name: string, options: StreamOptions, stored: Retention): string[] {
  return LIMITS.filter((limit) => options[limit] !== undefined && options[limit] !== stored[limit]).map(
    (limit) =>
      `connect: the stream "${name}" is stored with ${stored[limit] === undefined ? `no ${limit}` : `${limit} ${show(stored[limit])}`}, ` +
      `and this process declares ${show(options[limit])}: they must agree, or be changed with events.configure`,
  );
}

function streamOf(name: string, { types, blockMs }: StreamOptions, retention: Retention): Stream {
  const sorted = types === undefined ? [name] : types.map((type) => validName("event type", type)).toSorted();
  return {
    name,
    types: sorted,
    isShared: sorted.length > 1 || sorted[0] !== name,
    retention,
    blockMs: retention.overflow === "block" ? (blockMs ?? DEFAULT_BLOCK_MS) : undefined,
  };
}

const UNDECLARED: Retention = retentionOf({});

function createStreams(declared: readonly Stream[]): Streams {
  const byType = new Map(declared.flatMap((stream) => stream.types.map((type) => [type, stream] as const)));
  const byName = new Map(declared.map((stream) => [stream.name, stream]));
  const used = new Set<string>();
  return {
    declared,
    retentionOf: (name) => byName.get(name)?.retention ?? UNDECLARED,
    of(given) {
      const type = validName("event type", given);
      const stream = byType.get(type);
      if (stream !== undefined) return stream;
      const other = byName.get(type);
      if (other !== undefined)
        throw new InvalidArgumentError(`"${type}" is no event type, but the stream of ${other.types.join(", ")}`);
      return streamOf(type, {}, UNDECLARED);
    },
    use({ name }) {
      used.delete(name);
      used.add(name);
      for (const oldest of used) {
        if (used.size <= MAX_USED) break;
        used.delete(oldest);
      }
    },
    used: () => [...used],
  };
}
