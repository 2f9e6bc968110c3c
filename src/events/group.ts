/** One group of one stream: its counts, its cursor, its settings and its dead letters. */

import type { GroupChanges, GroupSettings } from "../core/backend.js";
import { RETRY_CHECKS } from "../core/consuming.js";
import {
  checkPurge,
  type DeadLetter,
  type LetterBox,
  PURGE_CHECKS,
  purgeDeadLetters,
  type PurgeOptions,
  readDeadLetter,
  readDeadLetters,
  REDRIVE_CHECKS,
  redriveDeadLetters,
  type RedriveOptions,
} from "../core/dead-letters.js";
import { ConfigError, InvalidArgumentError, NotFoundError, toError } from "../core/errors.js";
import { abortableCall } from "../core/lifecycle.js";
import { validName } from "../core/names.js";
import { aSignal, type Checks, checkOptions, findProblems, show } from "../core/options.js";
import type { Runtime } from "../core/runtime.js";
import type { Stream } from "../core/streams.js";
import { decodingOf, SETTING_CHECKS } from "./consume.js";
import { type StartPlace, startProblem, toGroupStart } from "./places.js";
import { type EventGroupStats, toGroupStats } from "./stats.js";

/** Every call may be given up: it rejects with the signal's reason, and what was under way goes on unobserved. */
export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** A parked event, with where it comes from. In a shared stream it may be of any type that the group handles. */
export interface EventDeadLetter<T = unknown> extends DeadLetter<T> {
  readonly stream: string;
  readonly group: string;
}

/** What can be changed of a group. */
export interface GroupConfiguration<N extends string = string> {
  readonly leaseMs?: number;
  /** Attempts before an event is a dead letter. */
  readonly maxAttempts?: number;
  readonly maxDeadLetters?: number;
  /** Only while nothing is leased, waits for its retry or is held back. */
  readonly order?: GroupSettings["order"];
  readonly maxHeld?: number;
  /** In a shared stream: the types that the group handles. */
  readonly types?: readonly N[];
}

/** @typeParam T what its events hold @typeParam N names of events */
export interface EventGroup<T = unknown, N extends string = string> {
  readonly stream: string;
  readonly name: string;
  stats(options?: CallOptions): Promise<EventGroupStats>;
  /**
   * Moves the group's cursor, forwards or back. What is in hand or waits for its retry is dropped, and what handlers make
   * of it changes nothing; dead letters stay. Consumers go on from there.
   */
  seek(to: StartPlace, options?: CallOptions): Promise<void>;
  /** From now on nothing is handed out, in any process, until `resume`. Handlers that run may finish. */
  pause(options?: CallOptions): Promise<void>;
  resume(options?: CallOptions): Promise<void>;
  /** Changes what is stored with the group; consumers that ask for something else are refused from then on. */
  configure(changes: GroupConfiguration<N>, options?: CallOptions): Promise<GroupSettings>;
  /** Removes the group and its dead letters; its consumers end. @returns whether there was one */
  delete(options?: CallOptions): Promise<boolean>;
  /** What was parked, oldest first. */
  deadLetters(options?: CallOptions): AsyncGenerator<EventDeadLetter<T>, void, undefined>;
  /** One dead letter, while it is kept. */
  inspect(id: string, options?: CallOptions): Promise<EventDeadLetter<T> | undefined>;
  /** Delivers dead letters again, to this group alone, behind all others and with attempts from 1. @returns how many */
  redrive(options?: RedriveOptions): Promise<number>;
  /** Forgets dead letters. @returns how many */
  purge(options?: PurgeOptions): Promise<number>;
}

const CHANGE_CHECKS: Checks<GroupConfiguration> = {
  ...SETTING_CHECKS,
  maxAttempts: RETRY_CHECKS.maxAttempts,
  types: (types) => (Array.isArray(types) && types.length > 0 ? undefined : "must be a list that is not empty"),
};
const CALL_CHECKS: Checks<CallOptions> = { signal: aSignal };

