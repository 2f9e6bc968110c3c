/** Every Redis key and channel of signalbox is made here, and nowhere else. */

import { InvalidArgumentError } from "../../core/errors.js";

/** Layout version: a build that cannot read a layout does not find its keys. */
const LAYOUT = "sb1";
/** A name is one partition today; the number keeps room for spreading it over a Cluster. */
const PARTITION = 0;

/** Keys of a stream and its groups, all in one Cluster slot. */
export interface LogKeys {
  /**
   * Stream: field `m` is header, line feed, data; field `k` is the key of entries that have one; field `g` is the group of
   * redriven ones, which are for no other.
   */
  readonly stream: string;
  /**
   * Hash: `retention` as JSON, `agedAt` when entries were last looked at for their age, `removed` how many entries were
   * dropped with every group's knowledge, `ids` which generation of ids is the current one and since when, `redriven` the
   * last position of a redriven message, `server` the one whose counts of what groups have read are right.
   */
  readonly limits: string;
  /** Two hashes, the current generation and the one before it: id to position. */
  readonly ids: readonly [string, string];
  /** Hash: group name to its settings as JSON. */
  readonly groups: string;
  /** Zset over all groups: `<position> <group>` of each parked retry and held entry, scored by the position's milliseconds. */
  readonly parked: string;
  /** Hash: group name to how many never delivered entries were dropped beneath it and not yet reported. */
  readonly dropped: string;
  /** Hash: name of a paused group to `<cursor> <entries read>`, what it goes on with. */
  readonly paused: string;
  /** Hash: name of a group that was deleted to when that was, so that its consumers do not take it for lost. */
  readonly deleted: string;
  /** Hash: what one publisher has applied last. */
  publisher(id: string): string;
  group(name: string): GroupKeys;
}

/** Keys of one group, in its stream's slot. */
export interface GroupKeys {
  /** Hash: position to `<fence> <attempt>` of deliveries beyond their first, and when one first failed, if one did. */
  readonly attempts: string;
  /** Zset: positions of parked retries, scored by when they are due. */
  readonly due: string;
  /** Stream of dead letters. */
  readonly dead: string;
  /**
   * Hash: `base`, which fences begin with since the last seek; `progress`, when something was last taken or settled;
   * `leases` that were in force before and until when; `ordered`, when the order changed; `after`, `began`, `checked`,
   * `removed` and `unheld`: how far looks through the group have come, most of them once a second.
   */
  readonly sweep: string;
  /** Hash: `k<key>` to the position that it is busy with, `p<position>` to its key; `#` only keeps it a hash table. */
  readonly busy: string;
  /** Zset: entries that were read and wait for another of their key, as `<key's length>:<key>:<position>`, or `!<position>`. */
  readonly held: string;
}

/**
 * Keys of a queue, all in one Cluster slot. Scripts make those that are not handed to them from the prefix that `records`
 * begins with: `lua/lib/keyspace.lua` writes them as {@link queueKeys} does.
 *
 * In keys, members and fields, recipients are named as {@link encodeName} writes them, unless something else is said.
 */
export interface QueueKeys {
  /** Hash: id to the record of every unfinished item: `records.ts`. */
  readonly records: string;
  /**
   * Hash: `line`, the last place in line that was given; `records`, what is kept of items, as JSON; `ids`, which generation
   * of ids is the current one and since when; `registered`, how many recipients were registered so far; `fanout`, until
   * when unfinished fan-outs are left to their publishers; `answers`, how many of the records are answers.
   */
  readonly state: string;
  /** Zset: recipients with items that expire, their names as they are, scored by the soonest expiry. */
  readonly expiring: string;
  /** Zset of all recipients but the shared one that items were pushed for by name, all with the score 0. */
  readonly inboxes: string;
  /** Zset of registered recipients, scored by their number: the order of their registration. */
  readonly recipients: string;
  /** Hash: registered recipient to the time in ms after which it lapses. */
  readonly registrations: string;
  /** Zset of the registered recipients that items for an audience reach, scored by a number: the order in which they get them. */
  readonly audience: string;
  /** Zset of registered recipients, scored by when they lapse. */
  readonly lapses: string;
  /** Zset of recipients that a feed is open for, scored by until when that holds. */
  readonly online: string;
  /** Zset: place in line and id of each kept record, scored by when it was finished. */
  readonly kept: string;
  /** Two hashes, the current generation and the one before it, of ids that callers gave: id to nothing. */
  readonly ids: readonly [string, string];
  /** A key that never exists: {@link queueKeys}. */
  readonly none: string;
  /** Hash: what one publisher has applied last. */
  publisher(id: string): string;
  /** Zset of place in line and id, all with the score 0: of all items and kept records, or of those with something in common. */
  index(of: "all" | "acked" | "dead" | "expired" | IndexedValue): string;
  recipient(name: string): RecipientKeys;
}

