/** A group's members as they are known from a list and from the news since. Pure state: hears, and says what has changed. */

import type { MemberPage } from "./backend.js";
import { type KnownChange, type KnownMember, type News, toKnown } from "./group-news.js";

export class GroupReplica {
  #version: number;
  readonly #members: Map<string, KnownMember>;
  /** News that came before those that they follow, by where they begin. */
  readonly #early = new Map<number, News>();

  constructor(version: number = 0, members: Map<string, KnownMember> = new Map()) {
    this.#version = version;
    this.#members = members;
  }

  get version(): number {
    return this.#version;
  }

  get members(): ReadonlyMap<string, KnownMember> {
    return this.#members;
  }

  /** How many news wait for others that are missing. */
  get early(): number {
    return this.#early.size;
  }

  /** Takes in what follows, now or once what is missing has come. @returns the changes, in their order */
  hear(news: News): KnownChange[] {
    if (news.version <= this.#version) return [];
    // A group that had no members before begins anew, whatever was missed.
    if (news.from !== this.#version && news.from !== 0) {
      this.#early.set(news.from, news);
      return [];
    }
    const changes: KnownChange[] = [];
    for (let next: News | undefined = news; next !== undefined; next = this.#early.get(this.#version)) {
      this.#early.delete(this.#version);
      this.#apply(next, changes);
    }
    for (const [from, { version }] of this.#early) if (version <= this.#version) this.#early.delete(from);
    return changes;
  }

  /** Becomes what another is. @returns the differences */
  become(other: GroupReplica): KnownChange[] {
    const changes: KnownChange[] = [];
    for (const id of this.#members.keys()) if (!other.#members.has(id)) this.#remove(id, undefined, changes);
    for (const member of other.#members.values()) this.#set(member, changes);
    this.#version = other.#version;
    this.#early.clear();
    for (const [from, news] of other.#early) this.#early.set(from, news);
    return changes;
  }

  #apply({ from, version, changes }: News, told: KnownChange[]): void {
    if (from === 0) {
      const joined = new Set(changes.map(({ member }) => member.id));
      for (const id of this.#members.keys()) if (!joined.has(id)) this.#remove(id, undefined, told);
    }
    for (const { kind, member } of changes) {
      if (kind === "left") this.#remove(member.id, member, told);
      else this.#set(member, told);
    }
    this.#version = version;
  }

  #set(member: KnownMember, told: KnownChange[]): void {
    const before = this.#members.get(member.id);
    if (before !== undefined && isSame(before, member)) return;
    this.#members.set(member.id, member);
    told.push({ kind: before === undefined ? "joined" : "updated", member });
  }

  /** @param last as it was when it left, where that is known */
  #remove(id: string, last: KnownMember | undefined, told: KnownChange[]): void {
    const before = this.#members.get(id);
    if (before === undefined) return;
    this.#members.delete(id);
    told.push({ kind: "left", member: last ?? before });
  }
}

function isSame(one: KnownMember, other: KnownMember): boolean {
  return (
    one.meta === other.meta &&
    one.connections === other.connections &&
    one.joinedAt === other.joinedAt &&
    one.lastSeen === other.lastSeen
  );
}

/** A list that is being read page by page while news come in. */
export class Listing {
  readonly #members = new Map<string, KnownMember>();
  readonly #heard: News[] = [];
  #from: number | undefined;
  #latest = 0;

  add({ version, members }: MemberPage): void {
    this.#from ??= version;
    this.#latest = Math.max(this.#latest, version);
    for (const member of members) this.#members.set(member.id, toKnown(member));
  }

  hear(news: News): void {
    this.#heard.push(news);
  }

  /** How many news it keeps. */
  get heard(): number {
    return this.#heard.length;
  }

  /**
   * Pages are of different moments: what came since the first of them makes them one.
   *
   * @returns the group as of the last page or later; undefined while news are missing
   */
  finish(): GroupReplica | undefined {
    const replica = new GroupReplica(this.#from, new Map(this.#members));
    for (const news of this.#heard.toSorted((one, other) => one.version - other.version)) replica.hear(news);
    return replica.version >= this.#latest ? replica : undefined;
  }
}
