/** Who is present, in all processes: entered here, kept alive by this broker's lease, seen everywhere. */

import type { Consuming } from "../core/consumer-stats.js";
import type { Enrolment } from "../core/enrolment.js";
import { InvalidArgumentError } from "../core/errors.js";
import { type KnownMember, toKnown } from "../core/group-news.js";
import { abortable, abortableCall } from "../core/lifecycle.js";
import { MAX_MEMBERS_AT_ONCE } from "../core/membership-limits.js";
import type { Members } from "../core/members.js";
import { validName, validText } from "../core/names.js";
import { anInteger, aSignal, aString, type Checks, checkOptions } from "../core/options.js";
import type { Runtime } from "../core/runtime.js";
import type { Seat } from "../core/seats.js";
import type { Gauge } from "../core/telemetry.js";
import { encodeMeta, type PresentMember, toPresent } from "./member.js";
import { PresenceWatch } from "./watch.js";

export interface PresenceOptions {
  /** Members that may be present, beyond which entering is a `LimitError`. Default 100,000. */
  readonly maxMembers?: number;
}

/** One connection of a member, of which there may be several, here and elsewhere. */
export interface PresenceConnection extends AsyncDisposable {
  readonly id: string;
  /** Replaces the meta. @throws {InvalidArgumentError} once the connection has left */
  update(meta: unknown, options?: CallOptions): Promise<void>;
  /**
   * Leaves at once; the member leaves with its last connection. Safe to call twice, and never rejects: where the store
   * cannot be reached, it is told later, and `onError` is told now.
   */
  leave(): Promise<void>;
}

export interface ListPresenceOptions extends CallOptions {
  /** Members of a page, at most 1,000; it may hold fewer. Default 100. */
  readonly limit?: number;
  /** Of the page before. */
  readonly cursor?: string;
}

export interface PresencePage {
  /** In the order in which they joined. Members that stay are listed once each, whoever else comes and goes. */
  readonly members: readonly PresentMember[];
  /** Members in all. */
  readonly count: number;
  /** Pass it to go on; absent on the last page. */
  readonly cursor?: string;
}

export interface WatchPresenceOptions extends CallOptions {
  /** Changes that may wait to be read, beyond which those of one member are told as one. Default 1,000. */
  readonly buffer?: number;
}

/** What this process holds and watches. */
export interface PresenceStats {
  /** Members that it has entered. */
  readonly members: number;
  readonly connections: number;
  readonly watchers: number;
  /** Members that it knows of, while somebody watches. */
  readonly known: number;
  /** Changes that watchers who read too slowly were told as one with others. */
  readonly merged: number;
}

interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface Presence {
  readonly name: string;
  /**
   * Enters a member with one connection, for as long as this broker lives or until it leaves. Present once it resolves.
   *
   * @param meta any JSON of up to 4 KiB; default `null`
   * @throws {LimitError} when `maxMembers` are present already, or for a meta that is too large
   */
  enter(id: string, meta?: unknown, options?: CallOptions): Promise<PresenceConnection>;
  /** One page of who is present now. */
  list(options?: ListPresenceOptions): Promise<PresencePage>;
  /** One member, while it is present. */
  get(id: string, options?: CallOptions): Promise<PresentMember | undefined>;
  isPresent(id: string, options?: CallOptions): Promise<boolean>;
  /** How many are present. */
  count(options?: CallOptions): Promise<number>;
  /**
   * Who is present, then every change, without a hole: what was missed, such as while the store was away, is found and told
   * as the changes that it comes to. A member that leaves is told once, however its process ended. Begins with the first
   * `next()`; ends with the loop, its signal or the broker.
   */
  watch(options?: WatchPresenceOptions): PresenceWatch;
  stats(): PresenceStats;
}

/** What `broker.presence` is. */
export type OpenPresence = (name: string, options?: PresenceOptions) => Presence;

const DEFAULT_MAX_MEMBERS = 100_000;
const DEFAULT_LIMIT = 100;
const DEFAULT_BUFFER = 1_000;

const PRESENCE_CHECKS: Checks<PresenceOptions> = { maxMembers: anInteger(1, 10_000_000) };
const CALL_CHECKS: Checks<CallOptions> = { signal: aSignal };
const LIST_CHECKS: Checks<ListPresenceOptions> = {
  ...CALL_CHECKS,
  limit: anInteger(1, MAX_MEMBERS_AT_ONCE),
  cursor: aString,
};
const WATCH_CHECKS: Checks<WatchPresenceOptions> = { ...CALL_CHECKS, buffer: anInteger(1, 1_000_000) };

export function createPresence(runtime: Runtime, members: Members): OpenPresence {
  return (name, options) => {
    checkOptions("presence", options, PRESENCE_CHECKS);
    const channel = validName("presence", name);
    return createOne({
      runtime,
      members,
      name: channel,
      group: `presence:${channel}`,
      maxMembers: options?.maxMembers ?? DEFAULT_MAX_MEMBERS,
      connections: runtime.telemetry.gauge("signalbox.presence.connections", { channel }),
    });
  };
}

interface Place {
  readonly runtime: Runtime;
  readonly members: Members;
  readonly name: string;
  /** Its name in the store. */
  readonly group: string;
  readonly maxMembers: number;
  /** How many this broker holds, as a metric. */
  readonly connections: Gauge;
}

