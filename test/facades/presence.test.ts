/** Presence as its users see it, the same on every backend. */

import { describe, expect, test } from "vitest";
import type { PresentMember } from "../../src/index.js";
import { until } from "../support/wait.js";
import { onEveryBackend, recordingLogger } from "./support/lanes.js";
import { hangingClock, seenBy, watching } from "./support/watching.js";

const LEASE_MS = 3_000;

onEveryBackend("presence", (lane) => {
  test("[D17] a late joiner sees everyone present, then every change", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("lobby");
    const ada = await one.presence(name).enter("ada", { status: "online" });
    await one.presence(name).enter("bob");
    const late = await watching(two.presence(name));
    expect(late.seen).toEqual(["snapshot ada bob"]);
    expect(late.present.get("ada")).toEqual({
      id: "ada",
      meta: { status: "online" },
      connections: 1,
      joinedAt: expect.any(Number),
      lastSeen: late.present.get("ada")?.joinedAt,
    });
    await ada.update({ status: "away" });
    const cleo = await two.presence(name).enter("cleo");
    await ada.leave();
    await cleo.leave();
    await seenBy([late], 5);
    expect(late.seen.toSorted()).toEqual(["joined cleo", "left ada", "left cleo", "snapshot ada bob", "updated ada"]);
    expect([...late.present.keys()]).toEqual(["bob"]);
  });

  test("[D17] [D21] whoever enters while somebody begins to watch is in the snapshot or comes after it, never lost", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("lobby");
    const entering = Array.from({ length: 200 }, (_, index) => one.presence(name).enter(`m${index}`));
    const watchers = await Promise.all(Array.from({ length: 3 }, () => watching(two.presence(name))));
    await Promise.all(entering);
    await until(() => watchers.every(({ present }) => present.size === 200), { what: "all to be seen" });
    // As of one moment each: each member came once.
    for (const { changes } of watchers) {
      const ids = changes.flatMap((change) =>
        change.kind === "snapshot" ? change.members.map(({ id }) => id) : [change.member.id],
      );
      expect(ids.toSorted()).toEqual([...new Set(ids)].toSorted());
    }
  });

  test("[D18] a member can be online, away or offline, and offline is announced, also where its process only stops", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const hangs = await lane.open({ presenceLeaseMs: LEASE_MS, clock: hangingClock() });
    const name = lane.unique("lobby");
    const watcher = await watching(two.presence(name));
    const ada = await one.presence(name).enter("ada", { status: "online" });
    await ada.update({ status: "away" });
    await ada.leave();
    const before = performance.now();
    await hangs.presence(name).enter("bob", { status: "online" });
    await seenBy([watcher], 6, LEASE_MS + 5_000);
    expect(watcher.seen).toEqual(["snapshot", "joined ada", "updated ada", "left ada", "joined bob", "left bob"]);
    expect(performance.now() - before).toBeGreaterThan(LEASE_MS - 500);
    const metas = watcher.changes.flatMap((change) => (change.kind === "snapshot" ? [] : [change.member.meta]));
    const statuses = ["online", "away", "away", "online", "online"];
    expect(metas).toEqual(statuses.map((status) => ({ status })));
  });

  test("[D19] a member joins with its first connection and leaves with its last, on whichever process", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("lobby");
    const watcher = await watching(two.presence(name));
    const phone = await one.presence(name).enter("ada", "phone");
    const laptop = await two.presence(name).enter("ada", "laptop");
    const tablet = await two.presence(name).enter("ada", "tablet");
    expect(await one.presence(name).get("ada")).toMatchObject({ connections: 3, meta: "tablet" });
    await tablet.leave();
    expect(await one.presence(name).get("ada")).toMatchObject({ connections: 2, meta: "laptop" });
    await phone.update("phone again");
    expect(await one.presence(name).get("ada")).toMatchObject({ connections: 2, meta: "phone again" });
    await phone.leave();
    expect(await one.presence(name).get("ada")).toMatchObject({ connections: 1, meta: "laptop" });
    await laptop.leave();
    await seenBy([watcher], 8);
    expect([watcher.seen[1], watcher.seen.at(-1), watcher.lefts("ada")]).toEqual(["joined ada", "left ada", 1]);
    expect(watcher.seen.filter((text) => text === "updated ada")).toHaveLength(5);
  });

  test("[D19] what a process that hangs had entered expires once, in everybody's view, and not before its lease is over", async () => {
    const brokers = await Promise.all(Array.from({ length: 3 }, () => lane.open({ presenceLeaseMs: LEASE_MS })));
    const hangs = await lane.open({ presenceLeaseMs: LEASE_MS, clock: hangingClock() });
    const name = lane.unique("lobby");
    const watchers = await Promise.all(brokers.map((broker) => watching(broker.presence(name))));
    await brokers[0]!.presence(name).enter("both");
    await hangs.presence(name).enter("both");
    const enteredAt = performance.now();
    for (const id of ["ada", "bob"]) await hangs.presence(name).enter(id);
    await until(() => watchers.every(({ seen }) => seen.includes("left ada") && seen.includes("left bob")), {
      deadlineMs: LEASE_MS + 5_000,
      what: "both to leave",
    });
    const passedMs = performance.now() - enteredAt;
    expect(passedMs).toBeGreaterThan(LEASE_MS - 200);
    expect(passedMs).toBeLessThan(LEASE_MS + 2_500);
    await until(() => watchers.every(({ present }) => present.get("both")?.connections === 1));
    for (const watcher of watchers) {
      expect([watcher.lefts("ada"), watcher.lefts("bob"), watcher.lefts("both")]).toEqual([1, 1, 0]);
    }
    expect((await brokers[1]!.presence(name).list()).members.map(({ id }) => id)).toEqual(["both"]);
  });

  test("[D20] who is online is answered across all processes, once or continuously", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("lobby");
    const ids = Array.from({ length: 25 }, (_, index) => `m${index}`);
    for (const [index, id] of ids.entries()) {
      await (index % 2 === 0 ? one : two).presence(name).enter(id, { index });
    }
    const { list, isPresent, get, count } = (await lane.open()).presence(name);
    expect(await count()).toBe(25);
    expect(await isPresent("m7")).toBe(true);
    expect(await isPresent("nobody")).toBe(false);
    expect(await get("m7")).toMatchObject({ id: "m7", meta: { index: 7 }, connections: 1 });
    expect(await get("nobody")).toBeUndefined();
    const members: PresentMember[] = [];
    let cursor: string | undefined;
    do {
      const page = await list({ limit: 10, ...(cursor !== undefined && { cursor }) });
      expect([page.count, page.members.length <= 10]).toEqual([25, true]);
      members.push(...page.members);
      cursor = page.cursor;
    } while (cursor !== undefined);
    expect(members.map(({ id }) => id)).toEqual(ids);
    const watcher = await watching(one.presence(name));
    expect(watcher.seen).toEqual([["snapshot", ...ids].join(" ")]);
  });

  test("[D16] each change where somebody watches is logged in one place, with who it is about", async () => {
    const { logger, entries } = recordingLogger();
    const [one, two] = [await lane.open(), await lane.open({ logger })];
    const name = lane.unique("lobby");
    const watchers = [await watching(two.presence(name)), await watching(two.presence(name))];
    const ada = await one.presence(name).enter("ada");
    await ada.update("away");
    await ada.leave();
    await seenBy(watchers, 4);
    const changes = entries.filter(({ fields }) => fields["event"] === "presence_changed");
    expect(changes).toEqual(
      ["joined", "updated", "left"].map((kind) => ({
        level: "debug",
        fields: { event: "presence_changed", channel: name, kind, member: "ada", connections: 1 },
      })),
    );
    const counted = two.metrics().flatMap((metric) => {
      const { labels } = metric;
      return metric.name === "signalbox.presence.changes" && metric.kind === "counter" ? [[labels, metric.value]] : [];
    });
    expect(counted).toEqual(["joined", "updated", "left"].map((kind) => [{ channel: name, kind }, 1]));
  });

  test("closing a broker leaves at once, ends its watchers, and others go on", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("lobby");
    const [own, other] = [await watching(one.presence(name)), await watching(two.presence(name))];
    await one.presence(name).enter("ada");
    await two.presence(name).enter("bob");
    await seenBy([own, other], 3);
    await one.close();
    await own.ended;
    await seenBy([other], 4);
    expect(other.seen.slice(1)).toEqual(["joined ada", "joined bob", "left ada"]);
    await expect(one.presence(name).enter("cleo")).rejects.toMatchObject({ code: "CLOSED" });
    await expect(one.presence(name).list()).rejects.toMatchObject({ code: "CLOSED" });
    await expect(one.presence(name).watch().next()).rejects.toMatchObject({ code: "CLOSED" });
    expect(await two.presence(name).count()).toBe(1);
  });

  test("what is beyond a limit, or cannot be meant, is refused before anything is written", async () => {
    const broker = await lane.open();
    const name = lane.unique("lobby");
    const { enter, count, list, watch, get } = broker.presence(name);
    const refusals: readonly (readonly [string, () => Promise<unknown>])[] = [
      ["LIMIT", () => enter("ada", "x".repeat(4_095))],
      ["CODEC", () => enter("ada", { at: Number.NaN })],
      ["INVALID_ARGUMENT", () => enter("")],
      ["INVALID_ARGUMENT", () => enter("a\nb")],
      ["INVALID_ARGUMENT", () => enter("x".repeat(201))],
      ["INVALID_ARGUMENT", () => enter(7 as unknown as string)],
      ["INVALID_ARGUMENT", () => get("")],
      ["INVALID_ARGUMENT", () => list({ cursor: "ada" })],
      ["CONFIG", () => list({ limit: 1_001 })],
      ["CONFIG", () => list({ limit: 0 })],
      ["CONFIG", async () => watch({ buffer: 0 })],
      ["CONFIG", () => enter("ada", null, { ttl: 5 } as object)],
      ["CONFIG", async () => broker.presence(name, { maxMembers: 0 })],
      ["INVALID_ARGUMENT", async () => broker.presence("a*")],
    ];
    for (const [code, call] of refusals) await expect(call(), String(call)).rejects.toMatchObject({ code });
    await expect(lane.open({ presenceLeaseMs: 2_999 })).rejects.toMatchObject({ code: "CONFIG" });
    await expect(lane.open({ presenceLeaseMs: 600_001 })).rejects.toMatchObject({ code: "CONFIG" });
    expect(await count()).toBe(0);
    await enter("x".repeat(200), "x".repeat(4_094));
    expect(await count()).toBe(1);
  });

  test("a full presence refuses who is new, and says what to do; whoever is there may come again", async () => {
    const broker = await lane.open();
    const { enter, count } = broker.presence(lane.unique("lobby"), { maxMembers: 2 });
    const entered = await Promise.allSettled(["ada", "bob", "cleo", "dan"].map((id) => enter(id)));
    expect(entered.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "rejected"]);
    await expect(enter("eve")).rejects.toMatchObject({ code: "LIMIT", message: expect.stringContaining("maxMembers") });
    const again = await enter("ada", "twice");
    expect(await count()).toBe(2);
    await again.leave();
    const [ada] = entered;
    if (ada?.status === "fulfilled") await ada.value.leave();
    await enter("eve");
    expect(await count()).toBe(2);
  });

  test("a connection that has left is over: leaving again is harmless, updating is refused", async () => {
    const broker = await lane.open();
    const { enter, isPresent, stats } = broker.presence(lane.unique("lobby"));
    const ada = await enter("ada");
    const other = await enter("ada");
    expect(stats()).toMatchObject({ members: 1, connections: 2 });
    await Promise.all([ada.leave(), ada.leave()]);
    await ada.leave();
    expect(await isPresent("ada")).toBe(true);
    await expect(ada.update("x")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await using gone = other;
    expect(gone.id).toBe("ada");
    await other.leave();
    expect(await isPresent("ada")).toBe(false);
    expect(stats()).toMatchObject({ members: 0, connections: 0 });
  });

  test("an abort ends entering and leaves nothing behind, and ends watching", async () => {
    const broker = await lane.open();
    const { enter, count, watch, stats } = broker.presence(lane.unique("lobby"));
    const reason = new Error("no more");
    await expect(enter("ada", null, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const stop = new AbortController();
    const entering = enter("bob", null, { signal: stop.signal });
    stop.abort(reason);
    await expect(entering).rejects.toBe(reason);
    // What this process holds is told in order: bob is over when another has come and gone.
    await (await enter("cleo")).leave();
    expect([await count(), stats().members]).toEqual([0, 0]);
    const stopWatching = new AbortController();
    const iterator = watch({ signal: stopWatching.signal });
    expect(await iterator.next()).toEqual({ done: false, value: { kind: "snapshot", members: [] } });
    expect(stats().watchers).toBe(1);
    const next = iterator.next();
    stopWatching.abort();
    expect(await next).toEqual({ done: true, value: undefined });
    await until(() => stats().watchers === 0);
    for await (const change of watch()) {
      expect(change.kind).toBe("snapshot");
      break;
    }
    expect(stats().watchers).toBe(0);
  });

  test("who reads too slowly is told each member's changes as one, and what it is told adds up", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("lobby");
    const { enter } = one.presence(name);
    const presence = two.presence(name);
    const left = await enter("left");
    await enter("stays");
    const slow = presence.watch({ buffer: 5 });
    const quick = await watching(presence);
    await slow.next();
    await left.leave();
    const ids = Array.from({ length: 20 }, (_, index) => `m${index}`);
    for (const id of ids) {
      const connection = await enter(id, "first");
      await connection.update("second");
      if (id === "m7") await connection.leave();
    }
    await enter("left", "again");
    await until(() => quick.present.size === 21);
    const { merged, watchers } = presence.stats();
    const told: string[] = [];
    for (let count = 0; count < 43 - merged; count += 1) {
      const { value } = await slow.next();
      if (value?.kind !== "snapshot") told.push(`${value?.kind} ${value?.member.id} ${value?.member.meta}`);
    }
    await enter("last");
    expect(await slow.next()).toMatchObject({ value: { kind: "joined", member: { id: "last" } } });
    expect([watchers, merged > 10, told.length < 43]).toEqual([2, true, true]);
    // However much of it was merged, each member came to what it is.
    const state = new Map<string, string>();
    for (const text of told) state.set(text.split(" ")[1]!, text.split(" ").slice(2).join(" "));
    expect(ids.filter((id) => id !== "m7").map((id) => state.get(id))).toEqual(Array(19).fill("second"));
    expect(state.get("left")).toBe("again");
    await slow.close();
  });

  test("health shows the lease, and metrics count what is held and known", async () => {
    const broker = await lane.open();
    expect((await broker.health()).details.presence).toBeUndefined();
    const name = lane.unique("lobby");
    const presence = broker.presence(name);
    const [ada] = [await presence.enter("ada"), await presence.enter("ada"), await presence.enter("bob")];
    await watching(presence);
    const { status, details } = await broker.health();
    expect([status, details.presence]).toEqual([
      "up",
      {
        ok: true,
        holder: expect.any(String),
        leaseMs: 90_000,
        lastRenewalAt: expect.any(Number),
        leaseAgeMs: expect.any(Number),
      },
    ]);
    const valueOf = (metric: string): unknown => {
      const found = broker.metrics().find((one) => one.name === metric && one.labels["channel"] === name);
      return found?.kind === "gauge" ? found.value : undefined;
    };
    expect([valueOf("signalbox.presence.connections"), valueOf("signalbox.presence.members")]).toEqual([3, 2]);
    await ada.leave();
    expect(valueOf("signalbox.presence.connections")).toBe(2);
  });

  test("presences are apart from each other, from channels, and from other namespaces", async () => {
    const name = lane.unique("lobby");
    const [one, two] = [await lane.open(), await lane.open({ namespace: "elsewhere" })];
    const watchers = [await watching(one.presence(`${name}-2`)), await watching(two.presence(name))];
    await one.presence(name).enter("ada");
    await one.presence(`${name}-2`).enter("bob");
    await two.presence(name).enter("cleo");
    await seenBy(watchers, 2);
    expect(watchers.map(({ seen }) => seen)).toEqual([
      ["snapshot", "joined bob"],
      ["snapshot", "joined cleo"],
    ]);
  });
});

describe("the shape of a presence", () => {
  test("is the same object of functions wherever it is taken apart", async () => {
    const { connect } = await import("../../src/index.js");
    await using broker = await connect("memory:");
    expect(Object.keys(broker.presence("lobby")).toSorted()).toEqual(
      ["count", "enter", "get", "isPresent", "list", "name", "stats", "watch"].toSorted(),
    );
  });
});
