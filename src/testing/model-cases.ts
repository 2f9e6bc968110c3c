/** Groups under all that can come to them, in any order: a model says what may be delivered, and chance what happens. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Backend, Delivery, Feed, GroupSettings, GroupStart, Outcome } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import { ack, deadLetter, defer, first, retry, take, textOf } from "./fixtures.js";
import { type LogGroup, startGroup } from "./log-group.js";
import { createRandom } from "./random.js";

/** Entries that are in order with each other. The first is the one to be delivered, as this attempt, unless it is out. */
interface Line {
  readonly texts: string[];
  attempt: number;
  isOut: boolean;
}

/** Follows deliveries and outcomes, and fails where a delivery is not the next of its line. */
class Model {
  readonly #lines = new Map<string, Line>();
  readonly #lineOf: (text: string) => string;

  constructor(lineOf: (text: string) => string) {
    this.#lineOf = lineOf;
  }

  get unfinished(): number {
    return [...this.#lines.values()].reduce((sum, { texts }) => sum + texts.length, 0);
  }

  appended(texts: readonly string[]): void {
    for (const text of texts) {
      const line = this.#lines.get(this.#lineOf(text)) ?? { texts: [], attempt: 1, isOut: false };
      line.texts.push(text);
      this.#lines.set(this.#lineOf(text), line);
    }
  }

  /** From now on there are these to be delivered, and what was before is over. */
  sought(texts: readonly string[]): void {
    this.#lines.clear();
    this.appended(texts);
  }

  delivered(delivery: Delivery): void {
    const line = this.#line(delivery);
    ok(!line.isOut, `${textOf(delivery)} came while ${line.texts[0]} was out`);
    deepEqual([textOf(delivery), delivery.attempt], [line.texts[0], line.attempt]);
    line.isOut = true;
  }

  settled(delivery: Delivery, outcome: Outcome): void {
    const line = this.#line(delivery);
    line.isOut = false;
    if (outcome.as === "retry") {
      line.attempt += outcome.counted ? 1 : 0;
    } else {
      line.texts.shift();
      line.attempt = 1;
    }
  }

  givenBack(delivery: Delivery): void {
    this.#line(delivery).isOut = false;
  }

  #line(delivery: Delivery): Line {
    const line = this.#lines.get(this.#lineOf(textOf(delivery)));
    ok(line !== undefined, `nothing like ${textOf(delivery)} is to be delivered`);
    return line;
  }
}

interface Consumer {
  readonly backend: Backend;
  feed: Feed;
  held: Delivery[];
  /** What it had before it closed, or its group was sought: worthless, and settled all the same. */
  late: Delivery[];
}

/** What one case is about. */
interface Course {
  readonly order: GroupSettings["order"];
  readonly entries: number;
  /** Whether the group is also sought, paused and resumed meanwhile. */
  readonly isSteered: boolean;
}

/** A group, three consumers of it in two processes, and what the model thinks of them. */
class Play {
  readonly #store: ContractStore;
  readonly #random = createRandom(20_260_101);
  readonly #group: LogGroup;
  readonly #consumers: readonly Consumer[];
  readonly #model: Model;
  readonly #texts: string[] = [];
  readonly #positions: string[] = [];
  #isPaused = false;
  #steps = 0;

  constructor(store: ContractStore, group: LogGroup, consumers: readonly Consumer[], order: Course["order"]) {
    const keyOf = (text: string): string => text.split(":")[0] ?? text;
    this.#store = store;
    this.#group = group;
    this.#consumers = consumers;
    this.#model = new Model(order === "strict" ? () => "all" : order === "key" ? keyOf : (text) => text);
  }

  get isDone(): boolean {
    return this.#model.unfinished === 0;
  }

  happens(chance: number): boolean {
    return this.#random() < chance;
  }

  #pick(below: number): number {
    return Math.floor(this.#random() * below);
  }

