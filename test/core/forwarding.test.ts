/** The engine that forwards a stream, over ports: order, once by id, one at a time, whatever the target does. */

import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { openMemory } from "../../src/backends/memory/index.js";
import { openSqlite } from "../../src/backends/sqlite/index.js";
import type { Backend, Feed, GroupSettings, Log, NewEntry, Queue, Retention } from "../../src/core/backend.js";
import { systemClock } from "../../src/core/clock.js";
import { ConnectionError, LimitError, OutOfMemoryError, PublishIndeterminateError } from "../../src/core/errors.js";
import { Forwarding, type ForwardingOptions } from "../../src/core/forwarding.js";
import { encodeHeader } from "../../src/core/message.js";
import { removeDir, tempDir } from "../support/process.js";
import { pause, until } from "../support/wait.js";

const STREAM = "orders";
const GROUP = "forward";
const ROOMY: Retention = { maxEntries: 1_000_000, overflow: "reject" };
/** Short, so that a dead process is soon succeeded; long enough for two renewals on a busy machine. */
const LEASE_MS = 600;

let dir = "";
beforeAll(async () => {
  dir = await tempDir();
});
afterAll(() => removeDir(dir));

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

type Kind = "memory" | "sqlite";

/** Opens a store, which those that give the same name share. */
async function openStore(kind: Kind, name: string = randomUUID()): Promise<Backend> {
  const report = (error: unknown, where: string): never => expect.fail(`${where}: ${String(error)}`);
  const context = { namespace: "t", clock: systemClock, report };
  const opening = kind === "memory" ? openMemory({ name }, context) : openSqlite({ path: join(dir, name) }, context);
  const backend = await opening;
  undo.push(() => backend.close());
  return backend;
}

