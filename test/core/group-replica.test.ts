/** What a watcher makes of lists and news: whatever is lost, late, doubled or in the wrong order, it comes to the truth. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Member, MemberChange, MembershipChange } from "../../src/core/backend.js";
import { decodeNews, encodeNews, type KnownMember, type News, toKnown } from "../../src/core/group-news.js";
import { GroupReplica, Listing } from "../../src/core/group-replica.js";

function member(id: string, meta: string = ""): Member {
  return { id, meta: Buffer.from(meta), connections: 1, joinedAt: 1, lastSeen: 1 };
}

function news(
  from: number,
  version: number,
  ...changes: readonly (readonly [MemberChange["kind"], string, string?])[]
): News {
  return { from, version, changes: changes.map(([kind, id, meta]) => ({ kind, member: toKnown(member(id, meta)) })) };
}

function told(changes: readonly { kind: string; member: KnownMember }[]): string[] {
  return changes.map(({ kind, member: { id, meta } }) => `${kind} ${id}${meta && `=${meta}`}`);
}

describe("a replica", () => {
  test("takes in news that follow each other, and those that came too early once the missing ones are there", () => {
    const replica = new GroupReplica();
    expect(told(replica.hear(news(0, 5, ["joined", "ada"])))).toEqual(["joined ada"]);
    expect(replica.hear(news(7, 8, ["left", "ada"]))).toEqual([]);
    expect(replica.hear(news(6, 7, ["updated", "ada", "y"]))).toEqual([]);
    expect(replica.early).toBe(2);
    expect(told(replica.hear(news(5, 6, ["updated", "ada", "x"])))).toEqual([
      "updated ada=x",
      "updated ada=y",
      "left ada",
    ]);
    expect([replica.version, replica.early, replica.members.size]).toEqual([8, 0, 0]);
  });

  test("passes over what it knows already", () => {
    const replica = new GroupReplica();
    const first = news(0, 5, ["joined", "ada"]);
    replica.hear(first);
    expect(replica.hear(first)).toEqual([]);
    replica.hear(news(5, 6, ["updated", "ada", "x"]));
    expect(replica.hear(news(4, 5, ["left", "ada"]))).toEqual([]);
    expect(replica.members.get("ada")?.meta).toBe("x");
  });

  test("begins anew with a group that had nobody in it, whatever it missed", () => {
    const replica = new GroupReplica();
    replica.hear(news(0, 5, ["joined", "ada"], ["joined", "bob"]));
    expect(told(replica.hear(news(0, 20, ["joined", "bob", "x"], ["joined", "cleo"])))).toEqual([
      "left ada",
      "updated bob=x",
      "joined cleo",
    ]);
    expect(replica.version).toBe(20);
  });

  test("becomes what a list says, and tells the differences only", () => {
    const replica = new GroupReplica();
    replica.hear(news(0, 5, ["joined", "ada"], ["joined", "bob"], ["joined", "cleo"]));
    const listing = new Listing();
    listing.add({ version: 3, count: 3, members: [member("bob"), member("cleo", "x"), member("dan")] });
    // Also where the list is older by its numbers: the server's history is the one that counts.
    expect(told(replica.become(listing.finish()!))).toEqual(["left ada", "updated cleo=x", "joined dan"]);
    expect(replica.version).toBe(3);
  });
});

describe("a list of several pages", () => {
  test("is whole only with all news since its first page", () => {
    const listing = new Listing();
    listing.add({ version: 5, count: 2, members: [member("ada")], cursor: "1" });
    listing.hear(news(6, 7, ["left", "ada"]));
    listing.add({ version: 7, count: 1, members: [member("bob")] });
    expect(listing.finish()).toBeUndefined();
    listing.hear(news(5, 6, ["joined", "cleo"]));
    const replica = listing.finish();
    expect([...(replica?.members.keys() ?? [])].toSorted()).toEqual(["bob", "cleo"]);
    expect(replica?.version).toBe(7);
  });
});

/** A group's history: after each change, who is there. */
interface Moment {
  readonly version: number;
  readonly news: News;
  readonly members: ReadonlyMap<string, KnownMember>;
}

const steps = fc.array(
  fc.record({
    id: fc.constantFrom("a", "b", "c", "d", "e", "f"),
    meta: fc.constantFrom("x", "y", "z"),
    leaves: fc.boolean(),
  }),
  { minLength: 1, maxLength: 60 },
);

function historyOf(all: readonly { id: string; meta: string; leaves: boolean }[]): Moment[] {
  const moments: Moment[] = [{ version: 0, news: news(0, 0), members: new Map() }];
  for (const [index, { id, meta, leaves }] of all.entries()) {
    const before = moments.at(-1)!;
    const known = before.members.get(id);
    if (leaves && known === undefined) continue;
    const version = index + 1;
    const next: KnownMember = { ...toKnown(member(id, meta)), lastSeen: version };
    const kind = leaves ? "left" : known === undefined ? "joined" : "updated";
    const members = new Map(before.members);
    members.delete(id);
    if (!leaves)
      members.set(id, known === undefined ? { ...next, joinedAt: version } : { ...next, joinedAt: known.joinedAt });
    const change = { kind, member: leaves ? { ...known!, lastSeen: version } : members.get(id)! } as const;
    moments.push({ version, news: { from: before.version, version, changes: [change] }, members });
  }
  return moments;
}

