/** Names of every kind stay apart, whatever characters they are made of; namespaces never see each other. */

import { deepEqual, equal } from "node:assert/strict";
import type { Backend, Bytes, QueueConsumer } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  allLetters,
  collect,
  collectOne,
  countsOf,
  deadLetter,
  entry,
  first,
  GROUP,
  item,
  itemCountsOf,
  keyed,
  LIMITS,
  LONG_LEASE_MS,
  quiet,
  ROOMY,
  settled,
  textsOf,
} from "./fixtures.js";
import { eventually } from "./waiting.js";

/** Names that look alike to a store that joins, escapes, folds, cuts or looks up names carelessly. */
export const AWKWARD: readonly string[] = [
  "a A a:b a%3Ab a%3ab a%253Ab a::b a:b: :a:b a+b a.b a/b a\\b {a} {a}b }{ {a:b} a|b a,b a;b".split(" "),
  "'a' \"a\" a';-- % %% %25 * ? [a] 0 __proto__ constructor toString hasOwnProperty null undefined".split(" "),
  ["a b", "a  b", "é", "e\u0301", "日本", "😀", "😀😀", "x".repeat(200), `${"x".repeat(199)}y`, "😀".repeat(50)],
].flat();

function consumerOf(store: ContractStore): QueueConsumer {
  return { consumer: store.name(), leaseMs: LONG_LEASE_MS, maxAttempts: 3, maxDeadLetters: 10 };
}

/** Does `work` for every awkward name, ten at a time, so that a slow store need not take them one by one. */
export async function forEachName(work: (name: string) => Promise<void>): Promise<void> {
  for (let start = 0; start < AWKWARD.length; start += 10) {
    await Promise.all(AWKWARD.slice(start, start + 10).map(work));
  }
}

