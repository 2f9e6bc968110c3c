/** A backend's own life: identity, health, closing. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Backend, Bytes, DeadLetters, Membership, Queue } from "../core/backend.js";
import { NO_RECORDS } from "../core/backend.js";
import { SignalboxError } from "../core/errors.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  attemptsOf,
  collect,
  collectOne,
  entry,
  GROUP,
  item,
  LIMITS,
  LONG_LEASE_MS,
  LONG_WAIT_MS,
  quiet,
  ROOMY,
  rejectsWith,
  retry,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { aMoment, eventually, within } from "./waiting.js";
import { bothPorts } from "./work.js";

const CONSUMER = { consumer: "consumer", leaseMs: LONG_LEASE_MS, maxAttempts: 3, maxDeadLetters: 10 };

/** Every call that a backend has, by its name. */
function callsOf(backend: Backend): Record<string, () => Promise<unknown>> {
  const { broadcast, log, queue, membership } = backend;
  return {
    ping: () => backend.ping(),
    publish: () => broadcast.publish([{ channel: "channel", data: "a" }]),
    subscribe: () => broadcast.subscribe({ channel: "channel" }, { message: () => {}, gap: () => {} }),
    "subscribe to a pattern": () => broadcast.subscribe({ pattern: "c*" }, { message: () => {}, gap: () => {} }),
    append: () => log.append("stream", [entry("a")], ROOMY),
    read: () => log.read("stream", { max: 1 }),
    createGroup: () => log.createGroup("stream", "group", GROUP),
    configure: () => log.configure("stream", ROOMY),
    changeRetention: () => log.changeRetention("stream", { maxEntries: 5 }, ROOMY),
    trim: () => log.trim("stream"),
    configureGroup: () => log.configureGroup("stream", "group", { maxAttempts: 2 }),
    seek: () => log.seek("stream", "group", "beginning"),
    pause: () => log.pause("stream", "group"),
    resume: () => log.resume("stream", "group"),
    deleteGroup: () => log.deleteGroup("stream", "group"),
    "open of a group": () => log.open("stream", "group", "consumer"),
    ...letterCallsOf("a group", log.deadLetters("stream", "group")),
    "stats of a stream": () => log.stats("stream"),
    push: () => queue.push("queue", [item("a")], LIMITS),
    "open of a recipient": () => queue.open("queue", "", CONSUMER),
    ...letterCallsOf("a recipient", queue.deadLetters("queue", "")),
    "stats of a recipient": () => queue.stats("queue", ""),
    ...recipientCallsOf(queue),
    ...itemCallsOf(queue),
    ...membershipCallsOf(membership),
  };
}

function recipientCallsOf(queue: Queue): Record<string, () => Promise<unknown>> {
  return {
    register: () => queue.register("queue", "recipient", { ttlMs: 60_000, isAudience: true }),
    unregister: () => queue.unregister("queue", "recipient"),
    recipients: () => queue.recipients("queue", { max: 1 }),
    "pause of a recipient": () => queue.pause("queue", "recipient"),
    "resume of a recipient": () => queue.resume("queue", "recipient"),
  };
}

function itemCallsOf(queue: Queue): Record<string, () => Promise<unknown>> {
  return {
    "configure of a queue": () => queue.configure("queue", NO_RECORDS),
    browse: () => queue.browse("queue", "", { max: 1 }),
    get: () => queue.get("queue", "id"),
    list: () => queue.list("queue", {}, { max: 1 }),
    count: () => queue.count("queue", {}),
    acknowledge: () => queue.acknowledge("queue", "", ["id"]),
    remove: () => queue.remove("queue", ["id"]),
    clear: () => queue.clear("queue"),
  };
}

function membershipCallsOf(membership: Membership): Record<string, () => Promise<unknown>> {
  return {
    begin: () => membership.begin("holder", LONG_LEASE_MS),
    renew: () => membership.renew("holder", LONG_LEASE_MS),
    end: () => membership.end("holder"),
    join: () => membership.join("group", "holder", [{ id: "ada", meta: "", connections: 1 }], { maxMembers: 1 }),
    leave: () => membership.leave("group", "holder", ["ada"]),
    "list of members": () => membership.list("group", { max: 1 }),
    find: () => membership.find("group", ["ada"]),
    versions: () => membership.versions(["group"], "holder"),
    lapsing: () => membership.lapsing(),
    reap: () => membership.reap("holder"),
  };
}

function letterCallsOf(whose: string, letters: DeadLetters): Record<string, () => Promise<unknown>> {
  return {
    [`dead letters of ${whose}`]: () => letters.list({ max: 1 }),
    [`get of a letter of ${whose}`]: () => letters.get("id"),
    [`redrive of ${whose}`]: () => letters.redrive(["id"]),
    [`removing letters of ${whose}`]: () => letters.remove(["id"]),
    [`purge of ${whose}`]: () => letters.purge(0),
  };
}

const identity: readonly ContractCase[] = [
  {
    title: "backend: it has a name, says what a write attains, and measures a round trip",
    run: async ({ backend }) => {
      ok(backend.name.length > 0);
      ok(["memory", "fsync", "replicated"].includes(backend.durability), backend.durability);
      const ms = await backend.ping();
      ok(Number.isFinite(ms) && ms >= 0, `${ms} ms`);
    },
  },
  {
    title: "backend: while all is well, every check is ok, also with feeds and subscriptions open",
    run: async (store) => {
      const { backend } = store;
      const expectWell = async (): Promise<void> => {
        const checks = await backend.check();
        ok(checks.length > 0, "something is checked");
        for (const { name, ok: isOk, latencyMs = 0, error } of checks) {
          ok(name.length > 0 && isOk && error === undefined, `${name}: ${error}`);
          ok(Number.isFinite(latencyMs) && latencyMs >= 0);
        }
      };
      await expectWell();
      await backend.log.createGroup("stream", "group", GROUP);
      const feeds = [
        await backend.log.open("stream", "group", "consumer"),
        await backend.queue.open("queue", "", CONSUMER),
      ];
      await backend.broadcast.subscribe({ channel: "channel" }, { message: () => {}, gap: () => {} });
      const takes = feeds.map((feed) => feed.take({ max: 1, waitMs: LONG_WAIT_MS }, []));
      await aMoment();
      await expectWell();
      await Promise.all(feeds.map((feed) => feed.close()));
      await Promise.allSettled(takes);
    },
  },
];