const byId = (members: ReadonlyMap<string, KnownMember>): KnownMember[] =>
  [...members.values()].toSorted((one, other) => one.id.localeCompare(other.id));

test("news in any order come to the truth, and what is told adds up to it", () => {
  fc.assert(
    fc.property(steps, fc.infiniteStream(fc.nat()), (all, chance) => {
      const moments = historyOf(all);
      const replica = new GroupReplica();
      const view = new Map<string, KnownMember>();
      const order = moments.slice(1).map(({ news }) => ({ news, at: chance.next().value }));
      for (const { news } of order.toSorted((one, other) => one.at - other.at)) {
        for (const { kind, member } of replica.hear(news)) {
          expect(view.has(member.id)).toBe(kind !== "joined");
          if (kind === "left") view.delete(member.id);
          else view.set(member.id, member);
        }
      }
      expect(byId(replica.members)).toEqual(byId(moments.at(-1)!.members));
      expect(byId(view)).toEqual(byId(replica.members));
      expect(replica.early).toBe(0);
    }),
  );
});

test("pages of any moments and the news since the first come to the truth", () => {
  fc.assert(
    fc.property(steps, fc.array(fc.nat({ max: 10 }), { minLength: 1, maxLength: 6 }), (all, pauses) => {
      const moments = historyOf(all);
      const listing = new Listing();
      let at = Math.min(pauses[0]!, moments.length - 1);
      let place = -1;
      for (const pause of pauses) {
        const { version, members } = moments[at]!;
        // In the order in which they joined, two at a time.
        const behind = [...members.values()]
          .filter(({ joinedAt }) => joinedAt > place)
          .toSorted((one, other) => one.joinedAt - other.joinedAt);
        const isLast = pause === pauses.at(-1);
        const page = isLast ? behind : behind.slice(0, 2);
        place = page.at(-1)?.joinedAt ?? place;
        const shown = page.map((known) => ({ ...known, meta: Buffer.from(known.meta) }));
        listing.add({ version, count: members.size, members: shown });
        if (isLast) break;
        for (let passed = 0; passed < pause && at < moments.length - 1; passed += 1)
          listing.hear(moments[(at += 1)]!.news);
      }
      const replica = listing.finish();
      expect(byId(replica!.members)).toEqual(byId(moments[at]!.members));
    }),
  );
});

describe("news on the wire", () => {
  const change = (changes: readonly MemberChange[]): MembershipChange => ({
    from: 10,
    version: 10 + changes.length,
    changes,
  });

  test("come out as they went in, in pieces that go on where the one before has ended", () => {
    const changes = Array.from({ length: 100 }, (_, index): MemberChange => {
      return {
        kind: index % 3 === 0 ? "joined" : "left",
        member: member(`m${index}`, JSON.stringify(`é😀\n${"x".repeat(2_000)}`)),
      };
    });
    const messages = encodeNews(change(changes));
    expect(messages.length).toBeGreaterThan(3);
    for (const message of messages) expect(message.length).toBeLessThan(64 * 1_024);
    const pieces = messages.map((message) => decodeNews(Buffer.from(message))!);
    expect(pieces.flatMap((piece) => piece.changes)).toEqual(
      changes.map(({ kind, member }) => ({ kind, member: toKnown(member) })),
    );
    expect([pieces[0]?.from, pieces.at(-1)?.version]).toEqual([10, 110]);
    for (const [index, { from, version, changes }] of pieces.entries()) {
      expect([from, version - from]).toEqual([pieces[index - 1]?.version ?? 10, changes.length]);
    }
  });

  test("that tell of no change still tell the version", () => {
    expect(encodeNews(change([])).map((message) => decodeNews(Buffer.from(message)))).toEqual([news(10, 10)]);
  });

  test.each([
    "",
    "no json",
    "[]",
    "null",
    '{"from":1,"version":"2","changes":[]}',
    '{"from":1,"version":2}',
    '{"from":1,"version":2,"changes":[{"kind":"came","member":{}}]}',
    '{"from":1,"version":2,"changes":[{"kind":"left","member":{"id":"a"}}]}',
    '{"from":1,"version":2,"changes":[null]}',
    '{"from":1,"version":2,"changes":[{"kind":"left","member":{"id":"a","meta":"no json","connections":1,"joinedAt":1,"lastSeen":1}}]}',
  ])("that are none are told from those that are: %s", (text) => {
    expect(decodeNews(Buffer.from(text))).toBeUndefined();
  });
});
