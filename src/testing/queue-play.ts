/** Consumers of one queue in two processes, and everything that can come to it, each step held against a model. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Backend, Delivery, Feed, Outcome, Queue, QueueLimits } from "../core/backend.js";
import { SignalboxError } from "../core/errors.js";
import type { ContractStore } from "./contract.js";
import { ack, allLetters, deadLetter, defer, first, item, LIMITS, retry } from "./fixtures.js";
import { comesBefore, later, type ModelShare, type Moment, QueueModel, standingsOf, surely } from "./queue-model.js";
import { checkItems, checkRecipient, timed } from "./queue-checks.js";
import { AUDIENCE, idsOf, startQueue, type TestQueue } from "./test-queue.js";

const RECIPIENTS = ["", "anna", "ben"];
/** Those that an audience has. */
const AUDIENCE_OF = ["anna", "ben"];
const LEASES_MS = [60_000, 400];
/** 0: none. */
const TTLS_MS = [0, 60_000, 500, 90];
const KINDS = ["fizz", "buzz"];
const DELAYS_MS = [0, 0, 0, 60, 60_000];
const OVERFULL: QueueLimits = { maxItems: 1 };
/** No feed looks more rarely for what was abandoned. */
const A_SWEEP_MS = 1_100;

interface Player {
  readonly recipient: string;
  readonly backend: Backend;
  readonly leaseMs: number;
  feed: Feed;
  held: Delivery[];
  /** What may be worthless by now, and is settled all the same. */
  late: Delivery[];
}

/** What a play starts with. */
export interface Stage {
  readonly store: ContractStore;
  readonly work: TestQueue;
  readonly second: Backend;
  readonly players: readonly Player[];
  readonly keepsRecords: boolean;
}

/** Chance, as numbers from 0 to below 2^31: the same ones make the same play. */
export type Chance = number;

export class QueuePlay {
  readonly #store: ContractStore;
  readonly #work: TestQueue;
  readonly #queues: readonly Queue[];
  readonly #players: readonly Player[];
  readonly #model: QueueModel;
  /** All that there ever were. */
  readonly #ids: string[] = [];
  /** Expired items that takes have told of. */
  #told = 0;

  constructor({ store, work, second, players, keepsRecords }: Stage) {
    this.#store = store;
    this.#work = work;
    this.#queues = [work.queue, second.queue];
    this.#players = players;
    this.#model = new QueueModel(RECIPIENTS, keepsRecords);
  }

  // ----------------------------------------------------------------------------------------------- commands