const kinds: readonly ContractCase[] = [
  {
    title: "log: streams of awkward names stay apart, with their groups",
    run: async (store) => {
      const { log } = store.backend;
      await forEachName(async (name) => {
        await log.append(name, [entry(name)], ROOMY);
        await log.createGroup(name, name, GROUP);
      });
      await forEachName(async (name) => {
        deepEqual(textsOf(await log.read(name, { max: 10 })), [name]);
        const { length, groups } = await log.stats(name);
        deepEqual([length, groups.map(({ group, lag }) => [group, lag])], [1, [[name, 1]]]);
        const feed = await log.open(name, name, name);
        const delivery = await collectOne(store, feed);
        deepEqual(textsOf([delivery]), [name]);
        await settled(feed, deadLetter(delivery));
        const letters = await allLetters(log.deadLetters(name, name));
        deepEqual(
          letters.map(({ consumer }) => consumer),
          [name],
        );
      });
    },
  },
  {
    title: "log: groups of awkward names stay apart on one stream",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.append(stream, ["m1", "m2"].map(entry), ROOMY);
      await forEachName(async (name) => void (await log.createGroup(stream, name, GROUP)));
      await forEachName(async (name) => {
        const feed = await log.open(stream, name, "consumer");
        const [delivery] = await collect(store, feed, 2);
        if (delivery !== undefined) await settled(feed, deadLetter(delivery, { kind: "failed", message: name }));
        const letters = await allLetters(log.deadLetters(stream, name));
        deepEqual(
          letters.map(({ reason }) => reason.message),
          [name],
        );
      });
      const { groups } = await log.stats(stream);
      deepEqual(groups.map(({ group }) => group).toSorted(), AWKWARD.toSorted());
    },
  },
  {
    title: "log: what is redriven, paused or deleted of groups of awkward names concerns no other",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await forEachName(async (name) => void (await log.createGroup(stream, name, { ...GROUP, order: "key" })));
      await log.append(stream, ["k:1", "k:2"].map(keyed), ROOMY);
      await forEachName(async (name) => {
        const feed = await log.open(stream, name, name);
        await settled(feed, deadLetter(await collectOne(store, feed)));
        const letters = log.deadLetters(stream, name);
        equal(await letters.redrive([first(await allLetters(letters)).id]), 1, name);
        // Everybody's redriven messages stand here by now, and each group gets its own.
        for (const text of ["k:2", "k:1"]) {
          const delivery = await collectOne(store, feed);
          deepEqual([...textsOf([delivery]), delivery.attempt], [text, 1], name);
          await settled(feed, ack(delivery));
        }
        await quiet(store, feed);
      });
      const isPaused = (name: string): boolean => AWKWARD.indexOf(name) % 3 === 0;
      const isDeleted = (name: string): boolean => AWKWARD.indexOf(name) % 3 === 1;
      await forEachName(async (name) => {
        if (isPaused(name)) await log.pause(stream, name);
        if (isDeleted(name)) equal(await log.deleteGroup(stream, name), true, name);
      });
      const { groups } = await log.stats(stream);
      deepEqual(
        groups.map(({ group, paused }) => `${group} ${paused}`).toSorted(),
        AWKWARD.filter((name) => !isDeleted(name))
          .map((name) => `${name} ${isPaused(name)}`)
          .toSorted(),
      );
      for (const { group, pending, retrying, held, dead } of groups) {
        deepEqual([pending, retrying, held, dead], [0, 0, 0, 0], group);
      }
    },
  },
  {
    title: "queue: queues, recipients and ids of awkward names stay apart",
    run: async (store) => {
      const { queue } = store.backend;
      const shared = store.name();
      const items = AWKWARD.map((name) => item(name, { recipient: name }));
      deepEqual(
        await queue.push(shared, items, LIMITS),
        AWKWARD.map((id) => ({ id, duplicate: false, recipients: 1 })),
      );
      await forEachName(async (name) => {
        await queue.push(name, [item("id", { data: name })], LIMITS);
        const inbox = await queue.open(shared, name, consumerOf(store));
        const delivery = await collectOne(store, inbox);
        deepEqual([delivery.position, ...textsOf([delivery])], [name, name]);
        await settled(inbox, deadLetter(delivery));
        deepEqual(textsOf(await allLetters(queue.deadLetters(shared, name))), [name]);
      });
      await forEachName(async (name) => {
        equal((await queue.stats(name, "")).waiting, 1, name);
        deepEqual(textsOf(await collect(store, await queue.open(name, "", consumerOf(store)), 1)), [name]);
      });
    },
  },
  {
    title: "queue: a queue's name and its recipient's never run together",
    run: async (store) => {
      const { queue } = store.backend;
      const pairs: [name: string, recipient: string][] = [
        ["a", "b:c"],
        ["a:b", "c"],
        ["a:b:c", ""],
        ["a", "b%3Ac"],
        ["a%3Ab", "c"],
        ["a:", "b:c"],
        ["a", ":b:c"],
      ];
      for (const [name, recipient] of pairs)
        await queue.push(name, [item(`${name} ${recipient}`, { recipient })], LIMITS);
      for (const [name, recipient] of pairs) {
        const feed = await queue.open(name, recipient, consumerOf(store));
        deepEqual(textsOf(await collect(store, feed, 1)), [`${name} ${recipient}`]);
        await quiet(store, feed);
      }
    },
  },
  {
    title: "queue: registered recipients, indexed fields and their values of awkward names stay apart",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      await queue.configure(name, { keepAckedMs: 60_000, maxRecords: 1_000, index: AWKWARD });
      for (const recipient of AWKWARD) {
        await queue.register(name, recipient, { ttlMs: 60_000, isAudience: recipient !== "a" });
      }
      const { recipients } = await queue.recipients(name, { max: 1_000 });
      deepEqual(
        recipients.map(({ recipient }) => recipient),
        AWKWARD,
      );
      const items = AWKWARD.map((field) => item(field, { recipient: field, fields: { [field]: field } }));
      await queue.push(name, [...items, item("news", { recipient: { audience: "registered" } })], LIMITS);
      await queue.pause(name, "a:b");
      await forEachName(async (field) => {
        const { items: found } = await queue.list(name, { fields: { [field]: field } }, { max: 10 });
        deepEqual(
          found.map(({ id }) => id),
          [field],
        );
        const { waiting, paused } = await queue.stats(name, field);
        deepEqual([waiting, paused], [field === "a" ? 1 : 2, field === "a:b"], field);
        deepEqual(await queue.acknowledge(name, field, [field]), [true]);
        equal((await queue.get(name, field))?.state, "acked");
      });
      equal(await queue.count(name, { state: "acked" }), AWKWARD.length);
      await forEachName(async (recipient) => equal(await queue.unregister(name, recipient), true, recipient));
      equal(await queue.count(name, { state: "open" }), 0);
    },
  },
  {
    title: "broadcast: channels of awkward names stay apart",
    run: async (store) => {
      const second = await store.second();
      const heard: string[] = [];
      await forEachName(async (name) => {
        const message = (channel: string, data: Bytes): void =>
          void heard.push(`${name} ${channel} ${first(textsOf([{ data }]))}`);
        await store.backend.broadcast.subscribe({ channel: name }, { message, gap: () => {} });
      });
      await second.broadcast.publish(AWKWARD.map((channel) => ({ channel, data: channel })));
      await eventually(store, () => heard.length >= AWKWARD.length, "a message on each channel");
      const expected = AWKWARD.map((name) => `${name} ${name} ${name}`);
      deepEqual(heard.toSorted(), expected.toSorted());
    },
  },
];

