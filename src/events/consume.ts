/** Consuming events: options, what of them belongs to the group, and the consumers that come of it. */

import type { GroupSettings } from "../core/backend.js";
import {
  BATCH_CHECKS,
  type BatchOptions,
  CONSUME_CHECKS,
  type ConsumeOptions,
  DEFAULT_CONCURRENCY,
  DEFAULT_LEASE_MS,
  DEFAULT_MAX_DEAD_LETTERS,
  HANDLER_CHECKS,
  type HandlerOptions,
  retryPolicy,
} from "../core/consuming.js";
import { ConfigError, InvalidArgumentError, NotFoundError } from "../core/errors.js";
import type { Decoding } from "../core/handler.js";
import { validName } from "../core/names.js";
import { anInteger, type Check, type Checks, findProblems, oneOf, show } from "../core/options.js";
import { payloadOf, type Read } from "../core/payload.js";
import type { Runtime } from "../core/runtime.js";
import type { Stream } from "../core/streams.js";
import type { ConsumerPlan } from "../core/subscription.js";
import { type StartPlace, startProblem, toGroupStart } from "./places.js";

/** For the iterable form; the others add to it. */
export interface ConsumeEventOptions extends ConsumeOptions {
  /** Consumers of one group share its events; every group gets all of them. */
  readonly group: string;
  /** Where the group starts when it is new. A group that exists goes on where it is. */
  readonly from: StartPlace;
  /**
   * `none`, the default: as they come. `key`: events of one key one after the other, each when the one before has come
   * to something, in whatever process. `strict`: the same, as if all had one key.
   */
  readonly order?: GroupSettings["order"];
  /** With `order: "key"`: events that may wait for others of their key; beyond it nothing new is read. Default 1,000. */
  readonly maxHeld?: number;
}

export interface SubscribeEventOptions extends ConsumeEventOptions, HandlerOptions {}

export interface SubscribeBatchOptions extends ConsumeEventOptions, HandlerOptions, BatchOptions {}

const DEFAULT_MAX_HELD = 1_000;
const MAX_HELD = 1_000_000;

const CHECKS: Checks<ConsumeEventOptions> = {
  ...CONSUME_CHECKS,
  group: () => undefined, // Checked on its own, as a name.
  from: startProblem,
  order: oneOf("none", "key", "strict"),
  maxHeld: anInteger(1, MAX_HELD),
};

type Form = "events.subscribe" | "events.deliveries" | "events.subscribeBatch";

/** What each form of consuming takes, by its name. */
const FORMS: Readonly<Record<Form, Readonly<Record<string, Check>>>> = {
  "events.subscribe": { ...CHECKS, ...HANDLER_CHECKS },
  "events.deliveries": CHECKS,
  "events.subscribeBatch": { ...CHECKS, ...HANDLER_CHECKS, ...BATCH_CHECKS },
};

/** What can be changed of a group; checked alike where it is made and where it is changed. */
export const SETTING_CHECKS: Readonly<Record<"leaseMs" | "maxDeadLetters" | "order" | "maxHeld", Check>> = {
  leaseMs: CONSUME_CHECKS.leaseMs,
  maxDeadLetters: CONSUME_CHECKS.maxDeadLetters,
  order: CHECKS.order,
  maxHeld: CHECKS.maxHeld,
};

/** Types of one stream that are consumed together. */
export interface Wanted {
  readonly stream: Stream;
  /** Sorted. */
  readonly types: readonly string[];
}

/** Checks everything before a group is made: one that nobody reads would hold its stream back. */
export function checkConsume(
  runtime: Runtime,
  form: Form,
  types: string | readonly string[],
  options: ConsumeEventOptions,
): readonly Wanted[] {
  const missing = (["group", "from"] as const).filter((name) => options?.[name] === undefined);
  const problems = missing.map((name) => `${form}: ${name} is missing: ${MISSING[name]}`);
  problems.push(...findProblems(form, options, FORMS[form] as Checks<ConsumeEventOptions>));
  if (problems.length > 0) throw new ConfigError(problems);
  options.signal?.throwIfAborted();
  runtime.owner.assertOpen();
  validName("group", options.group);
  const wanted = streamsOf(runtime, form, types);
  if (wanted.length > 1 && options.order !== undefined && options.order !== "none") {
    const names = wanted.map(({ stream }) => stream.name).join(", ");
    throw new ConfigError([
      `${form}: order "${options.order}" holds within one stream, and these types are in several (${names}): ` +
        "let them share one, with the option streams of connect",
    ]);
  }
  return wanted;
}

const MISSING = {
  group: "name the group of consumers that share the events",
  from: 'say where a new group starts: "beginning", "new", a Date, a position or { after: position }',
};

function streamsOf(runtime: Runtime, form: string, types: string | readonly string[]): readonly Wanted[] {
  const names = Array.isArray(types) ? (types as readonly unknown[]) : [types];
  if (names.length === 0) throw new InvalidArgumentError(`${form} takes one event type or several, not none`);
  const byStream = new Map<string, { stream: Stream; types: string[] }>();
  for (const type of new Set(names.map((name) => validName("event type", name)))) {
    payloadOf(runtime.contract, "events", type);
    const stream = runtime.streams.of(type);
    const wanted = byStream.get(stream.name) ?? { stream, types: [] };
    byStream.set(stream.name, wanted);
    wanted.types.push(type);
  }
  return [...byStream.values()].map(({ stream, types }) => ({ stream, types: types.toSorted() }));
}