/** An indexed field and its value, as {@link indexedValue} writes them. */
export type IndexedValue = `${string}:${string}`;

/**
 * Keys of one recipient, in its queue's slot. Members of the zsets are tickets, `<place><expiry>|<priority>|<id>`: the
 * place in line is 12 digits to the base of 36, the expiry milliseconds since the epoch or nothing. Behind the place is a
 * `*` where others may have the item as well.
 */
export interface RecipientKeys {
  /** Zset of tickets ready to be taken, scored by minus their priority. */
  readonly waiting: string;
  /** Zset of tickets held by consumers, scored by when their lease ends. */
  readonly leased: string;
  /** Zset of tickets that are not ready yet, scored by when they will be. */
  readonly due: string;
  /**
   * Hash: ticket to `<fence> <attempt>@<first failure>+<put back> <consumer>` of deliveries beyond their first, without what
   * is not known.
   */
  readonly attempts: string;
  /** Zset of tickets that expire and are not known to be held, scored by their expiry. */
  readonly expiry: string;
  /** Stream of dead letters. */
  readonly dead: string;
  /**
   * Hash: `expired` and `dropped` count since the recipient exists, `unreported` and `gone` those of them that no consumer
   * was told of; `paused`; `turn` and `level`, how far weighted priorities have come; `forgotten` while it is being forgotten.
   */
  readonly counters: string;
  /** Zset with at most one member, which wakes one waiting consumer. */
  readonly bell: string;
  /** Zset of open feeds, scored by until when they are believed to be. */
  readonly listeners: string;
  /** String: what one consumer took last, in case it never heard of it; a copy for each take that it may have under way. */
  taken(consumer: string, copy: number): string;
}

/** Keys of a group of members, all in one Cluster slot. */
export interface MemberKeys {
  /**
   * Hash: `v` is the version; `h<holder>` is `<number> <version>` of its last call here, or `-` once it has lapsed.
   */
  readonly state: string;
  /** Hash: id to the record of a member, and of whoever holds it; `lua/lib/members.lua` has the form. */
  readonly members: string;
  /** Zset: ids of members, scored by the version with which they joined. */
  readonly order: string;
  /** Zset: holders in `state` that have no members here any more, scored by since when (ms). */
  readonly fading: string;
  /** Set: ids of the members that a holder holds here. */
  ids(holder: string): string;
}

/** Keys of a holder, in a Cluster slot of its own. */
export interface HolderKeys {
  /** Hash: `end` of the lease (ms), 0 once it is over; `renewed`, when it last was. */
  readonly lease: string;
  /** Zset: groups that it may have members in, scored by the number of the call that joined last. */
  readonly groups: string;
}

/**
 * Writes a name so that it cannot be mistaken for a part of a key: `[A-Za-z0-9._-]` stays, every other byte of its
 * UTF-8 becomes `%XX`.
 *
 * @throws {InvalidArgumentError} for half a surrogate pair, which has no UTF-8
 */
