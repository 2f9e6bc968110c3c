/** The outbox over ports: what is published while the server is away arrives there in order, once, and goes on there. */

import { randomUUID } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import { openMemory } from "../../src/backends/memory/index.js";
import type { Appended, Backend, BackendContext, Log, NewEntry, Retention } from "../../src/core/backend.js";
import { nextTurn, systemClock } from "../../src/core/clock.js";
import {
  AuthError,
  ConnectionError,
  LimitError,
  OutOfMemoryError,
  PublishIndeterminateError,
} from "../../src/core/errors.js";
import { encodeHeader } from "../../src/core/message.js";
import { openOutbox } from "../../src/core/outbox.js";
import { pause, until } from "../support/wait.js";

const ROOMY: Retention = { maxEntries: 1_000_000, overflow: "reject" };

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

function context(report: BackendContext["report"]): BackendContext {
  return { namespace: "t", clock: systemClock, report };
}

/** A server in this process, with everything that can go wrong with it. */
interface Server {
  state: "up" | "down" | "mute" | "refuses credentials";
  /** What the next append fails with. */
  failure: Error | undefined;
  /** Whether the failing append is stored all the same. */
  storesAllTheSame: boolean;
  /** Remembers no ids, as if their window had passed. */
  isForgetful: boolean;
  latencyMs: number;
  readonly store: Backend;
  open(): Promise<Backend>;
}

async function startServer(): Promise<Server> {
  const name = randomUUID();
  const strict = context((error, where) => expect.fail(`${where}: ${String(error)}`));
  const store = await openMemory({ name }, strict);
  undo.push(() => store.close());
  const server: Server = {
    state: "up",
    failure: undefined,
    storesAllTheSame: false,
    isForgetful: false,
    latencyMs: 0,
    store,
    async open() {
      assertUp();
      const backend = await openMemory({ name }, strict);
      return { ...backend, name: "server", ping: async () => (assertUp(), 0), log: { ...backend.log, append, read } };
    },
  };
  const assertUp = (): void => {
    if (server.state === "refuses credentials") throw new AuthError("wrong password");
    if (server.state !== "up") throw new ConnectionError("the server is away");
  };
  const read: Log["read"] = async (...args) => {
    assertUp();
    return store.log.read(...args);
  };
  const append: Log["append"] = async (stream, entries, retention) => {
    if (server.state === "mute") await new Promise(() => undefined);
    assertUp();
    if (server.latencyMs > 0) await pause(server.latencyMs);
    const given = server.isForgetful ? entries.map(({ dedupeId: _forgotten, ...rest }) => rest) : entries;
    const { failure } = server;
    server.failure = undefined;
    if (failure !== undefined && !server.storesAllTheSame) throw failure;
    const appended = await store.log.append(stream, given, retention);
    if (failure !== undefined) throw failure;
    return appended;
  };
  return server;
}

interface Opened {
  readonly backend: Backend;
  /** Ids of log events. */
  readonly events: string[];
  readonly reports: string[];
}

async function open(server: Server, fallbackName: string = randomUUID()): Promise<Opened> {
  const events: string[] = [];
  const reports: string[] = [];
  const reporting = context((error, where) => void reports.push(`${where}: ${String(error)}`));
  const fallback = await openMemory({ name: fallbackName }, reporting);
  const backend = await openOutbox({
    name: "server",
    durability: "memory",
    openFirst: () => server.open(),
    open: () => server.open(),
    fallback: { ...fallback, durability: "fsync" },
    context: reporting,
    telemetry: { log: (event) => void events.push(event) },
  });
  undo.push(() => backend.close());
  return { backend, events, reports };
}

/** Keeps a fallback's messages while nobody has it open, as a file does. */
async function keepOpen(name: string): Promise<void> {
  const keeper = await openMemory(
    { name },
    context(() => undefined),
  );
  undo.push(() => keeper.close());
}

function event(text: string, stream = "s"): NewEntry {
  const fields = { id: `id-${text}`, type: stream, channel: stream, source: "test", contentType: "json" };
  return { header: encodeHeader(fields), data: text };
}

function publish({ backend }: Opened, text: string, stream = "s"): Promise<Appended | undefined> {
  return backend.log.append(stream, [event(text, stream)], ROOMY).then(([appended]) => appended);
}

async function texts(server: Server, stream = "s"): Promise<string[]> {
  const entries = await server.store.log.read(stream, { max: 1_000_000 });
  return entries.map(({ data }) => Buffer.from(data).toString());
}

function texted(count: number, from = 1): string[] {
  return Array.from({ length: count }, (_, index) => String(from + index));
}