/**
 * Makes the groups where they are new, and plans a consumer for each by the settings that are stored with it.
 *
 * @param concurrency deliveries out at once, for each stream
 * @throws {ConfigError} listing everything that is stored otherwise
 */
export async function planConsumers(
  runtime: Runtime,
  wanted: readonly Wanted[],
  options: ConsumeEventOptions,
  concurrency: number = options.concurrency ?? DEFAULT_CONCURRENCY,
): Promise<readonly EventPlan[]> {
  const results = await Promise.allSettled(wanted.map((each) => planConsumer(runtime, each, options, concurrency)));
  const problems: string[] = [];
  for (const result of results) {
    if (result.status === "fulfilled") continue;
    if (!(result.reason instanceof ConfigError)) throw result.reason;
    problems.push(...result.reason.problems);
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
}

export interface EventPlan extends ConsumerPlan {
  readonly settings: GroupSettings;
}

async function planConsumer(
  runtime: Runtime,
  { stream, types }: Wanted,
  options: ConsumeEventOptions,
  concurrency: number,
): Promise<EventPlan> {
  const { log } = runtime.backend;
  const { name } = stream;
  const group = validName("group", options.group);
  const asked = retryPolicy(options.retry);
  runtime.streams.use(stream);
  const stored = await log.createGroup(name, group, {
    from: toGroupStart(options.from),
    leaseMs: options.leaseMs ?? DEFAULT_LEASE_MS,
    maxAttempts: asked.maxAttempts,
    maxDeadLetters: options.maxDeadLetters ?? DEFAULT_MAX_DEAD_LETTERS,
    order: options.order ?? "none",
    maxHeld: options.maxHeld ?? DEFAULT_MAX_HELD,
    ...(stream.isShared && { types }),
  });
  assertAgreement(
    `group "${group}" of "${name}"`,
    { ...options, maxAttempts: options.retry?.maxAttempts, types },
    stored,
    [name],
  );
  const policy = { ...asked, maxAttempts: stored.maxAttempts };
  // They may be changed while this consumer runs: what is new in them is not for it.
  let groupTypes = stored.types;
  return {
    channel: name,
    reader: group,
    labels: { channel: name, reader: group },
    decoding: decodingOf(runtime, stream, types, (type) => groupTypes?.includes(type) === true),
    policy,
    rules: runtime.rules,
    // In strict order there is never a second one: a fetch for more would only wait, and what settles the first with it.
    concurrency: stored.order === "strict" ? 1 : concurrency,
    fetchAhead: true,
    leaseMs: stored.leaseMs,
    async currentLeaseMs() {
      const current = await readSettings(runtime, name, group);
      policy.maxAttempts = current?.maxAttempts ?? policy.maxAttempts;
      groupTypes = current?.types ?? groupTypes;
      return current?.leaseMs;
    },
    mayLose: stream.retention.overflow === "drop-oldest",
    open: (consumer) => log.open(name, group, consumer),
    settings: stored,
  };
}

/** What is stored with the group by now. Undefined when there is none: deleted, or lost until a fetch restores it. */
async function readSettings({ backend }: Runtime, stream: string, group: string): Promise<GroupSettings | undefined> {
  try {
    // Nothing to change: it only says what is stored.
    return await backend.log.configureGroup(stream, group, {});
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

const SETTINGS = ["leaseMs", "maxAttempts", "maxDeadLetters", "order", "maxHeld", "types"] as const;

type Asked = { readonly [K in (typeof SETTINGS)[number]]?: GroupSettings[K] | undefined };

/** What the caller did not say is as the group has it; what it did say must be what is stored. */
function assertAgreement(group: string, asked: Asked, stored: GroupSettings, ownTypes: readonly string[]): void {
  const problems = SETTINGS.flatMap((name) => {
    const [was, is] = [name === "types" ? (stored.types ?? ownTypes) : stored[name], asked[name]].map(shown);
    return asked[name] === undefined || was === is
      ? []
      : [
          `${group} was made with ${name} ${was}, and this consumer asks for ${is}: they must agree, or be changed with configure`,
        ];
  });
  if (problems.length > 0) throw new ConfigError(problems);
}

function shown(value: string | number | readonly string[] | undefined): string {
  return typeof value === "object" ? value.join(", ") : show(value);
}

/** Reads the messages of a stream of which these types are handled; in a shared one, others may be for other consumers. */
export function decodingOf(
  { contract, codecs }: Runtime,
  stream: Stream,
  types: readonly string[],
  isForOthers: (type: string) => boolean = () => false,
): Decoding {
  const readers = new Map<string, Read>(types.map((type) => [type, payloadOf(contract, "events", type).read]));
  return {
    channel: stream.name,
    codecs,
    readerFor: (type) => readers.get(type),
    isForOthers: stream.isShared ? isForOthers : undefined,
  };
}