export function encodeName(name: string): string {
  if (/^[\w.-]*$/.test(name)) return name;
  try {
    return encodeURIComponent(name).replace(/[!~*'()]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  } catch (error) {
    throw new InvalidArgumentError("a name must be well-formed Unicode", { cause: error });
  }
}

/** The name that {@link encodeName} wrote. */
export function decodeName(encoded: string): string {
  return decodeURIComponent(encoded);
}

/** An item's id as it is stored: without line feeds, which separate tickets from each other in replies. */
export function toStoredId(id: string): string {
  return /[\n%]/.test(id) ? id.replaceAll("%", "%25").replaceAll("\n", "%0A") : id;
}

/** The id that {@link toStoredId} wrote. */
export function fromStoredId(stored: string): string {
  return stored.includes("%") ? stored.replaceAll("%0A", "\n").replaceAll("%25", "%") : stored;
}

/** Whether a command's word is a key or a channel of signalbox. Payloads come behind them. */
export function isKeyOrChannel(word: string): boolean {
  return word.startsWith(`${LAYOUT}:`);
}

/** The keys of a stream. */
export function logKeys(namespace: string, stream: string): LogKeys {
  const prefix = slotOf(namespace, "log", stream);
  return {
    stream: `${prefix}s`,
    limits: `${prefix}limits`,
    ids: [`${prefix}ids:0`, `${prefix}ids:1`],
    groups: `${prefix}groups`,
    parked: `${prefix}parked`,
    dropped: `${prefix}dropped`,
    paused: `${prefix}paused`,
    deleted: `${prefix}deleted`,
    publisher: (id) => `${prefix}pub:${encodeName(id)}`,
    group(name) {
      const own = `${prefix}g:${encodeName(name)}:`;
      return {
        attempts: `${own}attempts`,
        due: `${own}due`,
        dead: `${own}dead`,
        sweep: `${own}sweep`,
        busy: `${own}busy`,
        held: `${own}held`,
      };
    },
  };
}

/**
 * The keys of a queue.
 *
 * A script may only use keys that it was not given where a Cluster is not just moving their slot. So it is given one that
 * never exists as well: with some of its keys missing, a moving slot refuses it before its first write, to be tried again.
 */
export function queueKeys(namespace: string, queue: string): QueueKeys {
  const prefix = slotOf(namespace, "queue", queue);
  return {
    records: `${prefix}records`,
    state: `${prefix}state`,
    expiring: `${prefix}expiring`,
    inboxes: `${prefix}inboxes`,
    recipients: `${prefix}recipients`,
    registrations: `${prefix}registrations`,
    audience: `${prefix}audience`,
    lapses: `${prefix}lapses`,
    online: `${prefix}online`,
    kept: `${prefix}kept`,
    ids: [`${prefix}ids:0`, `${prefix}ids:1`],
    none: `${prefix}none`,
    publisher: (id) => `${prefix}pub:${encodeName(id)}`,
    index: (of) => `${prefix}index:${of}`,
    recipient(name) {
      const own = `${prefix}r:${encodeName(name)}:`;
      return {
        waiting: `${own}waiting`,
        leased: `${own}leased`,
        due: `${own}due`,
        attempts: `${own}attempts`,
        expiry: `${own}expiry`,
        dead: `${own}dead`,
        counters: `${own}counters`,
        bell: `${own}bell`,
        listeners: `${own}listeners`,
        taken: (consumer, copy) => `${own}taken:${encodeName(consumer)}:${copy}`,
      };
    },
  };
}

/** By what items with this value of an indexed field are found. Encoded names contain no colon. */
export function indexedValue(field: string, value: string): IndexedValue {
  return `${encodeName(field)}:${encodeName(value)}`;
}

/** The keys of a group of members. */
export function memberKeys(namespace: string, group: string): MemberKeys {
  const prefix = slotOf(namespace, "group", group);
  return {
    state: `${prefix}state`,
    members: `${prefix}members`,
    order: `${prefix}order`,
    fading: `${prefix}fading`,
    ids: (holder) => `${prefix}h:${encodeName(holder)}`,
  };
}

/** The keys of a holder. */
export function holderKeys(namespace: string, holder: string): HolderKeys {
  const prefix = slotOf(namespace, "holder", holder);
  return { lease: `${prefix}lease`, groups: `${prefix}groups` };
}

/**
 * Zset: all holders of a namespace, scored by the end of their lease. It is for finding them alone: whether a lease is over
 * is for the holder's own keys to say, which may be on another server.
 */
export function leasesKey(namespace: string): string {
  return `${slotOf(namespace, "holders", "")}leases`;
}

/** What is between the braces decides the Cluster slot; encoded names contain none. */
function slotOf(namespace: string, kind: "log" | "queue" | "group" | "holder" | "holders", name: string): string {
  return `${LAYOUT}:{${encodeName(namespace)}:${kind}:${encodeName(name)}:${PARTITION}}:`;
}

/** The Redis channel of a broadcast channel. */
export function channelKey(namespace: string, channel: string): string {
  return channelPrefix(namespace) + channel;
}

/** The Redis pattern for the channels of one namespace that match a glob. */
export function channelPattern(namespace: string, pattern: string): string {
  return channelPrefix(namespace).replace(/[\\*?[\]]/g, "\\$&") + pattern;
}

/** The broadcast channel behind a Redis channel, or undefined where it is of another namespace. */
export function channelName(namespace: string, key: string): string | undefined {
  const prefix = channelPrefix(namespace);
  return key.startsWith(prefix) ? key.slice(prefix.length) : undefined;
}

/** Channels are not bound to slots, and their names are matched by Redis itself, so they stay as they are. */
function channelPrefix(namespace: string): string {
  return `${LAYOUT}:${encodeName(namespace)}:b:`;
}