/** Stores and publishes `text` under the same names in whichever namespace the backend has. */
async function fill(backend: Backend, text: string): Promise<void> {
  await backend.log.append("same", [entry(text)], ROOMY);
  await backend.log.createGroup("same", "same", GROUP);
  await backend.queue.push("same", [item("same", { data: text, recipient: "same" })], LIMITS);
}

const namespaces: readonly ContractCase[] = [
  {
    title: "log, queue: namespaces never see each other, though all names are the same",
    run: async (store) => {
      const others = [await store.second({ namespace: "other" }), await store.second({ namespace: "other:same" })];
      const backends = [store.backend, ...others];
      for (const [index, backend] of backends.entries()) await fill(backend, `${index}`);
      for (const [index, backend] of backends.entries()) {
        deepEqual(textsOf(await backend.log.read("same", { max: 10 })), [`${index}`]);
        const feed = await backend.log.open("same", "same", "same");
        const delivery = await collectOne(store, feed);
        await settled(feed, deadLetter(delivery));
        deepEqual(textsOf(await allLetters(backend.log.deadLetters("same", "same"))), [`${index}`]);
        const { length, groups } = await backend.log.stats("same");
        deepEqual(groups.map(countsOf), [{ group: "same", lag: 0, pending: 0, retrying: 0, held: 0, dead: 1 }]);
        equal(length, 1);
        const inbox = await backend.queue.open("same", "same", { ...consumerOf(store), consumer: "same" });
        deepEqual(textsOf(await collect(store, inbox, 1)), [`${index}`]);
        deepEqual(itemCountsOf(await backend.queue.stats("same", "same")), {
          waiting: 0,
          leased: 1,
          delayed: 0,
          dead: 0,
          expired: 0,
        });
      }
      const same = await store.second({ namespace: "other" });
      deepEqual(textsOf(await same.log.read("same", { max: 10 })), ["1"]);
    },
  },
  {
    title: "broadcast: namespaces never hear each other, by name or by pattern",
    run: async (store) => {
      const others = [await store.second({ namespace: "other" }), await store.second({ namespace: "other:same" })];
      const backends = [store.backend, ...others];
      const heard: string[][] = [];
      for (const backend of backends) {
        const texts: string[] = [];
        heard.push(texts);
        for (const target of [{ channel: "same" }, { pattern: "*" }, { pattern: "*same*" }]) {
          const message = (channel: string, data: Bytes): void =>
            void texts.push(`${channel} ${first(textsOf([{ data }]))}`);
          await backend.broadcast.subscribe(target, { message, gap: () => {} });
        }
      }
      for (const [index, backend] of backends.entries()) {
        await backend.broadcast.publish([{ channel: "same", data: `${index}` }]);
        await backend.broadcast.publish([{ channel: "end", data: "" }]);
      }
      // "end" is heard by one of the three targets, and comes after all that could have been heard wrongly.
      await eventually(store, () => heard.every((texts) => texts.includes("end ")), "the end in each namespace");
      for (const [index, texts] of heard.entries()) {
        deepEqual(texts.toSorted(), [...Array.from({ length: 3 }, () => `same ${index}`), "end "].toSorted());
      }
    },
  },
];

export const nameCases: readonly ContractCase[] = [...kinds, ...namespaces];
