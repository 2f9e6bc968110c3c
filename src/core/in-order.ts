/**
 * Consuming a group in batches and in the order of its stream, although its settings know no order: for the one process
 * that has the turn. What comes next is what `read` says comes next: where somebody else still holds it, whoever that is,
 * nothing behind it is handed out before it has come back.
 */

import type { Delivery, GroupStats, Log, Outcome, Range, Taken, TakeRequest } from "./backend.js";
import { type Clock, wait } from "./clock.js";
import { NotFoundError } from "./errors.js";
import type { HeldFeed } from "./held-feed.js";

export interface InOrderOptions {
  readonly log: Pick<Log, "read" | "stats">;
  readonly stream: string;
  readonly group: string;
  readonly feed: HeldFeed;
  readonly clock: Clock;
  /** Whether the turn is still ours. Without it nothing is handed out, and nothing waited for. */
  readonly isOurs: () => boolean;
  /** Told of every answer of the feed. */
  readonly taken: (taken: Taken) => void;
}

/** While nothing that is waited for comes back, it looks this often, and takes this little more. */
const GATHER_MS = 250;
const GATHER_FEW = 8;
const GATHER_MANY = 256;
const PAGE = 1_000;

export class InOrder {
  readonly #options: InOrderOptions;
  /** Leased, and not handed out yet; by position. */
  readonly #ready = new Map<string, Delivery>();
  /** Handed out by the last `take`, which the next one settles. */
  #out: readonly Delivery[] = [];
  /** Where the next one is looked for; undefined while that is not known. */
  #next: Omit<Range, "max"> | undefined;

  constructor(options: InOrderOptions) {
    this.#options = options;
  }

  /**
   * Settles everything that the last call handed out, then takes what comes next in the stream. Waits as a feed does, and
   * also while others hold what comes next; an abort ends both.
   */
  async take(want: TakeRequest, outcomes: readonly Outcome[]): Promise<readonly Delivery[]> {
    await this.#call(want, outcomes);
    this.#out = [];
    let batch = this.#next === undefined ? [] : await this.#following(this.#next);
    while (batch.length === 0 && this.#ready.size > 0) {
      // What is held goes back with the feed then.
      if (!(await this.#gather(want.signal))) return [];
      this.#next = await this.#find();
      // Where none of them stands in the stream any more, no order is left to be kept.
      batch = this.#next === undefined ? [...this.#ready.values()] : await this.#following(this.#next);
    }
    for (const { position } of batch) this.#ready.delete(position);
    const last = batch.at(-1);
    if (last !== undefined) this.#next = { after: last.position };
    this.#out = batch;
    return batch;
  }

  /** Renews the leases of all that is held. What was lost is not handed out any more. */
  async renew(): Promise<void> {
    const receipts = [...this.#out, ...this.#ready.values()].map(({ receipt }) => receipt);
    if (receipts.length === 0) return;
    const lost = new Set(await this.#options.feed.call((feed) => feed.extend(receipts)));
    for (const [position, { receipt }] of this.#ready) if (lost.has(receipt)) this.#ready.delete(position);
  }

  async #call(want: TakeRequest, outcomes: readonly Outcome[]): Promise<void> {
    const taken = await this.#options.feed.call((feed) => feed.take(want, outcomes), want.waitMs);
    for (const delivery of taken.deliveries) this.#ready.set(delivery.position, delivery);
    this.#options.taken(taken);
  }

  /** Those that are ready, from there on in the order of the stream, up to the first that somebody else holds. */
  async #following(from: Omit<Range, "max">): Promise<Delivery[]> {
    const { log, stream } = this.#options;
    const rest = new Map(this.#ready);
    const batch: Delivery[] = [];
    if (rest.size === 0) return batch;
    for (const { position } of await log.read(stream, { ...from, max: Math.min(rest.size, PAGE) })) {
      const delivery = rest.get(position);
      if (delivery === undefined) break;
      rest.delete(position);
      batch.push(delivery);
    }
    return [...(await this.#vanished(rest)), ...batch];
  }

  /** The first ones no longer stand in the stream when they were trimmed after they had been taken. */
  async #vanished(rest: ReadonlyMap<string, Delivery>): Promise<readonly Delivery[]> {
    const { log, stream } = this.#options;
    const vanished: Delivery[] = [];
    for (const [position, delivery] of rest) {
      if ((await log.read(stream, { from: position, until: position, max: 1 })).length > 0) break;
      vanished.push(delivery);
    }
    return vanished;
  }

  /**
   * Waits until everything that was ever handed out and is not finished is in our hands.
   *
   * @returns false when it is not, because of an abort or because the turn has passed on
   */
  async #gather(signal: AbortSignal | undefined): Promise<boolean> {
    for (let before = Number.POSITIVE_INFINITY; ; ) {
      await this.renew();
      const { pending, retrying } = await this.#stats();
      if (signal?.aborted === true || !this.#options.isOurs()) return false;
      if (pending <= this.#ready.size && retrying === 0) return true;
      const elsewhere = pending - this.#ready.size + retrying;
      const isComing = elsewhere < before;
      before = elsewhere;
      if (!isComing) await wait(this.#options.clock, GATHER_MS, signal);
      // What is abandoned comes back only to who takes; what is new may come with it.
      await this.#call({ max: isComing ? GATHER_MANY : GATHER_FEW, waitMs: 0 }, []);
    }
  }

  /** Where the first of those that are ready stands; undefined when none of them does. */
  async #find(): Promise<Omit<Range, "max"> | undefined> {
    const { oldestUnhandledAt } = await this.#stats();
    // Its time says where it stands, unless the store's clock has jumped.
    const near = oldestUnhandledAt === undefined ? undefined : await this.#findFrom({ since: oldestUnhandledAt });
    return near ?? (await this.#findFrom({}));
  }

  async #findFrom(start: Omit<Range, "max">): Promise<Omit<Range, "max"> | undefined> {
    const { log, stream } = this.#options;
    for (let from = start; ; ) {
      const page = await log.read(stream, { ...from, max: PAGE });
      const found = page.find(({ position }) => this.#ready.has(position));
      if (found !== undefined) return { from: found.position };
      const last = page.at(-1);
      if (last === undefined) return undefined;
      from = { after: last.position };
    }
  }

  async #stats(): Promise<GroupStats> {
    const { log, stream, group } = this.#options;
    return statsOf(log, stream, group);
  }
}

/** @throws {NotFoundError} when there is no such group */
export async function statsOf(log: Pick<Log, "stats">, stream: string, group: string): Promise<GroupStats> {
  const { groups } = await log.stats(stream);
  const found = groups.find((one) => one.group === group);
  if (found === undefined) throw new NotFoundError(`stream "${stream}" has no group "${group}"`);
  return found;
}
