/** Answers: stored in the step that settles, for a recipient that waits for them. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Delivery, Outcome, Reply } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  collect,
  collectOne,
  deadLetter,
  haul,
  item,
  itemCountsOf,
  LONG_WAIT_MS,
  numbered,
  quiet,
  rejectsWith,
  SHORT_LEASE_MS,
  settle,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { OUTLIVED_MS, PRIVATE, SHORT_TTL_MS, startQueue, type TestQueue } from "./test-queue.js";
import { aMoment, within } from "./waiting.js";

const NOTHING = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };

/** An answer for the one who asks, that holds its id. */
function reply(id: string, more: Partial<Reply> = {}): Reply {
  return { id, recipient: "asker", header: `header of ${id}`, data: id, priority: 0, ttlMs: 60_000, ...more };
}

function ackWith(delivery: Delivery, answer: Reply): Outcome {
  return { receipt: delivery.receipt, as: "ack", reply: answer };
}

/** A queue with one who asks. */
async function startAsking(store: ContractStore): Promise<TestQueue> {
  const work = startQueue(store);
  await work.register(["asker"], PRIVATE);
  return work;
}

export const replyCases: readonly ContractCase[] = [
  {
    title: "queue: an answer is stored in the step that acknowledges, for its recipient",
    run: async (store) => {
      const work = await startAsking(store);
      await work.push(item("question"));
      const feed = await work.open(undefined, { backend: await store.second() });
      const data = new Uint8Array([0, 1, 255]);
      const before = await store.now();
      await settled(feed, ackWith(await collectOne(store, feed), reply("answer", { data, priority: 7 })));
      deepEqual(itemCountsOf(await work.stats()), NOTHING);
      const stored = await work.queue.get(work.name, "answer");
      ok(stored?.expiresAt !== undefined && stored.at >= before);
      deepEqual([stored.priority, stored.expiresAt - stored.at, stored.state], [7, 60_000, "open"]);
      const asker = await work.open("asker");
      const answer = await collectOne(store, asker);
      deepEqual([answer.position, answer.header, answer.attempt], ["answer", "header of answer", 1]);
      deepEqual([...answer.data], [0, 1, 255]);
      await settled(asker, ack(answer));
      equal(await work.queue.count(work.name, {}), 0);
    },
  },
  {
    title: "queue: an answer is stored in the step that parks a dead letter, too",
    run: async (store) => {
      const work = await startAsking(store);
      await work.push(item("question"));
      const feed = await work.open();
      const outcome = { ...deadLetter(await collectOne(store, feed)), reply: reply("sorry") };
      await settled(feed, outcome);
      deepEqual(await work.letters(), ["question"]);
      deepEqual(textsOf(await collect(store, await work.open("asker"), 1)), ["sorry"]);
    },
  },
  {
    title: "queue: an answer to nobody who is registered is dropped, and its outcome counts all the same",
    run: async (store) => {
      const work = await startAsking(store);
      await work.push(item("a"), item("b"), item("c"), item("kept", { recipient: "unregistered" }));
      const feed = await work.open();
      const [a, b, c] = await collect(store, feed, 3);
      ok(a && b && c);
      const sorry = { ...deadLetter(b), reply: reply("to b", { recipient: "unregistered" }) };
      await settled(
        feed,
        ackWith(a, reply("to a", { recipient: "nobody" })),
        sorry,
        ackWith(c, reply("to c", { recipient: "" })),
      );
      deepEqual(itemCountsOf(await work.stats()), { ...NOTHING, dead: 1 });
      deepEqual(itemCountsOf(await work.stats("nobody")), NOTHING);
      deepEqual(itemCountsOf(await work.stats("unregistered")), { ...NOTHING, waiting: 1 });
      equal(await work.queue.count(work.name, {}), 1);
    },
  },
  {
    title: "queue: an answer to a recipient that has lapsed is dropped",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["asker"], { ttlMs: SHORT_TTL_MS, isAudience: false });
      await work.push(item("question"));
      const feed = await work.open();
      const delivery = await collectOne(store, feed);
      await store.elapse(OUTLIVED_MS);
      await settled(feed, ackWith(delivery, reply("answer")));
      equal(await work.queue.count(work.name, {}), 0);
      await quiet(store, await work.open("asker", { registration: PRIVATE }));
    },
  },
  {
    title: "queue: where the outcome is lost nothing is answered",
    run: async (store) => {
      const work = await startAsking(store);
      await work.push(item("taken over"), item("acknowledged"));
      const slow = await work.open(undefined, { leaseMs: SHORT_LEASE_MS });
      const [late, ended] = await collect(store, slow, 2);
      ok(late && ended);
      await work.queue.acknowledge(work.name, "", ["acknowledged"]);
      await store.elapse(SHORT_LEASE_MS + 100);
      const feed = await work.open();
      const again = await collectOne(store, feed);
      const lost = await settle(slow, ackWith(late, reply("late")), ackWith(ended, reply("ended")));
      deepEqual([...lost].toSorted(), [late.receipt, ended.receipt].toSorted());
      await settled(feed, ackWith(again, reply("in time")));
      // Once more: it is settled already.
      equal((await settle(feed, ackWith(again, reply("twice")))).length, 1);
      const asker = await work.open("asker");
      deepEqual(textsOf(await collect(store, asker, 1)), ["in time"]);
      await quiet(store, asker);
    },
  },
  {
    title: "queue: an answer finds room in a full queue",
    run: async (store) => {
      const work = await startAsking(store);
      await work.register(["anna", "ben"]);
      const one = { maxItems: 1 };
      await work.pushWithin(one, item("question", { recipient: { audience: "registered" } }));
      const anna = await work.open("anna");
      await settled(anna, ackWith(await collectOne(store, anna), reply("answer")));
      // The question is still there, for another.
      equal(await work.queue.count(work.name, {}), 2);
      await rejectsWith("LIMIT", () => work.pushWithin({ maxItems: 2 }, item("another")));
      deepEqual(textsOf(await collect(store, await work.open("asker"), 1)), ["answer"]);
    },
  },
  {
    title: "queue: an answer expires after its time to live",
    run: async (store) => {
      const work = await startAsking(store);
      await work.push(item("a"), item("b"));
      const feed = await work.open();
      const [a, b] = await collect(store, feed, 2);
      ok(a && b);
      await settled(feed, ackWith(a, reply("brief", { ttlMs: 800, priority: 9 })), ackWith(b, reply("lasting")));
      await store.elapse(900);
      const found = await haul(store, await work.open("asker"), (sum) => sum.expired > 0 && sum.deliveries.length > 0);
      deepEqual([found.expired, textsOf(found.deliveries)], [1, ["lasting"]]);
    },
  },
  {
    title: "queue: an answer whose id the queue holds is not stored again",
    run: async (store) => {
      const work = await startAsking(store);
      await work.push(item("a"), item("b"), item("held", { recipient: "ben" }));
      const feed = await work.open();
      const [a, b] = await collect(store, feed, 2);
      ok(a && b);
      await settled(
        feed,
        ackWith(a, reply("answer", { data: "first" })),
        ackWith(b, reply("answer", { data: "second" })),
      );
      await work.push(item("c"));
      await settled(feed, ackWith(await collectOne(store, feed), reply("held")));
      const asker = await work.open("asker");
      deepEqual(textsOf(await collect(store, asker, 1)), ["first"]);
      await quiet(store, asker);
      equal((await work.stats("ben")).waiting, 1);
    },
  },
  {
    title: "queue: a take that waits is woken by an answer, in any process",
    run: async (store) => {
      const work = await startAsking(store);
      const second = await store.second();
      const feed = await work.open();
      for (const backend of [store.backend, second]) {
        await work.push(item("question"));
        const delivery = await collectOne(store, feed);
        const asker = await work.open("asker", { backend });
        const taken = asker.take({ max: 1, waitMs: LONG_WAIT_MS }, []);
        taken.catch(() => {});
        await aMoment();
        await settled(feed, ackWith(delivery, reply("answer")));
        const { deliveries } = await within(store, taken);
        deepEqual(textsOf(deliveries), ["answer"]);
        await settled(asker, ...deliveries.map(ack));
        await asker.close();
      }
    },
  },
  {
    title: "queue: many answers come of one step, each by its priority and age, to several recipients",
    run: async (store) => {
      const work = await startAsking(store);
      await work.register(["other"], PRIVATE);
      const ids = numbered("question ", 300);
      await work.push(...ids.map((id) => item(id)));
      const feed = await work.open();
      const deliveries = await collect(store, feed, 300);
      const outcomes = deliveries.map((delivery, index) => {
        const recipient = index % 3 === 0 ? "other" : "asker";
        return ackWith(delivery, reply(`answer ${index}`, { recipient, priority: index % 2 }));
      });
      await settled(feed, ...outcomes);
      equal(await work.queue.count(work.name, {}), 300);
      const order = (numbers: readonly number[]): string[] =>
        [1, 0]
          .flatMap((priority) => numbers.filter((index) => index % 2 === priority))
          .map((index) => `answer ${index}`);
      const indexes = [...ids.keys()];
      const [askers, others] = [indexes.filter((index) => index % 3 !== 0), indexes.filter((index) => index % 3 === 0)];
      deepEqual(textsOf(await collect(store, await work.open("asker"), askers.length)), order(askers));
      deepEqual(textsOf(await collect(store, await work.open("other"), others.length)), order(others));
    },
  },
  {
    title: "queue: what is for all may be answered by each of its recipients",
    run: async (store) => {
      const work = await startAsking(store);
      await work.register(["anna", "ben"]);
      await work.push(item("question", { recipient: { audience: "registered" } }));
      for (const name of ["anna", "ben"]) {
        const feed = await work.open(name);
        await settled(feed, ackWith(await collectOne(store, feed), reply(`answer of ${name}`)));
      }
      deepEqual(textsOf((await take(await work.open("asker"))).deliveries), ["answer of anna", "answer of ben"]);
      equal(await work.queue.get(work.name, "question"), undefined);
    },
  },
];