function createOne(place: Place): Presence {
  const { runtime, members, name, group } = place;
  const { membership } = runtime.backend;
  const merged = { changes: 0 };

  async function call<T>(what: string, options: CallOptions | undefined, make: () => Promise<T>): Promise<T> {
    checkOptions(what, options, CALL_CHECKS);
    runtime.owner.assertOpen();
    const ask = async (): Promise<T> => {
      await members.tidy();
      return await make();
    };
    return await abortableCall(ask, options?.signal);
  }

  async function get(id: string, options?: CallOptions): Promise<PresentMember | undefined> {
    const member = validText("member id", id);
    const [found] = await call("presence.get", options, () => membership.find(group, [member]));
    return found && present(place, toKnown(found));
  }

  return {
    name,
    enter: async (id, meta = null, options = {}) => await enter(place, validText("member id", id), meta, options),
    async list(options = {}) {
      checkOptions("presence.list", options, LIST_CHECKS);
      const { limit = DEFAULT_LIMIT, cursor, signal } = options;
      const page = await call("presence.list", { ...(signal !== undefined && { signal }) }, () =>
        membership.list(group, { max: limit, cursor }),
      );
      const found = page.members.map((member) => present(place, toKnown(member)));
      return { members: found, count: page.count, ...(page.cursor !== undefined && { cursor: page.cursor }) };
    },
    get,
    isPresent: async (id, options) => (await get(id, options)) !== undefined,
    count: async (options) => (await call("presence.count", options, () => membership.list(group, { max: 0 }))).count,
    watch: (options = {}) => watch(place, merged, options),
    stats() {
      const found = members.find(group);
      return {
        members: found?.enrolment.seats.members ?? 0,
        connections: found?.enrolment.seats.connections ?? 0,
        watchers: found?.view?.listeners ?? 0,
        known: found?.view?.members.size ?? 0,
        merged: merged.changes,
      };
    },
  };
}

function present({ runtime, name }: Place, member: KnownMember): PresentMember {
  return toPresent(member, (error) => runtime.report(error, `the meta of "${member.id}" in ${name}`));
}

async function enter(
  { members, group, maxMembers, connections }: Place,
  id: string,
  meta: unknown,
  options: CallOptions,
): Promise<PresenceConnection> {
  checkOptions("presence.enter", options, CALL_CHECKS);
  options.signal?.throwIfAborted();
  const text = encodeMeta(meta);
  const { enrolment } = members.group(group);
  enrolment.maxMembers = maxMembers;
  const seat = enrolment.seats.add(id, text);
  connections.add(1);
  const giveUp = (): boolean => {
    const isHeld = enrolment.seats.remove(seat);
    if (isHeld) connections.add(-1);
    return isHeld;
  };
  try {
    await abortable(enrolment.told(id), options.signal);
  } catch (error) {
    // The store may know of it all the same.
    if (giveUp()) enrolment.tell();
    throw error;
  }
  let leaving: Promise<void> | undefined;
  const leave = (): Promise<void> => {
    // A failure is reported where it is tried again.
    leaving ??= giveUp() ? enrolment.told(id).catch(() => undefined) : Promise.resolve();
    return leaving;
  };
  return { id, update: (next, more) => update(enrolment, seat, next, more), leave, [Symbol.asyncDispose]: leave };
}

async function update(enrolment: Enrolment, seat: Seat, meta: unknown, options: CallOptions = {}): Promise<void> {
  checkOptions("presence.update", options, CALL_CHECKS);
  options.signal?.throwIfAborted();
  const text = encodeMeta(meta);
  if (!enrolment.seats.change(seat, text))
    throw new InvalidArgumentError(`this connection of "${seat.id}" has left: enter it again`);
  const { changes } = seat;
  const told = enrolment.told(seat.id).then(
    () => void (seat.accepted = text),
    (error: unknown) => {
      // What was refused does not come into force later, unless there is another update: that one's fate decides.
      if (seat.changes === changes && enrolment.seats.change(seat, seat.accepted)) enrolment.tell();
      throw error;
    },
  );
  await abortable(told, options.signal);
}

function watch(place: Place, merged: { changes: number }, options: WatchPresenceOptions): PresenceWatch {
  checkOptions("presence.watch", options, WATCH_CHECKS);
  const { runtime, members, name, group } = place;
  const counter = runtime.telemetry.counter("signalbox.presence.merged", { channel: name });
  const { owner } = runtime;
  const watching: PresenceWatch = new PresenceWatch({
    async start(listener) {
      owner.ownConsumer(owned);
      const watched = members.group(group);
      const view = await watched.watch(listener);
      return { members: view.members, close: () => watched.unwatch(view, listener) };
    },
    toPresent: (member) => present(place, member),
    buffer: options.buffer ?? DEFAULT_BUFFER,
    merged(changes) {
      merged.changes += changes;
      counter.add(changes);
    },
    report: (error) => runtime.report(error, `ending to watch ${name}`),
    ended: () => owner.disown(owned),
    signal: options.signal,
  });
  const owned: Consuming = { stats: () => [], close: () => watching.close() };
  return watching;
}