const closing: readonly ContractCase[] = [
  {
    title: "backend: closing is safe to do twice, also at the same time",
    run: async (store) => {
      const backend = await store.second();
      await Promise.all([backend.close(), backend.close()]);
      await backend.close();
    },
  },
  {
    title: "backend: calls after closing reject as closed",
    run: async (store) => {
      const backend = await store.second();
      await backend.log.createGroup("stream", "group", GROUP);
      await backend.close();
      for (const [name, call] of Object.entries(callsOf(backend))) await rejectsWith("CLOSED", call, name);
    },
  },
  {
    title: "backend: a check after closing says so, and does not hang",
    run: async (store) => {
      const backend = await store.second();
      await backend.close();
      const checked = await within(store, backend.check()).catch((error: unknown) => {
        ok(error instanceof SignalboxError && error.code === "CLOSED", String(error));
        return [];
      });
      ok(!checked.some((check) => check.ok), "nothing that is closed is ok");
    },
  },
  {
    title: "backend: closing one leaves the others on the store alone",
    run: async (store) => {
      const [second, third] = [await store.second(), await store.second()];
      const heard: string[] = [];
      const message = (_channel: string, data: Bytes): void => void heard.push(...textsOf([{ data }]));
      await store.backend.broadcast.subscribe({ channel: "channel" }, { message, gap: () => {} });
      await second.log.append("stream", [entry("a")], ROOMY);
      await second.queue.push("queue", [item("a")], LIMITS);
      await second.close();
      deepEqual(textsOf(await store.backend.log.read("stream", { max: 10 })), ["a"]);
      equal((await third.queue.stats("queue", "")).waiting, 1);
      await third.broadcast.publish([{ channel: "channel", data: "a" }]);
      await eventually(store, () => heard.length > 0, "the message");
      deepEqual(heard, ["a"]);
    },
  },
  {
    title: "backend: what was stored outlives the backend that stored it",
    run: async (store) => {
      const second = await store.second();
      await store.backend.log.append("stream", [entry("a")], ROOMY);
      await store.backend.log.createGroup("stream", "group", GROUP);
      await store.backend.queue.push("queue", [item("a")], LIMITS);
      await store.backend.close();
      deepEqual(textsOf(await second.log.read("stream", { max: 10 })), ["a"]);
      const feed = await second.log.open("stream", "group", "consumer");
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a"]);
      deepEqual(attemptsOf(await collect(store, await second.queue.open("queue", "", CONSUMER), 1)), ["a"]);
    },
  },
  {
    title: "backend: closing ends its subscriptions",
    run: async (store) => {
      const backend = await store.second();
      const heard: string[] = [];
      const listener = { message: (channel: string): void => void heard.push(channel), gap: () => {} };
      const unsubscribe = await backend.broadcast.subscribe({ channel: "channel" }, listener);
      await backend.broadcast.subscribe({ pattern: "c*" }, listener);
      await backend.close();
      const others: string[] = [];
      const message = (channel: string): void => void others.push(channel);
      await store.backend.broadcast.subscribe({ channel: "channel" }, { message, gap: () => {} });
      await store.backend.broadcast.publish([{ channel: "channel", data: "a" }]);
      await eventually(store, () => others.length > 0, "the message");
      deepEqual(heard, []);
      await unsubscribe();
    },
  },
  ...bothPorts("closing a backend gives back what its consumers hold, uncounted and at once", async (store, start) => {
    const work = await start();
    await work.add("a", "b", "c", "d");
    const backend = await store.second();
    const feeds = [await work.open({ backend }), await work.open({ backend })] as const;
    const [a, b] = await collect(store, feeds[0], 2);
    ok(a && b);
    await settled(feeds[0], ack(a), retry(b));
    await collect(store, feeds[1], 3);
    const other = await work.open();
    await quiet(store, other);
    await backend.close();
    deepEqual(attemptsOf(await collect(store, other, 3)).toSorted(), ["b#2", "c", "d"]);
  }),
  ...bothPorts("closing a backend ends a take that waits, and closes the consumer", async (store, start) => {
    const work = await start();
    const backend = await store.second();
    const feed = await work.open({ backend });
    const waiting = feed.take({ max: 5, waitMs: LONG_WAIT_MS }, []).then(
      ({ deliveries }) => attemptsOf(deliveries),
      (error: unknown) => error,
    );
    await aMoment();
    await backend.close();
    const ended = await within(store, waiting);
    if (!Array.isArray(ended)) ok(ended instanceof SignalboxError && ended.code === "CLOSED", String(ended));
    else deepEqual(ended, []);
    await rejectsWith("CLOSED", () => take(feed), "take");
    await rejectsWith("CLOSED", () => feed.extend([]), "extend");
    await feed.close();
    await work.add("a");
    equal((await collectOne(store, await work.open())).attempt, 1);
  }),
];

export const lifecycleCases: readonly ContractCase[] = [...identity, ...closing];
