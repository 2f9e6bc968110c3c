/** Files that earlier versions wrote: what they hold is still there. */

import { expect, test } from "vitest";
import type { GroupSettings, ItemFilter } from "../../../src/core/backend.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { CONSUMER, GROUP, NAMESPACE, WRITTEN_AT } from "./layout-fixture.js";
import { copyFixture, open } from "./opening.js";

function textOf({ data }: { readonly data: Uint8Array }): string {
  return new TextDecoder().decode(data);
}

test("a file of layout sb1 is read as it was written: streams, groups, leases, retries, dead letters", async () => {
  const clock = createFakeClock(WRITTEN_AT + 1_000);
  const { log } = (await open({ path: copyFixture() }, { clock, namespace: NAMESPACE })).backend;
  const entries = await log.read("orders", { max: 10 });
  expect(entries.map(({ position }) => position)).toEqual(["2", "3", "4", "5", "6", "7"]);
  expect(entries.slice(0, 5).map(textOf)).toEqual(["acked", "retried", "dead", "held", "new"]);
  const bytes = { position: "7", header: "header of bytes", data: new Uint8Array([0, 255, 10]), at: WRITTEN_AT };
  expect(entries.at(-1)).toEqual(bytes);
  // Since when the groups have stood still, the file does not know.
  const common = { settings: GROUP, paused: false, held: 0, lastProgressAt: WRITTEN_AT + 1_000 };
  const billing = { lag: 2, pending: 1, retrying: 1, dead: 1, oldestUnhandledAt: WRITTEN_AT };
  const audit = { lag: 0, pending: 0, retrying: 0, dead: 0, oldestUnhandledAt: undefined };
  const later: GroupSettings = { ...GROUP, from: { time: WRITTEN_AT + 60_000 } };
  expect(await log.stats("orders")).toEqual({
    length: 6,
    bytes: entries.reduce((sum, { header, data }) => sum + header.length + data.length, 0),
    oldest: { position: "2", at: WRITTEN_AT },
    newest: { position: "7", at: WRITTEN_AT },
    at: WRITTEN_AT + 1_000,
    retention: undefined,
    groups: [
      { group: "billing", ...common, ...billing },
      { group: "audit", ...common, ...audit, settings: later },
    ],
  });
  expect(await log.createGroup("orders", "billing", { ...GROUP, maxAttempts: 99 })).toEqual(GROUP);
  expect((await log.deadLetters("orders", "billing").list({ max: 10 })).letters).toEqual([
    {
      id: "1",
      position: "4",
      header: "header of dead",
      data: new TextEncoder().encode("dead"),
      attempts: 1,
      consumer: "fixture",
      reason: { kind: "failed", message: "no way", stack: "somewhere" },
      firstFailedAt: WRITTEN_AT,
      at: WRITTEN_AT,
    },
  ]);
  const feed = await log.open("orders", "billing", "later");
  const given = async (): Promise<string[]> => {
    const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
    return deliveries.map((delivery) => `${textOf(delivery)}#${delivery.attempt}`);
  };
  expect(await given()).toEqual(["new#1", "\u0000\ufffd\n#1"]);
  await clock.advance(5_000);
  expect(await given()).toEqual(["retried#2"]);
  await clock.advance(24_500);
  expect(await given()).toEqual(["held#2"]);
  // Numbers go on where they were.
  const [appended] = await log.append("orders", [{ header: "h", data: "d" }], { maxEntries: 9, overflow: "reject" });
  expect(appended).toEqual({ position: "8", duplicate: false });
});

test("a file of layout sb1 is read as it was written: queues, with delay, expiry, leases, dead letters", async () => {
  const clock = createFakeClock(WRITTEN_AT + 11_000);
  const { queue } = (await open({ path: copyFixture() }, { clock, namespace: NAMESPACE })).backend;
  const counts = { waiting: 2, leased: 1, delayed: 1, dead: 1, expired: 1, dropped: 0, paused: false };
  // When they were pushed the file does not know.
  expect(await queue.stats("tasks", "coder")).toEqual({ ...counts, oldestWaitingAt: WRITTEN_AT + 11_000 });
  const pushed = await queue.push(
    "tasks",
    ["held", "dead", "brief"].map((id) => ({
      id,
      recipient: "coder",
      header: "h",
      data: "d",
      priority: -1,
      delayMs: 0,
    })),
    { maxItems: 100 },
  );
  expect(pushed.map(({ duplicate }) => duplicate)).toEqual([true, false, false]);
  expect((await queue.deadLetters("tasks", "coder").list({ max: 10 })).letters.map(textOf)).toEqual(["data of dead"]);
  const feed = await queue.open("tasks", "coder", CONSUMER);
  const given = async (): Promise<string[]> => {
    const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
    return deliveries.map(({ position, attempt }) => `${position}#${attempt}`);
  };
  expect(await given()).toEqual(["high#1", "low#1", "dead#1", "brief#1"]);
  await clock.advance(20_000);
  expect((await given())[0]).toBe("held#2");
});

