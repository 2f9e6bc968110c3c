/** Dead letters, the same for the log and the queue. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { DeadReason, NewLetter } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import {
  allLetters,
  collect,
  collectOne,
  deadLetter,
  first,
  GROUP,
  numbered,
  quiet,
  REASON,
  rejectsWith,
  retry,
  settle,
  settled,
  textsOf,
} from "./fixtures.js";
import { bothPorts } from "./work.js";

const parking: readonly ContractCase[] = [
  {
    title:
      "log: what no delivery brought is parked with its reason beside the others, and beyond maxDeadLetters the oldest goes",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.createGroup(stream, "g", { ...GROUP, maxDeadLetters: 2 });
      const reason: DeadReason = { kind: "rejected", message: "not today\n😀", stack: "at line 1" };
      const letterOf = (text: string, data: string | Uint8Array): NewLetter => {
        return { position: `from ${text}`, header: `header of ${text}`, data, attempts: 3, consumer: "me", reason };
      };
      const before = await store.now();
      await log.park(stream, "g", [letterOf("a", "a"), letterOf("b", Uint8Array.of(0, 255, 10)), letterOf("c", "c")]);
      const after = await store.now();
      const [b, c, ...more] = await allLetters((await store.second()).log.deadLetters(stream, "g"));
      ok(b !== undefined && c !== undefined && more.length === 0, "the two newest are kept");
      deepEqual([[...b.data], textsOf([c])], [[0, 255, 10], ["c"]]);
      const { id, data: _data, at, firstFailedAt, ...rest } = c;
      deepEqual(rest, { position: "from c", header: "header of c", attempts: 3, consumer: "me", reason });
      ok(at >= before && at <= after && firstFailedAt === at, `parked at ${at}, between ${before} and ${after}`);
      equal((await log.stats(stream)).groups[0]?.dead, 2);
      equal((await log.stats(stream)).length, 0);
      equal(await log.deadLetters(stream, "g").remove([id]), 1);
      equal(await log.deadLetters(stream, "g").purge(0), 1);
    },
  },
  {
    title: "log: what was parked can be redriven to its group, and is parked in none that does not exist",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const letter = { position: "p", header: "header of a", data: "a", attempts: 1, consumer: "me", reason: REASON };
      await rejectsWith("NOT_FOUND", () => log.park(stream, "g", [letter]));
      await log.createGroup(stream, "g", GROUP);
      await log.park(stream, "g", [letter]);
      const letters = log.deadLetters(stream, "g");
      equal(await letters.redrive([first(await allLetters(letters)).id]), 1);
      const delivery = await collectOne(store, await log.open(stream, "g", store.name()));
      deepEqual([delivery.header, delivery.attempt, ...textsOf([delivery])], ["header of a", 1, "a"]);
    },
  },
];

export const letterCases: readonly ContractCase[] = [
  ...parking,
  ...bothPorts("a dead letter keeps the message, its attempts, its consumer and its reason", async (store, start) => {
    const work = await start();
    const [position] = await work.add("a");
    const consumer = store.name();
    const feed = await work.open({ consumer });
    await settled(feed, retry(await collectOne(store, feed)));
    const reason: DeadReason = { kind: "failed", message: 'no "way"\n😀', stack: "Error: no way\n  at line 1\n\tat 2" };
    const before = await store.now();
    await settled(feed, deadLetter(await collectOne(store, feed), reason));
    const after = await store.now();
    const letter = first(await allLetters(work.letters()));
    deepEqual(letter.reason, reason);
    deepEqual([letter.position, letter.header, letter.attempts], [position, "header of a", 2]);
    equal(letter.consumer, consumer);
    deepEqual(textsOf([letter]), ["a"]);
    ok(letter.id !== "", "it has an id");
    ok(letter.at >= before && letter.at <= after, `parked at ${letter.at}, between ${before} and ${after}`);
  }),
  ...bothPorts("a dead letter is acknowledged, and never delivered again", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const delivery = await collectOne(store, feed);
    await settled(feed, deadLetter(delivery));
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 1 });
    await quiet(store, feed, 300);
    deepEqual(await settle(feed, deadLetter(delivery)), [delivery.receipt]);
    equal((await allLetters(work.letters())).length, 1);
  }),
  ...bothPorts("every kind of reason is kept, with a stack or without", async (store, start) => {
    const work = await start();
    const reasons: DeadReason[] = [
      { kind: "failed", message: "" },
      { kind: "rejected", message: "not for me", stack: "somewhere" },
      { kind: "undecodable", message: "\u0000\r\n\t'\"\\" },
      { kind: "abandoned", message: "é".repeat(2_000), stack: "s".repeat(4_000) },
    ];
    await work.add(...reasons.map(({ kind }) => kind));
    const feed = await work.open();
    const deliveries = await collect(store, feed, reasons.length);
    for (const [index, delivery] of deliveries.entries()) {
      const reason = reasons[index];
      if (reason !== undefined) await settled(feed, deadLetter(delivery, reason));
    }
    const letters = await allLetters(work.letters());
    deepEqual(
      letters.map(({ reason }) => reason),
      reasons,
    );
  }),
  ...bothPorts("dead letters are listed oldest first, page by page", async (store, start) => {
    const work = await start();
    const texts = numbered("m", 7);
    await work.add(...texts);
    const feed = await work.open();
    const deliveries = await collect(store, feed, texts.length);
    // Parked in another order than they stood in.
    const parked = [...deliveries.slice(3), ...deliveries.slice(0, 3)];
    for (const delivery of parked) await settled(feed, deadLetter(delivery));
    for (const max of [1, 3, 7, 100]) {
      const letters = await allLetters(work.letters(), max);
      deepEqual(textsOf(letters), textsOf(parked), `in pages of ${max}`);
      equal(new Set(letters.map(({ id }) => id)).size, texts.length, "every id is its own");
    }
    const page = await work.letters().list({ max: 3 });
    equal(page.letters.length, 3);
    ok(page.cursor !== undefined, "there is more");
    equal((await work.letters().list({ max: 100 })).cursor, undefined);
  }),
  ...bothPorts("beyond maxDeadLetters the oldest dead letter goes", async (store, start) => {
    const work = await start({ maxDeadLetters: 3 });
    const texts = numbered("m", 8);
    await work.add(...texts);
    const feed = await work.open();
    const deliveries = await collect(store, feed, texts.length);
    await settled(feed, ...deliveries.slice(0, 2).map((delivery) => deadLetter(delivery)));
    deepEqual(textsOf(await allLetters(work.letters())), ["m1", "m2"]);
    for (const delivery of deliveries.slice(2)) await settled(feed, deadLetter(delivery));
    deepEqual(textsOf(await allLetters(work.letters())), ["m6", "m7", "m8"]);
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 3 });
  }),
  ...bothPorts("where nothing was parked there are no dead letters", async (_store, start) => {
    const work = await start();
    deepEqual(await work.letters().list({ max: 10 }), { letters: [] });
    await work.add("a");
    deepEqual(await work.letters().list({ max: 10 }), { letters: [] });
  }),
];
