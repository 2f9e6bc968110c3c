/** Presence when its store fails, forgets or tells nothing, when a clock jumps, and when processes die. */

import { describe, expect, test } from "vitest";
import { ConnectionError } from "../../src/core/errors.js";
import { newsChannel } from "../../src/core/group-news.js";
import { type Opened, openStore, type Store } from "./members-support.js";

const LEASE_MS = 9_000;
const away = new ConnectionError("the store is away");

function enter({ broker }: Opened, id: string, meta: unknown = null) {
  return broker.presence("lobby").enter(id, meta);
}

/** A store with two brokers that watch and one that has entered `ada`. */
async function openLobby(): Promise<{
  store: Store;
  one: Opened;
  two: Opened;
  holder: Opened;
  holderName: () => Promise<string>;
}> {
  const store = await openStore();
  const [one, two, holder] = [await store.open(), await store.open(), await store.open({ leaseMs: LEASE_MS })];
  await enter(holder, "ada");
  const holderName = async (): Promise<string> => (await holder.broker.health()).details.presence?.holder ?? "none";
  return { store, one, two, holder, holderName };
}

describe("news that are lost", () => {
  test("are found by the version, and told as what they come to", async () => {
    const { store, one, two, holder } = await openLobby();
    const watchers = [await one.watch(), await two.watch()];
    holder.tells = false;
    await enter(holder, "bob", 1);
    const cleo = await enter(holder, "cleo");
    await cleo.leave();
    await store.pass(2_500);
    for (const { seen } of watchers) expect(seen).toEqual(["snapshot ada", "joined bob"]);
    expect(one.events().filter((event) => event === "presence_listed")).toHaveLength(1);
  });

  test("cost a list at once when others follow them", async () => {
    const { store, one, holder } = await openLobby();
    const watcher = await one.watch();
    holder.tells = false;
    await enter(holder, "bob");
    holder.tells = true;
    await enter(holder, "cleo");
    await store.pass(500);
    expect(watcher.seen).toEqual(["snapshot ada", "joined bob", "joined cleo"]);
  });

  test("of a reaper that died before it could tell cost nobody a leave, and nobody sees it twice", async () => {
    const { store, one, two, holder, holderName } = await openLobby();
    await enter(two, "stays");
    const watchers = [await one.watch(), await two.watch()];
    const name = await holderName();
    holder.failure = away;
    await store.membership.end(name);
    await store.membership.reap(name);
    await store.pass(3_000);
    for (const { seen } of watchers) expect(seen).toEqual(["snapshot ada stays", "left ada"]);
  });

  test("after a gap are found by a list, of which the differences alone are told", async () => {
    const { store, one, holder } = await openLobby();
    await enter(holder, "bob");
    const watcher = await one.watch();
    holder.tells = false;
    await enter(holder, "cleo");
    one.gap();
    await store.pass(300);
    expect(watcher.seen).toEqual(["snapshot ada bob", "joined cleo"]);
    one.gap();
    await store.pass(300);
    expect(watcher.seen).toHaveLength(2);
    expect(one.calls.get("list")).toBe(3);
  });

  test("are no reason to read a list where nothing happens", async () => {
    const { store, one, holder } = await openLobby();
    await one.watch();
    const bob = await enter(holder, "bob");
    await bob.leave();
    await store.pass(60_000);
    expect(one.calls.get("list")).toBe(1);
    // Also where the last one has left, and the store has forgotten the group.
    const empty = await one.watch("den");
    const cleo = await holder.broker.presence("den").enter("cleo");
    await cleo.leave();
    await store.pass(60_000);
    expect(empty.seen).toEqual(["snapshot", "joined cleo", "left cleo"]);
    expect(one.calls.get("list")).toBe(2);
  });
});