  /** Items of any priority, for one or for all, some of them brief or delayed; now and then an id of before. */
  async push(who: Chance, priority: Chance, how: Chance): Promise<void> {
    const isAgain = how % 6 === 5 && this.#ids.length > 0;
    const id = isAgain ? pick(this.#ids, who) : this.#newId();
    const recipients = who % 4 === 3 ? AUDIENCE_OF : [pick(RECIPIENTS, who)];
    const ttlMs = pick(TTLS_MS, how) || undefined;
    const delayMs = pick(DELAYS_MS, priority);
    const isChosen = how % 3 === 0;
    const kind = pick(KINDS, who);
    const pushed = item(id, {
      priority: (priority % 5) - 2,
      delayMs,
      dedupe: isChosen,
      fields: { kind },
      recipient: recipients.length > 1 ? { audience: "registered" } : first(recipients),
      ...(ttlMs !== undefined && { ttlMs }),
    });
    const twice = priority % 3 === 2 ? [pushed, pushed] : [pushed];
    const limits = how % 7 === 3 ? OVERFULL : LIMITS;
    const [answers, at] = await this.#timed(() =>
      pick(this.#queues, who).push(this.#work.name, twice, limits).catch(noRoom),
    );
    const known = this.#model.isDuplicate(id, at);
    if (answers === undefined) {
      ok(limits === OVERFULL && known !== true, `there was room for ${id}, or it needed none`);
      return;
    }
    const [answer, again] = answers;
    const isDuplicate = known ?? answer?.duplicate;
    if (twice.length > 1) deepEqual(again, { id, duplicate: true, recipients: 0 }, "an id stands in a push once");
    deepEqual(answer, { id, duplicate: isDuplicate, recipients: isDuplicate ? 0 : recipients.length });
    if (!isDuplicate)
      this.#model.push({ id, priority: pushed.priority, isChosen, kind }, recipients, at, { ttlMs, delayMs });
  }

  /** A consumer settles some of what it has, to any end, and takes some more. */
  async take(who: Chance, max: Chance, ends: Chance): Promise<void> {
    const player = pick(this.#players, who);
    const ending = player.held.filter((_delivery, index) => ((ends >> index) & 1) === 1);
    const late = player.late.filter((_delivery, index) => ((ends >> index) & 3) === 3);
    player.held = player.held.filter((delivery) => !ending.includes(delivery));
    player.late = player.late.filter((delivery) => !late.includes(delivery));
    // What is settled is settled again some time, whatever has become of it: also when it was put back meanwhile.
    const settledAgain = ending.filter((_delivery, index) => (max + index) % 3 === 0);
    await this.#take(
      player,
      max % 5,
      [...late, ...ending].map((delivery, index) => this.#anyOutcome(delivery, ends + index)),
    );
    player.late.push(...settledAgain);
  }

  async extend(who: Chance): Promise<void> {
    const { recipient, feed, held, late, leaseMs } = pick(this.#players, who);
    const receipts = [...held, ...late].map(({ receipt }) => receipt);
    const [lost, at] = await this.#timed(() => feed.extend(receipts));
    for (const receipt of receipts) {
      const share = this.#expectLost(recipient, receipt, lost.includes(receipt), at);
      if (share?.lease !== undefined) share.lease = { ...share.lease, until: later(at, leaseMs) };
    }
  }

  /** A consumer closes, which gives back what it has, and another takes its place. */
  async reopen(who: Chance): Promise<void> {
    const player = pick(this.#players, who);
    const [, at] = await this.#timed(() => player.feed.close());
    for (const { receipt } of player.held) {
      const share = this.#model.heldBy(receipt, player.recipient);
      if (share === undefined) continue;
      // Where its lease may have run out, it may have been taken back before, and counted.
      this.#model.release(share, { from: surely(share, "leased", at) ? 1 : 0, to: 1 });
    }
    player.late.push(...player.held.splice(0));
    player.feed = await openFor(this.#work, player.recipient, player.backend, player.leaseMs);
  }

  async acknowledge(who: Chance, which: Chance): Promise<void> {
    await this.#acknowledge(this.#anyId(which), pick(RECIPIENTS, who));
  }

  async #acknowledge(id: string, recipient: string): Promise<void> {
    const [[isDone], at] = await this.#timed(() => first(this.#queues).acknowledge(this.#work.name, recipient, [id]));
    const share = this.#model.shareOf(id, recipient);
    if (share === undefined || surely(share, "expired", at)) equal(isDone, false, `${id} was not to be acknowledged`);
    else if (!standingsOf(share, at).has("expired")) equal(isDone, true, `${id} was to be acknowledged`);
    if (share === undefined) return;
    this.#model.end(share, isDone === true ? "acked" : "expired");
  }

  async remove(which: Chance): Promise<void> {
    const id = this.#anyId(which);
    const [count, at] = await this.#timed(() => pick(this.#queues, which).remove(this.#work.name, [id]));
    equal(count === 1, this.#model.isHeld(id, at) ?? count === 1, `${id} was there to be removed, or not`);
    const item = this.#model.items.get(id);
    if (item !== undefined) this.#model.remove(item, at);
  }

  async pauseOrResume(who: Chance): Promise<void> {
    const recipient = this.#model.recipient(pick(RECIPIENTS, who));
    const queue = pick(this.#queues, who);
    await (recipient.isPaused
      ? queue.resume(this.#work.name, recipient.name)
      : queue.pause(this.#work.name, recipient.name));
    recipient.isPaused = !recipient.isPaused;
  }

  /** Puts back one dead letter. */
  async redrive(who: Chance, which: Chance): Promise<void> {
    const recipient = pick(RECIPIENTS, who);
    const letters = pick(this.#queues, which).deadLetters(this.#work.name, recipient);
    const all = await allLetters(letters);
    const { dead } = this.#model.recipient(recipient);
    deepEqual(all.map(({ position }) => position).toSorted(), idsOf(dead).toSorted());
    if (all.length === 0) return;
    const { id, position } = pick(all, which);
    const same = all.filter((letter) => letter.position === position);
    const parked = first(dead.filter((one) => one.id === position).slice(same.findIndex((letter) => letter.id === id)));
    const [count, at] = await this.#timed(() => letters.redrive([id]));
    equal(count === 1, this.#model.canRedrive(parked, at) ?? count === 1, `${position} can be put back, or not`);
    if (count === 1) this.#model.redrive(parked, recipient, at);
  }

  async elapse(ms: Chance): Promise<void> {
    await this.#store.elapse(ms % 7 === 0 ? A_SWEEP_MS : ms % 50);
  }

  /** Holds everything that can be seen of the queue against the model. */
  async check(): Promise<void> {
    for (const { name } of this.#model.recipients.values())
      await checkRecipient(this.#store, this.#work, this.#model, name);
    await checkItems(this.#store, this.#work, this.#model);
  }

  /** Takes and acknowledges until nothing is left: whatever was not finished, and did not expire, comes. */
  async end(): Promise<void> {
    for (const { name, isPaused } of this.#model.recipients.values()) {
      if (isPaused) await this.pauseOrResume(RECIPIENTS.indexOf(name));
    }
    // What is delayed for a minute would have to be waited for.
    for (const share of this.#model.open()) {
      if ((share.dueAt?.from ?? 0) > (await this.#store.now()) + 5_000)
        await this.#acknowledge(share.item.id, share.recipient);
    }
    for (let round = 0; round < 50 && this.#model.open().length > 0; round += 1) {
      for (const player of this.#players) {
        await this.#take(player, 10, player.held.splice(0).map(ack));
      }
      if (round > 0) await this.#store.elapse(A_SWEEP_MS / 4);
      const now = await this.#store.now();
      this.#model.settleExpired({ from: now, to: now });
    }
    deepEqual(
      this.#model.open().map((share) => `${share.item.id} for "${share.recipient}"`),
      [],
      "everything came, and came to its end",
    );
    await this.check();
    for (const player of this.#players) await this.#take(player, 1, []);
    const stats = await Promise.all(RECIPIENTS.map((name) => this.#work.stats(name)));
    equal(
      this.#told,
      stats.reduce((sum, { expired }) => sum + expired, 0),
      "whatever expired was told once",
    );
  }

  // ------------------------------------------------------------------------------------------------ helpers

  async #take(player: Player, max: number, outcomes: readonly Outcome[]): Promise<void> {
    const [taken, at] = await this.#timed(() => player.feed.take({ max, waitMs: 0 }, outcomes));
    deepEqual([taken.gone, taken.poisoned], [0, 0]);
    this.#told += taken.expired;
    for (const outcome of outcomes) {
      const share = this.#expectLost(player.recipient, outcome.receipt, taken.lost.includes(outcome.receipt), at);
      if (share !== undefined) this.#settle(share, outcome, at);
    }
    const ready = this.#model.open(player.recipient).filter((share) => surely(share, "waiting", at));
    const delivered = taken.deliveries.map((delivery) => this.#expectMayCome(player, delivery, at));
    const { isPaused } = this.#model.recipient(player.recipient);
    ok(!isPaused || delivered.length === 0, "a paused recipient is handed nothing");
    for (const [index, share] of delivered.entries()) {
      const next = delivered[index + 1];
      ok(next === undefined || !comesBefore(next, share), `${next?.item.id} was to come before ${share.item.id}`);
    }
    for (const share of isPaused ? [] : ready.filter((one) => !delivered.includes(one))) {
      ok(delivered.length === max, `${share.item.id} was ready, and there was room for it`);
      for (const other of delivered)
        ok(!comesBefore(share, other), `${share.item.id} was to come before ${other.item.id}`);
    }
    for (const [index, { receipt, attempt }] of taken.deliveries.entries()) {
      const share = first(delivered.slice(index));
      share.attempts = { from: attempt, to: attempt };
      share.dueAt = undefined;
      share.lease = { receipt, until: later(at, player.leaseMs) };
    }
    player.held.push(...taken.deliveries);
  }

  #expectMayCome({ recipient }: Player, { position, attempt }: Delivery, at: Moment): ModelShare {
    const share = this.#model.shareOf(position, recipient);
    ok(share !== undefined, `nothing like ${position} is to be delivered to "${recipient}"`);
    const standings = [...standingsOf(share, at)];
    ok(standings.includes("waiting"), `${position} came, and was ${standings.join(" or ")}`);
    const { from, to } = share.attempts;
    ok(
      attempt >= from + 1 && attempt <= to + 1,
      `${position} came as attempt ${attempt}, not ${from + 1} to ${to + 1}`,
    );
    return share;
  }

  /** A receipt is worthless where the model has it so. @returns the share that it still holds */
  #expectLost(recipient: string, receipt: string, isLost: boolean, at: Moment): ModelShare | undefined {
    const share = this.#model.heldBy(receipt, recipient);
    if (share === undefined) {
      ok(isLost, "a receipt that was worthless was accepted");
      return undefined;
    }
    ok(!isLost || !surely(share, "leased", at), `the lease of ${share.item.id} was lost`);
    if (!isLost) return share;
    this.#model.release(share);
    return undefined;
  }

  #settle(share: ModelShare, outcome: Outcome, at: Moment): void {
    if (outcome.as === "retry") {
      const count = outcome.counted ? 0 : 1;
      this.#model.release(share, { from: count, to: count });
      share.dueAt = later(at, outcome.delayMs);
      return;
    }
    // It was held, and what is held does not expire.
    this.#model.end(share, outcome.as === "ack" ? "acked" : "dead");
    if (outcome.reply === undefined || !AUDIENCE_OF.includes(outcome.reply.recipient)) return;
    const { id, priority, recipient, ttlMs } = outcome.reply;
    this.#model.push({ id, priority, isChosen: false, kind: "" }, [recipient], at, { ttlMs, delayMs: 0 });
  }

  /** Any end that a delivery can come to, with an answer now and then. */
  #anyOutcome(delivery: Delivery, chance: Chance): Outcome {
    const ends = [ack, retry, (one: Delivery) => retry(one, 60), defer, (one: Delivery) => deadLetter(one), ack];
    const outcome = pick(ends, chance)(delivery);
    if (outcome.as === "retry" || chance % 4 !== 1) return outcome;
    const id = this.#newId();
    const recipient = pick([...RECIPIENTS, "nobody"], chance);
    return { ...outcome, reply: { id, recipient, header: "", data: id, priority: (chance % 5) - 2, ttlMs: 60_000 } };
  }

  #newId(): string {
    const id = `item ${this.#ids.length + 1}`;
    this.#ids.push(id);
    return id;
  }

  #anyId(which: Chance): string {
    return this.#ids.length === 0 ? "no item" : pick(this.#ids, which);
  }

  #timed<T>(call: () => Promise<T>): Promise<readonly [T, Moment]> {
    return timed(this.#store, call);
  }
}

/** Starts with an empty queue, of which an audience is registered. */
export async function startQueuePlay(store: ContractStore, records?: "with records"): Promise<QueuePlay> {
  const work = startQueue(store);
  const keepsRecords = records !== undefined;
  if (keepsRecords) await work.configure({ keepAckedMs: 3_600_000, maxRecords: 100_000, index: ["kind"] });
  await work.register(AUDIENCE_OF, AUDIENCE);
  const second = await store.second();
  const players: Player[] = [];
  for (const recipient of RECIPIENTS) {
    for (const [index, leaseMs] of LEASES_MS.entries()) {
      const backend = index === 0 ? store.backend : second;
      const feed = await openFor(work, recipient, backend, leaseMs);
      players.push({ recipient, backend, leaseMs, feed, held: [], late: [] });
    }
  }
  return new QueuePlay({ store, work, second, players, keepsRecords });
}

function openFor(work: TestQueue, recipient: string, backend: Backend, leaseMs: number): Promise<Feed> {
  return work.open(recipient, { backend, leaseMs, maxAttempts: 1_000_000, maxDeadLetters: 1_000_000 });
}

function pick<T>(list: readonly T[], chance: Chance): T {
  return first(list.slice(chance % list.length));
}

/** A refusal for want of room. */
function noRoom(error: unknown): undefined {
  if (error instanceof SignalboxError && error.code === "LIMIT") return undefined;
  throw error;
}