test("a file with the first additions is read as it was written: order, limits, ids, a pause", async () => {
  const clock = createFakeClock(WRITTEN_AT + 10_000);
  const { log } = (await open({ path: copyFixture("sqlite-sb1-1") }, { clock, namespace: NAMESPACE })).backend;
  const { retention, groups } = await log.stats("ordered");
  expect(retention).toEqual({ maxEntries: 100, maxAgeMs: 3_600_000, overflow: "block" });
  expect(groups).toEqual([
    {
      group: "keys",
      settings: { ...GROUP, order: "key", maxHeld: 50, types: ["one", "two"] },
      paused: true,
      lag: 4,
      pending: 1,
      retrying: 1,
      held: 3,
      dead: 0,
      oldestUnhandledAt: WRITTEN_AT,
      lastProgressAt: WRITTEN_AT,
    },
  ]);
  const again = { header: "h", data: "d", dedupeId: "id of b:1" };
  expect(await log.append("ordered", [again], { maxEntries: 1, overflow: "reject" })).toEqual([
    { position: "3", duplicate: true },
  ]);
  const feed = await log.open("ordered", "keys", "later");
  const given = async (): Promise<string[]> => {
    const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
    return deliveries.map((delivery) => `${textOf(delivery)}#${delivery.attempt}`);
  };
  expect(await given()).toEqual([]);
  await log.resume("ordered", "keys");
  expect(await given()).toEqual(["b:1#2", "c:2#1"]);
  await clock.advance(20_000);
  expect(await given()).toEqual(["a:1#2"]);
});

test("a file with the first additions is read as it was written: letters, and what was put back", async () => {
  const clock = createFakeClock(WRITTEN_AT + 10_000);
  const { log, queue } = (await open({ path: copyFixture("sqlite-sb1-1") }, { clock, namespace: NAMESPACE })).backend;
  expect((await log.read("redriven", { max: 10 })).map(textOf)).toEqual(["data of twice", "data of back"]);
  const { letters } = await log.deadLetters("redriven", "group").list({ max: 10 });
  expect(letters.map((letter) => [textOf(letter), letter.attempts, letter.firstFailedAt])).toEqual([
    ["data of twice", 2, WRITTEN_AT],
  ]);
  expect((await log.stats("redriven")).groups.map(({ lag, dead }) => [lag, dead])).toEqual([
    [1, 1],
    [2, 0],
  ]);
  const feed = await log.open("redriven", "group", "later");
  const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
  expect(deliveries.map((delivery) => [textOf(delivery), delivery.attempt])).toEqual([["data of back", 1]]);
  const parked = queue.deadLetters("redriven", "coder");
  expect(await parked.redrive((await parked.list({ max: 10 })).letters.map(({ id }) => id))).toBe(1);
  const file = [{ id: "idle", recipient: "coder", header: "h", data: "d", priority: 1, delayMs: 0 }];
  await queue.push("redriven", file, { maxItems: 10 });
  const inbox = await queue.open("redriven", "coder", CONSUMER);
  expect((await inbox.take({ max: 10, waitMs: 0 }, [])).deliveries.map(({ position }) => position)).toEqual([
    "urgent",
    "idle",
  ]);
});