describe("a meta that is no JSON", () => {
  test("in forged news is not believed: the list is read again, and the watching goes on", async () => {
    const { store, one, holder } = await openLobby();
    const watcher = await one.watch();
    const forged = { id: "eve", meta: "no json", connections: 1, joinedAt: 1, lastSeen: 1 };
    const data = JSON.stringify({ from: 0, version: 9e15, changes: [{ kind: "joined", member: forged }] });
    await store.publish(newsChannel("presence:lobby"), data);
    await store.pass(1_000);
    await enter(holder, "bob");
    await store.pass(100);
    expect(watcher.seen).toEqual(["snapshot ada", "joined bob"]);
    expect([watcher.isOpen(), one.calls.get("list")]).toEqual([true, 2]);
  });

  test("in the store is told as null and reported, and all members are there", async () => {
    const { store, one, holder, holderName } = await openLobby();
    const eve = { id: "eve", meta: "no json", connections: 1 };
    await store.membership.join("presence:lobby", await holderName(), [eve], { maxMembers: 10 });
    await enter(holder, "bob", 1);
    const lobby = one.broker.presence("lobby");
    const { members } = await lobby.list();
    expect(members.map(({ id, meta }) => [id, meta])).toEqual([
      ["ada", null],
      ["eve", null],
      ["bob", 1],
    ]);
    expect(one.reports).toMatchObject([{ code: "CODEC" }]);
    expect(await lobby.get("eve")).toMatchObject({ meta: null });
    expect((await one.watch()).seen).toEqual(["snapshot ada eve bob"]);
    expect(one.reports).toHaveLength(3);
  });
});

describe("a list of many pages", () => {
  test("and the changes while it is read make one snapshot, without reading it again", async () => {
    const { store, one, holder } = await openLobby();
    const lobby = holder.broker.presence("lobby");
    const entered = await Promise.all(Array.from({ length: 2_500 }, (_, index) => lobby.enter(`m${index}`)));
    let pages = 0;
    one.afterPage = async () => {
      pages += 1;
      // Of those that were listed, and of those that are yet to be; somebody new; somebody who comes back.
      if (pages === 1) await Promise.all([entered[0]?.leave(), entered[2_400]?.leave(), entered[5]?.update("changed")]);
      if (pages === 2) await Promise.all([lobby.enter("new"), lobby.enter("m0", "back")]);
    };
    const watcher = await one.watch();
    expect([watcher.seen.length, watcher.present.size, pages]).toEqual([1, 2_501, 3]);
    expect(["m0", "m5", "new"].map((id) => watcher.present.get(id)?.meta)).toEqual(["back", "changed", null]);
    expect(watcher.present.has("m2400")).toBe(false);
    one.afterPage = undefined;
    await store.pass(5_000);
    expect([watcher.seen.length, one.calls.get("list")]).toEqual([1, 3]);
  });
});

describe("the lease", () => {
  test("is renewed three times in its time, by one timer, however many members there are", async () => {
    const store = await openStore();
    const one = await store.open();
    for (let group = 0; group < 10; group += 1) {
      const presence = one.broker.presence(`room-${group}`);
      await Promise.all(Array.from({ length: 100 }, (_, index) => presence.enter(`m${index}`)));
    }
    const joins = one.calls.get("join");
    await store.pass(270_000);
    expect(one.calls.get("renew")).toBeGreaterThanOrEqual(8);
    expect(one.calls.get("renew")).toBeLessThanOrEqual(9);
    expect([one.calls.get("join"), one.calls.get("begin")]).toEqual([joins, 1]);
    // A look every 600 ms or so, and a comparison of all groups with every second one.
    expect(one.calls.get("lapsing")).toBeLessThan(500);
    expect(one.calls.get("versions")).toBeLessThan(250);
  });

  test("of a process that died is over once, within two seconds, for everybody", async () => {
    const store = await openStore();
    const watchers = [];
    for (let index = 0; index < 5; index += 1) watchers.push(await (await store.open()).watch());
    const dead = await store.open({ leaseMs: LEASE_MS, timers: "hang" });
    for (const id of ["ada", "bob"]) await enter(dead, id);
    await store.pass(LEASE_MS - 100);
    for (const { seen } of watchers) expect(seen).toEqual(["snapshot", "joined ada", "joined bob"]);
    await store.pass(2_000);
    for (const { seen } of watchers) expect(seen.slice(3)).toEqual(["left ada", "left bob"]);
  });

  test("of one that cannot be taken away holds up no other that died", async () => {
    const store = await openStore();
    const one = await store.open();
    const watcher = await one.watch();
    for (const id of ["stuck", "ada"]) {
      await store.membership.begin(id, LEASE_MS);
      await store.membership.join("presence:lobby", id, [{ id, meta: "null", connections: 1 }], { maxMembers: 10 });
    }
    one.unreapable = "stuck";
    await store.pass(LEASE_MS + 2_000);
    await store.pass(1_000);
    expect([...watcher.present.keys()]).toEqual(["stuck"]);
    one.unreapable = undefined;
    await store.pass(3_000);
    expect([...watcher.present.keys()]).toEqual([]);
  });

  test("that somebody took away keeps nobody waiting who leaves or enters in the same call", async () => {
    const { store, one, holder, holderName } = await openLobby();
    const bob = await enter(holder, "bob");
    const name = await holderName();
    await store.membership.end(name);
    while (!(await store.membership.reap(name)).isDone);
    const both = Promise.all([bob.leave(), enter(holder, "cleo")]);
    await store.pass(2_000);
    await both;
    const { members } = await one.broker.presence("lobby").list();
    expect(members.map(({ id }) => id).toSorted()).toEqual(["ada", "cleo"]);
  });

  test("that somebody took away is replaced: everything is entered again, and told", async () => {
    const { store, one, holder, holderName } = await openLobby();
    await enter(holder, "ada", "twice");
    const watcher = await one.watch();
    const name = await holderName();
    await store.membership.end(name);
    while (!(await store.membership.reap(name)).isDone);
    await store.pass(LEASE_MS / 3 + 1_000);
    expect(await one.broker.presence("lobby").list()).toMatchObject({
      members: [{ id: "ada", meta: "twice", connections: 2 }],
    });
    expect(await holderName()).not.toBe(name);
    expect(watcher.present.get("ada")?.connections).toBe(2);
    expect(holder.reports.map(({ message }) => message)).toEqual([
      `the lease of holder "${name}" was lost; its 1 members are entered again by another`,
    ]);
    expect(holder.events()).toContain("presence_lapsed");
  });

  test("of a process that was stopped for too long is replaced when it goes on", async () => {
    const { store, one, holder } = await openLobby();
    const watcher = await one.watch();
    holder.failure = away;
    await store.pass(LEASE_MS + 2_000);
    expect(watcher.seen).toEqual(["snapshot ada", "left ada"]);
    holder.failure = undefined;
    await store.pass(1_000);
    expect(watcher.seen).toEqual(["snapshot ada", "left ada", "joined ada"]);
    expect(holder.reports[0]).toBe(away);
    expect(holder.events().filter((event) => event.startsWith("presence_"))).toEqual([
      "presence_failing",
      "presence_lapsed",
      "presence_recovered",
    ]);
  });

  test("shows in health when it is not renewed", async () => {
    const { store, holder } = await openLobby();
    holder.failure = away;
    await store.pass(LEASE_MS * 0.8);
    const { status, details } = await holder.broker.health();
    expect([status, details.presence?.ok, details.presence?.error]).toEqual([
      "degraded",
      false,
      expect.stringMatching(/^the lease of 9000 ms was not renewed for \d+ ms$/),
    ]);
  });
});