/** Entry number `n`, as the events facade writes it, of one of three keys. */
function event(n: number): NewEntry {
  const id = `id-${n}`;
  const key = `k${n % 3}`;
  const header = encodeHeader({ id, type: STREAM, channel: STREAM, source: "test", contentType: "json", key });
  return { header, data: JSON.stringify(n), key };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

async function publish(log: Log, from: number, to: number): Promise<void> {
  for (let start = from; start <= to; start += 100)
    await log.append(STREAM, range(start, Math.min(to, start + 99)).map(event), ROOMY);
}

async function numbersIn(log: Log): Promise<number[]> {
  const entries = await log.read(STREAM, { max: 100_000 });
  return entries.map(({ data }) => Number(Buffer.from(data).toString()));
}

interface Started {
  readonly forwarding: Forwarding;
  /** What was reported, in order. */
  readonly seen: string[];
}

async function forward(
  source: Backend,
  target: Pick<Log, "append" | "read">,
  more: Partial<ForwardingOptions> = {},
): Promise<Started> {
  const seen: string[] = [];
  const forwarding = new Forwarding({
    source,
    target,
    stream: STREAM,
    group: GROUP,
    retention: ROOMY,
    clock: systemClock,
    leaseMs: LEASE_MS,
    events: {
      forwarded: (count, duplicates) => void seen.push(`forwarded ${count}/${duplicates}`),
      taken: ({ gone }) => void (gone > 0 && seen.push(`gone ${gone}`)),
      failing: (error, failures) => void seen.push(`failing ${failures}: ${(error as Error).name}`),
      recovered: () => void seen.push("recovered"),
      ended: (error) => void seen.push(`ended: ${error.name}`),
    },
    ...more,
  });
  undo.push(() => forwarding.close(0));
  await forwarding.start();
  return { forwarding, seen };
}

describe.each<Kind>(["memory", "sqlite"])("[E37] forwarding on %s", (kind) => {
  const openBackend = (name?: string): Promise<Backend> => openStore(kind, name);

  test("[E37] everything stored is moved in order and as it is, and what is stored later as well", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    await publish(source.log, 1, 700);
    const { forwarding } = await forward(source, target.log);
    await forwarding.caughtUp();
    expect(await numbersIn(target.log)).toEqual(range(1, 700));
    await publish(source.log, 701, 750);
    await forwarding.caughtUp();
    expect(await numbersIn(target.log)).toEqual(range(1, 750));
    const [given] = await source.log.read(STREAM, { max: 1 });
    const [moved] = await target.log.read(STREAM, { max: 1 });
    expect([moved?.header, moved?.data]).toEqual([given?.header, given?.data]);
    expect(forwarding.stats()).toMatchObject({ forwarded: 750, duplicates: 0, role: "forwarding", state: "running" });
  });

  test("[E37] the key goes along, so that groups of the target can keep its order", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    await publish(source.log, 1, 6);
    const { forwarding } = await forward(source, target.log);
    await forwarding.caughtUp();
    const settings: GroupSettings = {
      from: "beginning",
      leaseMs: 60_000,
      maxAttempts: 3,
      maxDeadLetters: 1,
      order: "key",
      maxHeld: 10,
    };
    await target.log.createGroup(STREAM, "g", settings);
    const feed = await target.log.open(STREAM, "g", "c");
    const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
    // The second of each key is held back for the first.
    expect(deliveries.map(({ data }) => Number(Buffer.from(data).toString()))).toEqual([1, 2, 3]);
  });

  test("[E37] nothing is acknowledged in the source before the target has stored it", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    await publish(source.log, 1, 300);
    let let_go = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      let_go = resolve;
    });
    const slow: Pick<Log, "append" | "read"> = {
      read: target.log.read,
      async append(...args) {
        await held;
        return target.log.append(...args);
      },
    };
    const { forwarding } = await forward(source, slow);
    await until(() => forwarding.stats().running > 0);
    const unfinished = async (): Promise<number> => {
      const [group] = (await source.log.stats(STREAM)).groups;
      return (group?.lag ?? 0) + (group?.pending ?? 0) + (group?.retrying ?? 0);
    };
    expect(await unfinished()).toBe(300);
    let_go();
    await forwarding.caughtUp();
    expect(await unfinished()).toBe(0);
  });

  test("[E37] a target that fails in every way is tried again until it takes all, reported once, and nothing comes twice", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    await publish(source.log, 1, 600);
    const failures = [
      new ConnectionError("away"),
      new LimitError("full", { retryable: true }),
      new OutOfMemoryError("no memory"),
      new Error("unheard of"),
      new PublishIndeterminateError("who knows"),
    ];
    let calls = 0;
    const failing: Pick<Log, "append" | "read"> = {
      read: target.log.read,
      async append(...args) {
        calls += 1;
        const failure = calls > 1 ? failures.shift() : undefined;
        // Stored all the same, which the sender cannot know.
        if (failure instanceof PublishIndeterminateError) await target.log.append(...args);
        if (failure !== undefined) throw failure;
        return target.log.append(...args);
      },
    };
    const { forwarding, seen } = await forward(source, failing);
    await forwarding.caughtUp();
    expect(failures).toEqual([]);
    expect(await numbersIn(target.log)).toEqual(range(1, 600));
    expect(seen.filter((what) => what.startsWith("failing 1:"))).toEqual(["failing 1: ConnectionError"]);
    expect(seen.filter((what) => what === "recovered")).toHaveLength(1);
    expect(forwarding.stats()).toMatchObject({ forwarded: 344, duplicates: 256, state: "running" });
  });

  test("[E37] while the target is away it says so, and closes at once", async () => {
    const source = await openBackend();
    await publish(source.log, 1, 3);
    const away: Pick<Log, "append" | "read"> = {
      read: async () => [],
      append: () => Promise.reject(new ConnectionError("away")),
    };
    const { forwarding, seen } = await forward(source, away);
    await until(() => forwarding.stats().state === "failing" && seen.length > 2);
    const waiting = forwarding.caughtUp().catch((error: unknown) => error);
    await forwarding.close(5_000);
    expect(await waiting).toMatchObject({ code: "CLOSED" });
    expect(forwarding.stats().state).toBe("closed");
    // What it held is there for the next.
    const [group] = (await source.log.stats(STREAM)).groups;
    expect([group?.pending, (group?.lag ?? 0) + (group?.retrying ?? 0)]).toEqual([0, 3]);
  });

  test("[E37] what was stored before the target forgot its id is found in its stream, and not stored twice", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    await publish(source.log, 1, 400);
    const forgetful = forgetfulOf(target.log);
    let calls = 0;
    const interrupted: Pick<Log, "append" | "read"> = {
      read: target.log.read,
      async append(...args) {
        const appended = await forgetful.append(...args);
        calls += 1;
        if (calls === 2) throw new PublishIndeterminateError("the reply was lost");
        return appended;
      },
    };
    const { forwarding } = await forward(source, interrupted);
    await forwarding.caughtUp();
    expect(await numbersIn(target.log)).toEqual(range(1, 400));
    expect(calls).toBe(2);
  });

  test("[E37] a source may mark what the target may have had from somebody else", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    const forgetful = forgetfulOf(target.log);
    const unmark = (header: string): { header: string; inDoubt: boolean } =>
      header.endsWith("?") ? { header: header.slice(0, -1), inDoubt: true } : { header, inDoubt: false };
    await publish(source.log, 1, 3);
    const { forwarding } = await forward(source, forgetful, { unmark });
    await forwarding.caughtUp();
    await target.log.append(STREAM, [event(4)], ROOMY);
    const marked = range(4, 6).map((n) => ({ ...event(n), header: `${event(n).header}?` }));
    await source.log.append(STREAM, [...marked, event(7)], ROOMY);
    await forwarding.caughtUp();
    expect(await numbersIn(target.log)).toEqual(range(1, 7));
    const headers = (await target.log.read(STREAM, { max: 10 })).map(({ header }) => header);
    expect(headers).toEqual(range(1, 7).map((n) => event(n).header));
  });

  test("[E37] of several, one forwards and the others stand by; each takes over from the one before, in order", async () => {
    const name = randomUUID();
    const sources = [await openBackend(name), await openBackend(name), await openBackend(name)];
    const target = await openBackend();
    const started: Started[] = [];
    for (const source of sources) started.push(await forward(source, target.log));
    const roles = (): string[] => started.map(({ forwarding }) => forwarding.stats().role);
    await until(() => roles().includes("forwarding"));
    let published = 0;
    for (let round = 0; round < 3; round += 1) {
      await publish(sources[0]?.log as Log, published + 1, published + 500);
      published += 500;
      expect(roles().filter((role) => role === "forwarding")).toHaveLength(1);
      const leader = started[roles().indexOf("forwarding")];
      await leader?.forwarding.close(1_000);
      if (round < 2) await until(() => roles().includes("forwarding"), { what: "a successor" });
      else break;
      const successor = started[roles().indexOf("forwarding")];
      await successor?.forwarding.caughtUp();
    }
    const last = await forward(sources[0] as Backend, target.log);
    await last.forwarding.caughtUp();
    expect(await numbersIn(target.log)).toEqual(range(1, 1_500));
  });

  test("[E37] what a dead process held comes first, once its lease is over", async () => {
    const source = await openBackend();
    const target = await openBackend();
    await publish(source.log, 1, 500);
    await source.log.createGroup(STREAM, GROUP, settingsOf(LEASE_MS));
    const dead = await source.log.open(STREAM, GROUP, "dead");
    const { deliveries } = await dead.take({ max: 100, waitMs: 0 }, []);
    expect(deliveries).toHaveLength(100);
    // It had sent them, and so long ago that the target has forgotten their ids.
    const forgetful = forgetfulOf(target.log);
    await forgetful.append(STREAM, deliveries, ROOMY);
    const { forwarding } = await forward(source, forgetful);
    await forwarding.caughtUp();
    expect(await numbersIn(target.log)).toEqual(range(1, 500));
  });

  test("[E37] what somebody takes from between is waited for, and given back it goes on in order", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    const { forwarding } = await forward(source, target.log);
    await until(() => forwarding.stats().role === "forwarding");
    const thief = await source.log.open(STREAM, GROUP, "thief");
    await publish(source.log, 1, 1);
    await forwarding.caughtUp();
    let next = 2;
    for (let round = 0; round < 5; round += 1) {
      const appending = source.log.append(STREAM, range(next, next + 299).map(event), ROOMY);
      // In the same tick, so that nobody can have been woken.
      const { deliveries } = await thief.take({ max: 7, waitMs: 0 }, []);
      expect(deliveries).toHaveLength(7);
      await appending;
      next += 300;
      await pause(50);
      await thief.take(
        { max: 0, waitMs: 0 },
        deliveries.toReversed().map(({ receipt }) => ({ receipt, as: "retry", delayMs: 0, counted: false })),
      );
      await forwarding.caughtUp();
    }
    expect(await numbersIn(target.log)).toEqual(range(1, next - 1));
  });

  test("[E37] who loses the turn while it waits for what others hold lets go of what it has itself", async () => {
    const name = randomUUID();
    const [first, second, target] = [await openBackend(name), await openBackend(name), await openBackend()];
    let isCutOff = false;
    const queue: Queue = {
      ...first.queue,
      async open(...args) {
        const feed = await first.queue.open(...args);
        const extend: Feed["extend"] = (receipts) =>
          isCutOff ? Promise.reject(new ConnectionError("cut off")) : feed.extend(receipts);
        return { take: feed.take, close: feed.close, extend };
      },
    };
    const one = await forward({ ...first, queue }, target.log);
    await publish(first.log, 1, 1);
    await one.forwarding.caughtUp();
    const other = await forward(second, target.log);
    const thief = await first.log.open(STREAM, GROUP, "thief");
    const appending = first.log.append(STREAM, range(2, 300).map(event), ROOMY);
    const { deliveries } = await thief.take({ max: 7, waitMs: 0 }, []);
    await appending;
    isCutOff = true;
    const hold = setInterval(() => void thief.extend(deliveries.map(({ receipt }) => receipt)), LEASE_MS / 3);
    undo.push(async () => clearInterval(hold));
    await until(() => other.forwarding.stats().role === "forwarding", { what: "the other to get the turn" });
    await until(() => one.forwarding.stats().role === "standby", { what: "the one to let go" });
    clearInterval(hold);
    await thief.close();
    await other.forwarding.caughtUp(AbortSignal.timeout(10_000));
    expect(await numbersIn(target.log)).toEqual(range(1, 300));
  });

  test("[E37] messages that cannot be read are moved as they are, also twice the same", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    const strange: NewEntry[] = [
      { header: "no header of ours", data: "a" },
      { header: "no header of ours", data: "a" },
      { header: "9\u001fnewer", data: new Uint8Array([0, 255]) },
      { header: "1\u001f", data: "no id" },
    ];
    await source.log.append(STREAM, strange, ROOMY);
    const { forwarding } = await forward(source, target.log);
    await forwarding.caughtUp();
    const moved = await target.log.read(STREAM, { max: 10 });
    const given = await source.log.read(STREAM, { max: 10 });
    expect(moved.map(({ header, data }) => [header, data])).toEqual(given.map(({ header, data }) => [header, data]));
    expect(moved).toHaveLength(4);
  });

  test("[E37] a seek sends the past again, of which the target stores what it does not know", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    await publish(source.log, 1, 300);
    const { forwarding } = await forward(source, target.log);
    await forwarding.caughtUp();
    await source.log.seek(STREAM, GROUP, "beginning");
    await publish(source.log, 301, 310);
    await forwarding.caughtUp();
    expect(await numbersIn(target.log)).toEqual(range(1, 310));
    await until(() => forwarding.stats().duplicates === 300);
  });

  test("[E37] what is dropped beneath it is told, and the rest goes on in order", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    const dropping: Retention = { maxEntries: 50, overflow: "drop-oldest" };
    let open = false;
    const gate: Pick<Log, "append" | "read"> = {
      read: target.log.read,
      append: (...args) => (open ? target.log.append(...args) : Promise.reject(new ConnectionError("away"))),
    };
    await source.log.createGroup(STREAM, GROUP, settingsOf(LEASE_MS));
    await source.log.append(STREAM, range(1, 40).map(event), dropping);
    const { forwarding, seen } = await forward(source, gate);
    await until(() => forwarding.stats().state === "failing");
    await source.log.append(STREAM, range(41, 70).map(event), dropping);
    await source.log.append(STREAM, range(71, 100).map(event), dropping);
    open = true;
    await forwarding.caughtUp();
    const moved = await numbersIn(target.log);
    expect(moved).toEqual(moved.toSorted((a, b) => a - b));
    expect(new Set(moved).size).toBe(moved.length);
    expect(moved.slice(-50)).toEqual(range(51, 100));
    expect(seen.some((what) => what.startsWith("gone"))).toBe(true);
  });

  test("[E37] a group that consumers have made is refused, and a deleted one ends the forwarding", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    await source.log.createGroup(STREAM, "billing", {
      from: "beginning",
      leaseMs: LEASE_MS,
      maxAttempts: 3,
      maxDeadLetters: 1,
      order: "none",
      maxHeld: 1,
    });
    await expect(forward(source, target.log, { group: "billing" })).rejects.toMatchObject({ code: "CONFIG" });
    const { forwarding, seen } = await forward(source, target.log);
    await until(() => forwarding.stats().role === "forwarding");
    await source.log.deleteGroup(STREAM, GROUP);
    await until(() => forwarding.stats().state === "ended");
    expect(seen.at(-1)).toBe("ended: NotFoundError");
    await expect(forwarding.caughtUp()).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("[E37] caughtUp is ended by its signal, and large messages come through", async () => {
    const [source, target] = [await openBackend(), await openBackend()];
    await source.log.append(
      STREAM,
      range(1, 60).map((n) => ({ ...event(n), data: "x".repeat(100_000) })),
      ROOMY,
    );
    const { forwarding } = await forward(source, target.log);
    await forwarding.caughtUp();
    expect((await target.log.stats(STREAM)).length).toBe(60);
    await source.log.pause(STREAM, GROUP);
    await publish(source.log, 61, 61);
    await expect(forwarding.caughtUp(AbortSignal.timeout(50))).rejects.toMatchObject({ name: "TimeoutError" });
    await source.log.resume(STREAM, GROUP);
    await forwarding.caughtUp();
  });
});

/** As a target whose window has passed: it remembers no ids. */
function forgetfulOf(log: Log): Pick<Log, "append" | "read"> {
  return {
    read: log.read,
    append: (stream, entries, retention) =>
      log.append(
        stream,
        entries.map(({ dedupeId: _forgotten, ...rest }) => rest),
        retention,
      ),
  };
}

function settingsOf(leaseMs: number): GroupSettings {
  return {
    from: "beginning",
    leaseMs,
    maxAttempts: 1_000_000_000,
    maxDeadLetters: 1,
    order: "none",
    maxHeld: 1,
    types: ["{forwarded}"],
  };
}