export function createGroup<T>(runtime: Runtime, stream: Stream, name: string): EventGroup<T> {
  const { log } = runtime.backend;
  const { name: channel } = stream;
  const call = async <R>(method: string, options: CallOptions | undefined, use: () => Promise<R>): Promise<R> => {
    checkOptions(`group.${method}`, options, CALL_CHECKS);
    return await abortableCall(use, options?.signal);
  };
  const stats = async (): Promise<EventGroupStats> => {
    const { groups, at } = await log.stats(channel);
    const found = groups.find(({ group }) => group === name);
    if (found === undefined) throw new NotFoundError(`"${channel}" has no group "${name}"`);
    return toGroupStats(found, at);
  };
  return {
    stream: channel,
    name,
    stats: (options) => call("stats", options, stats),
    async seek(to, options) {
      const problem = startProblem(to);
      if (problem !== undefined) throw new InvalidArgumentError(`group.seek: the place ${problem}, not ${show(to)}`);
      await call("seek", options, () => log.seek(channel, name, toGroupStart(to)));
    },
    pause: (options) => call("pause", options, () => log.pause(channel, name)),
    resume: (options) => call("resume", options, () => log.resume(channel, name)),
    async configure(changes, options) {
      const checked = checkChanges(stream, changes);
      return await call("configure", options, () => log.configureGroup(channel, name, checked));
    },
    delete: (options) => call("delete", options, () => log.deleteGroup(channel, name)),
    ...letterCalls<T>(boxOf(runtime, stream, name), call, stats),
  };
}

type Call = <R>(method: string, options: CallOptions | undefined, use: () => Promise<R>) => Promise<R>;
type Place = Pick<EventDeadLetter, "stream" | "group">;

function boxOf(runtime: Runtime, stream: Stream, group: string): LetterBox<Place> {
  return {
    letters: runtime.backend.log.deadLetters(stream.name, group),
    decoding: decodingOf(runtime, stream, stream.types),
    place: { stream: stream.name, group },
  };
}

/** @param stats rejects for a group that is none, which has no letters to show either */
function letterCalls<T>(
  box: LetterBox<Place>,
  call: Call,
  stats: () => Promise<EventGroupStats>,
): Pick<EventGroup<T>, "deadLetters" | "inspect" | "redrive" | "purge"> {
  return {
    async *deadLetters(options) {
      await call("deadLetters", options, stats);
      yield* readDeadLetters<T, Place>(box, options?.signal);
    },
    async inspect(id, options) {
      await call("inspect", options, stats);
      return await readDeadLetter<T, Place>(box, id, options?.signal);
    },
    async redrive(options = {}) {
      checkOptions("group.redrive", options, REDRIVE_CHECKS);
      const { dead } = await abortableCall(stats, options.signal);
      return await redriveDeadLetters(box.letters, options, dead);
    },
    async purge(options = {}) {
      checkPurge("group.purge", options, PURGE_CHECKS);
      await abortableCall(stats, options.signal);
      return await purgeDeadLetters(box.letters, options);
    },
  };
}

function checkChanges(stream: Stream, changes: GroupConfiguration): GroupChanges {
  const problems = findProblems("group.configure", changes, CHANGE_CHECKS);
  const asked = problems.length === 0 ? Object.entries(changes ?? {}).filter(([, value]) => value !== undefined) : [];
  if (problems.length === 0 && asked.length === 0) problems.push("group.configure: there is nothing to change");
  const types = changes?.types;
  if (problems.length === 0 && types !== undefined) problems.push(...typeProblems(stream, types));
  if (problems.length > 0) throw new ConfigError(problems);
  // Checked above, name by name.
  return { ...Object.fromEntries(asked), ...(types !== undefined && { types: sortedTypes(types) }) };
}

function typeProblems({ name, types: own, isShared }: Stream, types: readonly string[]): string[] {
  if (!isShared) return [`group.configure: types are for streams that several types share, and "${name}" is none`];
  try {
    return sortedTypes(types)
      .filter((type) => !own.includes(type))
      .map((type) => `group.configure: "${name}" holds no type "${type}", but ${own.join(", ")}`);
  } catch (error) {
    return [`group.configure: ${toError(error).message}`];
  }
}

function sortedTypes(types: readonly string[]): readonly string[] {
  return [...new Set(types.map((type) => validName("event type", type)))].toSorted();
}