describe("[E37] the outbox", () => {
  test("[E37] while the server is there everything goes to it, and a message comes once by its id", async () => {
    const server = await startServer();
    const opened = await open(server);
    const first = await publish(opened, "1");
    expect(first).toEqual({ position: expect.stringMatching(/./), duplicate: false });
    expect(await publish(opened, "1")).toEqual({ ...first, duplicate: true });
    expect(await texts(server)).toEqual(["1"]);
    expect(opened.events).toEqual([]);
    const checks = await opened.backend.check();
    expect(checks.every(({ ok }) => ok)).toBe(true);
  });

  test("[E37] an absent server: events are kept, all else is refused; then they arrive in order, and so it goes on", async () => {
    const server = await startServer();
    server.state = "down";
    const opened = await open(server);
    const { backend, events } = opened;
    for (const text of texted(5)) {
      expect(await publish(opened, text)).toEqual({ position: "", duplicate: false, fallback: "fsync" });
    }
    expect((await publish(opened, "5"))?.duplicate).toBe(true);
    const refused = [
      () => backend.log.read("s", { max: 1 }),
      () => backend.log.stats("s"),
      () => backend.log.open("s", "g", "c"),
      () => backend.log.deadLetters("s", "g").list({ max: 1 }),
      () => backend.queue.push("q", [], { maxItems: 1 }),
      () => backend.queue.deadLetters("q", "").purge(0),
      () => backend.broadcast.publish([{ channel: "c", data: "d" }]),
      () => backend.ping(),
    ];
    for (const call of refused) await expect(call()).rejects.toMatchObject({ code: "CONNECTION" });
    const checks = await backend.check();
    expect(checks.filter(({ ok }) => !ok).map(({ name }) => name)).toEqual(["server", "outbox"]);
    expect(events).toEqual(["fallback_engaged"]);

    server.state = "up";
    await until(() => events.includes("fallback_drained"));
    expect(await publish(opened, "6")).toEqual({ position: expect.stringMatching(/./), duplicate: false });
    expect(await texts(server)).toEqual(texted(6));
    expect(events).toEqual(["fallback_engaged", "fallback_drained"]);
    expect((await backend.check()).every(({ ok }) => ok)).toBe(true);
    expect(opened.reports).toEqual([]);
  });

  test("[E37] publishers that never pause: order kept through an outage, nothing lost, nothing twice, and then the server again", async () => {
    const server = await startServer();
    const opened = await open(server);
    const streams = ["a", "b"];
    const publishers = 3;
    const stop = new AbortController();
    const published = new Map<string, string[]>();
    const after: boolean[] = [];
    const run = async (stream: string, publisher: number): Promise<void> => {
      const mine: string[] = [];
      published.set(`${stream}/${publisher}`, mine);
      for (let n = 1; !stop.signal.aborted; n += 1) {
        const text = `${publisher}:${n}`;
        // A store in this process answers at once: without a turn of the loop nothing else would ever run.
        await nextTurn();
        const appended = await publish(opened, text, stream);
        mine.push(text);
        if (after.length < 1_000_000 && opened.events.includes("fallback_drained")) after.push(!appended?.fallback);
      }
    };
    const running = streams.flatMap((stream) => [1, 2, 3].map((publisher) => run(stream, publisher)));
    const sent = (): number => [...published.values()].reduce((sum, mine) => sum + mine.length, 0);
    for (let outage = 1; outage <= 2; outage += 1) {
      const before = sent();
      await until(() => sent() > before + 2_000);
      server.state = "down";
      const during = sent();
      await until(() => sent() > during + 2_000);
      server.state = "up";
      const drained = (): number => opened.events.filter((what) => what === "fallback_drained").length;
      await until(() => drained() === outage, { deadlineMs: 15_000, what: "the outbox to be empty" });
    }
    const last = sent();
    await until(() => sent() > last + 100);
    stop.abort();
    await Promise.all(running);
    expect(published.size).toBe(streams.length * publishers);
    for (const stream of streams) {
      const arrived = await texts(server, stream);
      expect(new Set(arrived).size).toBe(arrived.length);
      for (const publisher of [1, 2, 3]) {
        const mine = arrived.filter((text) => text.startsWith(`${publisher}:`));
        expect(mine).toEqual(published.get(`${stream}/${publisher}`));
      }
    }
    expect(after.at(-1)).toBe(true);
    expect(opened.events.filter((what) => what === "fallback_engaged")).toHaveLength(2);
  }, 60_000);

  test("[E37] an outbox that is filled faster than the server takes it is emptied all the same", async () => {
    const server = await startServer();
    server.latencyMs = 20;
    server.state = "down";
    const opened = await open(server);
    let published = 0;
    const stop = new AbortController();
    const running = (async () => {
      for (; !stop.signal.aborted; await nextTurn()) {
        const batch = texted(256, published + 1).map((text) => event(text));
        published += batch.length;
        await opened.backend.log.append("s", batch, ROOMY);
      }
    })();
    await until(() => published > 3_000);
    server.state = "up";
    await until(() => opened.events.includes("fallback_drained"), { deadlineMs: 15_000 });
    stop.abort();
    await running;
    expect(await texts(server)).toEqual(texted(published));
  });

  for (const isForgetful of [false, true]) {
    const memory = isForgetful ? "forgot the ids meanwhile" : "remembers the ids";
    test(`[E37] a publish of which nobody knows whether it was stored arrives once, by a server that ${memory}`, async () => {
      const server = await startServer();
      const opened = await open(server);
      await publish(opened, "1");
      server.isForgetful = isForgetful;
      server.failure = new PublishIndeterminateError("the reply was lost");
      server.storesAllTheSame = true;
      expect((await publish(opened, "2"))?.fallback).toBe("fsync");
      expect((await publish(opened, "3"))?.fallback).toBe("fsync");
      await until(() => opened.events.includes("fallback_drained"));
      server.storesAllTheSame = false;
      server.failure = new PublishIndeterminateError("the request was lost");
      expect((await publish(opened, "4"))?.fallback).toBe("fsync");
      await until(async () => (await texts(server)).length === 4);
      expect(await texts(server)).toEqual(texted(4));
      const headers = (await server.store.log.read("s", { max: 9 })).map(({ header }) => header);
      expect(headers).toEqual(texted(4).map((text) => event(text).header));
    });
  }

  test("[E37] a server that does not answer is not waited for", async () => {
    const server = await startServer();
    const opened = await open(server);
    server.state = "mute";
    const kept = await Promise.all(texted(3).map((text) => publish(opened, text)));
    expect(kept.map((appended) => appended?.fallback)).toEqual(["fsync", "fsync", "fsync"]);
    server.state = "up";
    await until(() => opened.events.includes("fallback_drained"), { deadlineMs: 15_000 });
    expect(await texts(server)).toEqual(texted(3));
  });

  test("[E37] what a process leaves in its outbox is moved by the next that opens it", async () => {
    const server = await startServer();
    const name = randomUUID();
    await keepOpen(name);
    server.state = "down";
    const first = await open(server, name);
    for (const stream of ["a", "b"]) for (const text of texted(300)) await publish(first, text, stream);
    await first.backend.close();
    const second = await open(server, name);
    expect(second.events).toEqual(["fallback_engaged"]);
    await publish(second, "301", "a");
    server.state = "up";
    await until(() => second.events.includes("fallback_drained"));
    expect(await texts(server, "a")).toEqual(texted(301));
    expect(await texts(server, "b")).toEqual(texted(300));
    const third = await open(server, name);
    expect(third.events).toEqual([]);
  });

  test("[E37] the server is back at the next start: it is asked first, and what was left still comes before what is new", async () => {
    const server = await startServer();
    const name = randomUUID();
    await keepOpen(name);
    server.state = "down";
    const first = await open(server, name);
    for (const text of texted(500)) await publish(first, text);
    await first.backend.close();
    server.state = "up";
    const second = await open(server, name);
    await Promise.all(texted(50, 501).map((text) => publish(second, text)));
    await until(() => second.events.includes("fallback_drained"));
    expect(await texts(server)).toEqual(texted(550));
  });

  test("[E37] what the server refuses is refused, and nothing is kept: it is not away", async () => {
    const server = await startServer();
    const opened = await open(server);
    for (const failure of [new LimitError("full"), new OutOfMemoryError("no memory"), new AuthError("not yours")]) {
      server.failure = failure;
      await expect(publish(opened, "1")).rejects.toBe(failure);
    }
    expect(opened.events).toEqual([]);
    expect(await texts(server)).toEqual([]);
  });

  test("[E37] wrong credentials are an error at once, and in the background a report", async () => {
    const server = await startServer();
    server.state = "refuses credentials";
    await expect(open(server)).rejects.toMatchObject({ code: "AUTH" });
    server.state = "down";
    const opened = await open(server);
    await publish(opened, "1");
    server.state = "refuses credentials";
    await until(() => opened.reports.length > 0);
    expect(opened.reports).toEqual([expect.stringContaining("wrong password")]);
    server.state = "up";
    await until(() => opened.events.includes("fallback_drained"));
    expect(await texts(server)).toEqual(["1"]);
  });

  test("[E37] limits that are declared while the server is absent are stored there later", async () => {
    const server = await startServer();
    server.state = "down";
    const { backend, reports } = await open(server);
    const limits: Retention = { maxEntries: 10, overflow: "drop-oldest" };
    expect(await backend.log.configure("new", limits)).toEqual(limits);
    await server.store.log.configure("old", ROOMY);
    await backend.log.configure("old", limits);
    server.state = "up";
    await until(async () => backend.ping().then(() => true));
    expect((await server.store.log.stats("new")).retention).toEqual(limits);
    expect((await server.store.log.stats("old")).retention).toEqual(ROOMY);
    expect(reports).toEqual([expect.stringContaining('"old"')]);
  });
});