describe("whoever could not renew because the store was away", () => {
  test("is not taken for dead by who had seen that its lease was over, and is the first to be back", async () => {
    const { store, one, two, holder } = await openLobby();
    const watcher = await one.watch();
    const looks = (): number => one.calls.get("lapsing") ?? 0;
    two.failure = away;
    holder.failure = away;
    // It has seen it once, and not had the time to do anything about it.
    while ((await store.membership.lapsing()).length === 0) await store.pass(50);
    const before = looks();
    while (looks() === before) await store.pass(20);
    one.failure = away;
    await store.pass(5_000);
    one.failure = undefined;
    const back = looks();
    while (looks() === back) await store.pass(20);
    holder.failure = undefined;
    await store.pass(5_000);
    expect(watcher.seen).toEqual(["snapshot ada"]);
  });
});

describe("who only asks", () => {
  test("is not told of who died when nobody was there to see it, and takes the grace for it once", async () => {
    const store = await openStore();
    const dead = await store.open({ leaseMs: LEASE_MS, timers: "hang" });
    await enter(dead, "ada");
    await store.pass(10 * LEASE_MS);
    const asks = await store.open();
    const lobby = asks.broker.presence("lobby");
    const asking = Promise.all([lobby.list(), lobby.count(), lobby.isPresent("ada")]);
    await store.pass(1_000);
    expect(await asking).toEqual([{ members: [], count: 0 }, 0, false]);
    expect([asks.calls.get("reap"), asks.events().filter((event) => event === "presence_reaped")]).toEqual([
      1,
      ["presence_reaped"],
    ]);
    expect(await lobby.count()).toBe(0);
    // Before the wait, after it, and once more for those that the store had not named.
    expect(asks.calls.get("lapsing")).toBe(3);
  });

  test("is told of none of more dead than the store names at once", async () => {
    const store = await openStore();
    for (let index = 0; index < 150; index += 1) {
      await store.membership.begin(`dead-${index}`, 1);
      const ghost = { id: `ghost-${index}`, meta: "null", connections: 1 };
      await store.membership.join("presence:lobby", `dead-${index}`, [ghost], { maxMembers: 1_000 });
    }
    await store.pass(LEASE_MS);
    const counting = (await store.open()).broker.presence("lobby").count();
    await store.pass(3_000);
    expect(await counting).toBe(0);
  });

  test("waits for nobody while all live, and asks for the dead no more often than it has to", async () => {
    const { holder, store } = await openLobby();
    const asks = await store.open();
    const lobby = asks.broker.presence("lobby");
    for (let times = 0; times < 10; times += 1) expect(await lobby.isPresent("ada")).toBe(true);
    expect([asks.calls.get("lapsing"), asks.calls.get("reap")]).toEqual([1, undefined]);
    // Nothing runs by itself in a broker that neither holds nor watches.
    await store.pass(60_000);
    expect(asks.calls.get("lapsing")).toBe(1);
    expect(holder.calls.get("lapsing")).toBeGreaterThan(50);
  });
});