  /** Entries of seven keys, of which some are much hotter than others, and some without any. */
  async append(count: number): Promise<void> {
    const texts = Array.from({ length: count }, (_, index) => {
      const key = "aaabbcdefg-"[this.#pick(11)] ?? "-";
      const number = this.#texts.length + index;
      return key === "-" ? `free-${number}` : `${key}:${number}`;
    });
    this.#model.appended(texts);
    this.#texts.push(...texts);
    this.#positions.push(...(await this.#group.append(...texts)));
  }

  /** One of the consumers settles some of what it holds, to any end, and takes some more. */
  async consume(): Promise<void> {
    const consumer = first(this.#consumers.slice(this.#pick(this.#consumers.length)));
    if (this.happens(0.03)) await this.#reopen(consumer);
    const late = consumer.late.filter(() => this.happens(0.2));
    const ending = consumer.held.filter(() => this.happens(0.6));
    consumer.late = consumer.late.filter((delivery) => !late.includes(delivery));
    consumer.held = consumer.held.filter((delivery) => !ending.includes(delivery));
    const outcomes = [...late, ...ending].map((delivery) => anyOutcome(delivery, this.#random()));
    for (const [index, delivery] of ending.entries()) {
      this.#model.settled(delivery, first(outcomes.slice(late.length + index)));
    }
    const { deliveries, lost, gone, poisoned } = await consumer.feed.take({ max: this.#pick(6), waitMs: 0 }, outcomes);
    const worthless = late.map(({ receipt }) => receipt);
    deepEqual([[...lost].toSorted(), gone, poisoned], [worthless.toSorted(), 0, 0]);
    if (this.#isPaused) equal(deliveries.length, 0, "a paused group is handed nothing");
    for (const delivery of deliveries) this.#model.delivered(delivery);
    consumer.held.push(...deliveries);
  }

  async #reopen(consumer: Consumer): Promise<void> {
    await consumer.feed.close();
    for (const delivery of consumer.held) this.#model.givenBack(delivery);
    consumer.late.push(...consumer.held.splice(0));
    consumer.feed = await this.#group.open(consumer.backend);
  }

  /** The group is sought somewhere. */
  async seek(): Promise<void> {
    const index = this.#pick(this.#positions.length);
    const position = first(this.#positions.slice(index));
    const places: readonly (readonly [GroupStart, number])[] = [
      ["beginning", 0],
      ["new", this.#texts.length],
      [{ at: position }, index],
      [{ after: position }, index + 1],
    ];
    const [to, from] = first(places.slice(this.#pick(places.length)));
    const { backend } = first(this.#consumers.slice(this.#pick(this.#consumers.length)));
    await backend.log.seek(this.#group.stream, this.#group.group, to);
    this.#model.sought(this.#texts.slice(from));
    for (const { held, late } of this.#consumers) late.push(...held.splice(0));
  }

  async pauseOrResume(): Promise<void> {
    const { stream, group } = this.#group;
    const { log } = first(this.#consumers.slice(this.#pick(this.#consumers.length))).backend;
    await (this.#isPaused ? log.resume(stream, group) : log.pause(stream, group));
    this.#isPaused = !this.#isPaused;
  }

  async expectCounted(): Promise<void> {
    const { lag, pending, retrying } = await this.#group.counts();
    equal(lag + pending + retrying, this.#model.unfinished, "everything that is unfinished is counted");
    equal((await this.#group.stats()).paused, this.#isPaused);
  }

  async end(): Promise<void> {
    if (this.#isPaused) await this.pauseOrResume();
    while (!this.isDone) await this.#step();
    for (const { feed } of this.#consumers) equal((await take(feed)).deliveries.length, 0);
    await this.expectCounted();
    equal((await this.#group.counts()).held, 0);
  }

  /** Runs for so many steps, which is long enough for most entries to end. */
  async run(steps: number, isSteered: boolean): Promise<void> {
    for (let step = 0; step < steps; step += 1) {
      if (isSteered && this.happens(0.03)) await this.seek();
      if (isSteered && this.happens(0.06)) await this.pauseOrResume();
      if (step % 20 === 0) await this.expectCounted();
      await this.#step();
    }
  }

  async #step(): Promise<void> {
    this.#steps += 1;
    ok(this.#steps < 20_000, "every entry comes to its end");
    await this.consume();
    // Now and then a delayed retry comes due.
    if (this.#steps % 10 === 0) await this.#store.elapse(20);
  }
}

function anyOutcome(delivery: Delivery, chance: number): Outcome {
  if (chance < 0.6) return ack(delivery);
  if (chance < 0.7) return retry(delivery);
  if (chance < 0.8) return retry(delivery, 30);
  return chance < 0.9 ? defer(delivery) : deadLetter(delivery);
}

async function play(store: ContractStore, { order, entries, isSteered }: Course): Promise<void> {
  const group = await startGroup(store, { order, maxHeld: 20, maxDeadLetters: 1_000 });
  const backends = [store.backend, await store.second(), store.backend];
  const consumers = await Promise.all(
    backends.map(
      async (backend): Promise<Consumer> => ({
        backend,
        feed: await group.open(backend),
        held: [],
        late: [],
      }),
    ),
  );
  const game = new Play(store, group, consumers, order);
  await game.append(entries / 2);
  await game.run(entries, isSteered);
  await game.append(entries / 2);
  await game.run(entries, isSteered);
  await game.end();
}

export const modelCases: readonly ContractCase[] = [
  {
    title: "log: with order by key, whatever deliveries come to, each key's entries come one by one and in order",
    run: (store) => play(store, { order: "key", entries: 200, isSteered: false }),
  },
  {
    title: "log: with strict order, whatever deliveries come to, entries come one by one and in order",
    run: (store) => play(store, { order: "strict", entries: 40, isSteered: false }),
  },
  {
    title: "log: however a group is sought, paused and resumed, each entry comes once in its turn, and all are counted",
    run: (store) => play(store, { order: "none", entries: 120, isSteered: true }),
  },
  {
    title: "log: with order by key, seeking, pausing and resuming keep the order of each key",
    run: (store) => play(store, { order: "key", entries: 120, isSteered: true }),
  },
];