test("a file with the second additions is read as it was written: recipients, an audience, a pause, what was dropped", async () => {
  const clock = createFakeClock(WRITTEN_AT + 10_000);
  const { queue } = (await open({ path: copyFixture("sqlite-sb1-2") }, { clock, namespace: NAMESPACE })).backend;
  // The feed that was open then counts no more, as thirty seconds have passed since.
  await clock.advance(20_000);
  const later = { isOnline: false, lapsesAt: WRITTEN_AT + 3_600_000 };
  expect(await queue.recipients("records", { max: 10 })).toEqual({
    recipients: [
      { recipient: "anna", isAudience: true, ...later },
      { recipient: "ben", isAudience: true, ...later },
      { recipient: "carl", isAudience: false, isOnline: false, lapsesAt: WRITTEN_AT + 60_000 },
    ],
  });
  const nothing = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0, dropped: 0, paused: false };
  const ben = { ...nothing, waiting: 1, delayed: 1, paused: true, oldestWaitingAt: WRITTEN_AT };
  expect(await queue.stats("records", "ben")).toEqual(ben);
  const dora = { ...nothing, waiting: 2, dropped: 1, oldestWaitingAt: WRITTEN_AT };
  expect(await queue.stats("small", "dora")).toEqual(dora);
  const feed = await queue.open("records", "ben", CONSUMER);
  expect((await feed.take({ max: 10, waitMs: 0 }, [])).deliveries).toEqual([]);
  await queue.resume("records", "ben");
  const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
  expect(deliveries.map(({ position, attempt }) => [position, attempt])).toEqual([["for all", 1]]);
  const dropping = await queue.open("small", "dora", CONSUMER);
  expect(await dropping.take({ max: 10, waitMs: 0 }, [])).toMatchObject({ gone: 1 });
  const given = { id: "given", header: "h", data: "d", recipient: "anna", priority: 0, delayMs: 0 };
  await queue.remove("records", ["given"]);
  expect(await queue.push("records", [given], { maxItems: 10 })).toMatchObject([{ duplicate: true }]);
});

test("a file with the second additions is read as it was written: records, and by what they are found", async () => {
  const clock = createFakeClock(WRITTEN_AT + 10_000);
  const { queue } = (await open({ path: copyFixture("sqlite-sb1-2") }, { clock, namespace: NAMESPACE })).backend;
  const idsOf = async (filter: ItemFilter): Promise<string[]> =>
    (await queue.list("records", filter, { max: 10 })).items.map(({ id }) => id);
  const settings = { keepAckedMs: 600_000, maxRecords: 10, index: ["source"] };
  expect(await queue.configure("records", { ...settings, maxRecords: 1 })).toEqual(settings);
  expect(await idsOf({})).toEqual(["later", "given", "retried", "dead", "for all"]);
  expect(await idsOf({ fields: { source: "planner" } })).toEqual(["given", "dead", "for all"]);
  expect(await idsOf({ fields: { source: "planner" }, state: "acked" })).toEqual(["given"]);
  expect(await queue.count("records", { state: "open" })).toBe(3);
  const shown = { header: "header of for all", priority: 0, at: WRITTEN_AT, updatedAt: WRITTEN_AT };
  expect(await queue.get("records", "for all")).toEqual({
    id: "for all",
    ...shown,
    data: new TextEncoder().encode("data of for all"),
    expiresAt: undefined,
    state: "open",
    recipients: [
      { recipient: "ben", state: "waiting", attempts: 0 },
      { recipient: "anna", state: "acked", attempts: 1, until: WRITTEN_AT },
    ],
  });
  const letters = queue.deadLetters("records", "anna");
  expect(await letters.redrive((await letters.list({ max: 10 })).letters.map(({ id }) => id))).toBe(1);
  expect(await idsOf({ state: "dead" })).toEqual([]);
  const feed = await queue.open("records", "anna", CONSUMER);
  const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
  expect(deliveries.map(({ position, attempt }) => [position, attempt])).toEqual([
    ["dead", 1],
    ["retried", 2],
  ]);
});

test("a file with the third additions is read as it was written: members, their holders and their leases", async () => {
  const clock = createFakeClock(WRITTEN_AT + 10_000);
  const { membership } = (await open({ path: copyFixture("sqlite-sb1-3") }, { clock, namespace: NAMESPACE })).backend;
  const times = { joinedAt: WRITTEN_AT, lastSeen: WRITTEN_AT };
  const bytes = (meta: string | number[]): Uint8Array => new Uint8Array(Buffer.from(meta as string));
  expect(await membership.list("lobby", { max: 10 })).toEqual({
    version: 3,
    count: 2,
    members: [
      { id: "ada", meta: bytes("here"), connections: 3, ...times },
      { id: "bob", meta: bytes([0, 255]), connections: 1, ...times },
    ],
  });
  expect(await membership.versions(["lobby", "den"], "first")).toEqual([
    { version: 3, held: 2 },
    { version: 4, held: 4 },
  ]);
  expect(await membership.renew("second", 60_000)).toBe("held");
  await clock.advance(20_000);
  expect(await membership.lapsing()).toEqual(["first"]);
  const { lapsed, isDone } = await membership.reap("first");
  const told = lapsed.flatMap(({ group, change }) =>
    change.changes.map(({ kind, member }) => `${group}: ${kind} ${member.id}`),
  );
  expect([told.toSorted(), isDone]).toEqual([["den: left ada", "lobby: left bob", "lobby: updated ada"], true]);
  expect((await membership.list("lobby", { max: 10 })).members).toMatchObject([{ id: "ada", connections: 1 }]);
});