describe("a store that is away", () => {
  for (const [how, ms] of [
    ["for less than the lease", LEASE_MS / 2],
    ["for longer than the lease", LEASE_MS * 3],
  ] as const) {
    test(`from everybody, ${how}, makes nobody leave`, async () => {
      const { store, one, two, holder } = await openLobby();
      const watchers = [await one.watch(), await two.watch()];
      for (const broker of [one, two, holder]) broker.failure = away;
      await store.pass(ms);
      for (const broker of [one, two, holder]) broker.failure = undefined;
      await store.pass(5_000);
      for (const { seen } of watchers) expect(seen).toEqual(["snapshot ada"]);
      expect(holder.calls.get("begin")).toBe(1);
    });
  }

  test("refuses to enter, and afterwards nothing of it is left", async () => {
    const { store, one, holder } = await openLobby();
    const watcher = await one.watch();
    holder.failure = away;
    await expect(enter(holder, "bob")).rejects.toBe(away);
    expect(holder.broker.presence("lobby").stats().members).toBe(1);
    holder.failure = undefined;
    await store.pass(2_000);
    expect(watcher.seen).toEqual(["snapshot ada"]);
  });

  test("refuses an update, and the meta from before stays, also afterwards", async () => {
    const { store, holder } = await openLobby();
    const bob = await enter(holder, "bob", "before");
    holder.failure = away;
    await expect(bob.update("after")).rejects.toBe(away);
    holder.failure = undefined;
    await store.pass(2_000);
    expect(await holder.broker.presence("lobby").get("bob")).toMatchObject({ meta: "before" });
    await bob.update("after");
    expect(await holder.broker.presence("lobby").get("bob")).toMatchObject({ meta: "after" });
  });

  test("brings back what was accepted last, whichever of several updates it has refused", async () => {
    const { store, holder } = await openLobby();
    const lobby = holder.broker.presence("lobby");
    const bob = await enter(holder, "bob", "entered");
    await bob.update("accepted");
    holder.failure = away;
    const refused = await Promise.allSettled(["one", "two"].map((meta) => bob.update(meta)));
    expect(refused.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    holder.failure = undefined;
    await store.pass(2_000);
    expect(await lobby.get("bob")).toMatchObject({ meta: "accepted" });
    // One that was taken after another had been refused stays.
    holder.failure = away;
    await expect(bob.update("same")).rejects.toBe(away);
    holder.failure = undefined;
    const again = bob.update("same");
    await store.pass(2_000);
    await again;
    expect(await lobby.get("bob")).toMatchObject({ meta: "same" });
  });

  test("is told of who left meanwhile when it is back, and leaving does not reject", async () => {
    const { store, one, holder } = await openLobby();
    const bob = await enter(holder, "bob");
    const watcher = await one.watch();
    holder.failure = away;
    await bob.leave();
    expect(holder.reports).toEqual([away]);
    holder.failure = undefined;
    await store.pass(2_000);
    expect(watcher.seen).toEqual(["snapshot ada bob", "left bob"]);
  });

  test("refuses to watch, and later watching begins", async () => {
    const { one } = await openLobby();
    one.failure = away;
    await expect(one.broker.presence("lobby").watch().next()).rejects.toBe(away);
    expect(one.broker.presence("lobby").stats().watchers).toBe(0);
    one.failure = undefined;
    expect((await one.watch()).seen).toEqual(["snapshot ada"]);
  });

  test("does not keep a broker from closing, and others clear away after it", async () => {
    const { store, one, holder } = await openLobby();
    const watcher = await one.watch();
    holder.failure = away;
    await holder.broker.close({ drainMs: 0 });
    await store.pass(LEASE_MS + 2_000);
    expect(watcher.seen).toEqual(["snapshot ada", "left ada"]);
  });
});

describe("a store that forgets", () => {
  test("what a process had entered is told it again, within three seconds, and it is reported", async () => {
    const { store, one, holder, holderName } = await openLobby();
    await enter(holder, "bob");
    await store.membership.leave("presence:lobby", await holderName(), ["bob"]);
    await store.pass(3_000);
    expect(await one.broker.presence("lobby").count()).toBe(2);
    expect(holder.reports).toMatchObject([{ code: "DATA_LOSS", channel: "lobby", reader: await holderName() }]);
    expect(holder.events()).toContain("presence_lost");
  });

  test("nothing is compared wrongly while members come and go", async () => {
    const { store, one, holder } = await openLobby();
    await one.watch();
    for (let round = 0; round < 50; round += 1) {
      const entering = enter(holder, `m${round}`);
      await store.pass(100);
      const connection = await entering;
      if (round % 2 === 0) await connection.leave();
    }
    expect([holder.reports, one.reports, one.calls.get("list")]).toEqual([[], [], 1]);
  });
});

describe("a clock that jumps", () => {
  const HOUR_MS = 3_600_000;

  for (const [how, ms] of [
    ["forward", HOUR_MS],
    ["back", -HOUR_MS],
  ] as const) {
    test(`${how} by an hour makes nobody leave who lives, and who dies afterwards leaves in time`, async () => {
      const { store, one, two, holder } = await openLobby();
      const watchers = [await one.watch(), await two.watch()];
      await store.pass(1_000);
      store.jump(ms);
      await store.pass(5_000);
      for (const { seen } of watchers) expect(seen).toEqual(["snapshot ada"]);
      holder.failure = away;
      await store.pass(LEASE_MS + 2_000);
      for (const { seen } of watchers) expect(seen).toEqual(["snapshot ada", "left ada"]);
    });
  }

  test("never makes anybody leave, whoever is the first to look", async () => {
    const store = await openStore();
    const all = [];
    for (let index = 0; index < 6; index += 1) {
      const opened = await store.open({ leaseMs: LEASE_MS });
      await enter(opened, `m${index}`);
      all.push(opened);
    }
    const watcher = await all[0]!.watch();
    for (let round = 0; round < 10; round += 1) {
      store.jump(round % 2 === 0 ? HOUR_MS : -HOUR_MS);
      await store.pass(2_100 + 70 * round);
    }
    expect(watcher.seen).toHaveLength(1);
  });

  for (const ms of [HOUR_MS, -HOUR_MS]) {
    test(`in one process alone, by ${ms} ms, makes nobody leave`, async () => {
      const { store, one, holder } = await openLobby();
      const watcher = await one.watch();
      holder.jump(ms);
      await store.pass(3 * LEASE_MS);
      expect(watcher.seen).toEqual(["snapshot ada"]);
      expect(holder.calls.get("renew")).toBeLessThan(12);
    });
  }

  test("back by an hour does not keep who died before", async () => {
    const store = await openStore();
    const one = await store.open();
    const watcher = await one.watch();
    const dead = await store.open({ leaseMs: LEASE_MS, timers: "hang" });
    await enter(dead, "ada");
    store.jump(-HOUR_MS);
    await store.pass(LEASE_MS + 2_000);
    expect(watcher.seen).toEqual(["snapshot", "joined ada", "left ada"]);
  });
});

describe("a full presence", () => {
  test("takes back whom it had lost as soon as there is room", async () => {
    const store = await openStore();
    const [one, two] = [await store.open(), await store.open({ leaseMs: LEASE_MS })];
    const [first, second] = [one, two].map(({ broker }) => broker.presence("lobby", { maxMembers: 1 }));
    await second!.enter("ada");
    const holder = (await two.broker.health()).details.presence?.holder ?? "none";
    await store.membership.end(holder);
    while (!(await store.membership.reap(holder)).isDone);
    const bob = await first!.enter("bob");
    await store.pass(LEASE_MS);
    expect((await first!.list()).members.map(({ id }) => id)).toEqual(["bob"]);
    // Whoever waits is told of once, besides the lapse.
    expect(two.reports.map((error) => (error as Error & { code: string }).code)).toEqual(["LEASE_LOST", "LIMIT"]);
    await bob.leave();
    await store.pass(3_000);
    expect((await first!.list()).members.map(({ id }) => id)).toEqual(["ada"]);
  });
});
