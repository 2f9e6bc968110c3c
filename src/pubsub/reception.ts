/** What one subscriber hears: its subscriptions, its buffer and their figures. The same for handlers and for iterations. */

import type { BroadcastListener, Bytes, Unsubscribe } from "../core/backend.js";
import { LimitError } from "../core/errors.js";
import { abortable } from "../core/lifecycle.js";
import { isBareHeader } from "../core/message.js";
import { NameCache } from "../core/names.js";
import type { Handed } from "../core/run.js";
import type { Runtime } from "../core/runtime.js";
import { identityOf } from "../core/stored.js";
import { type Counter, METRICS } from "../core/telemetry.js";
import { onRejection } from "../core/thenable.js";
import { separated } from "./envelope.js";
import { Inbox } from "./inbox.js";
import { DEFAULT_BUFFER, type ListenOptions } from "./options.js";
import type { RecentIds } from "./recent-ids.js";
import type { Hearing, Wanted } from "./targets.js";

/** A message that has come, and waits. Nothing is made of it before it is its turn: many may wait, and what waits costs. */
interface Waiting<B> {
  readonly from: Source<B>;
  readonly message: Bytes;
  /** Why messages may have been missed before it. */
  readonly gap: string | undefined;
}

/** A message whose turn it is. */
export interface Arrival<B> extends Handed, Pick<Waiting<B>, "from" | "gap"> {}

/** A channel that messages come from. */
export interface Source<B> {
  readonly channel: string;
  readonly sharded: true | undefined;
  readonly hearing: Hearing;
  /** What reads or handles its messages. */
  readonly bound: B;
  readonly counters: Counters;
}

interface Counters {
  readonly delivered: Counter;
  readonly dropped: Counter;
}

export interface ReceptionOptions<B> {
  readonly runtime: Runtime;
  /** For logs: the handler's name. */
  readonly reader: string;
  readonly wanted: readonly Wanted[];
  readonly listen: ListenOptions;
  /** Of messages that are passed over. */
  readonly recent: RecentIds | undefined;
  readonly bind: (channel: string, hearing: Hearing, label: string) => B;
  /** Something has come. */
  readonly arrived: () => void;
  /** Too much has come, and the subscriber asked to end then. */
  readonly overrun: (error: LimitError) => void;
}

/** Drops may come by the thousand: they are logged this often. */
const LOG_EVERY_MS = 1_000;
const DROPPED = { "drop-oldest": "oldest", "drop-newest": "newest", error: "all" } as const;

export class Reception<B> {
  received = 0;
  dropped = 0;
  gaps = 0;
  readonly #options: ReceptionOptions<B>;
  readonly #inbox: Inbox<Waiting<B>>;
  readonly #unsubscribes: Promise<Unsubscribe>[] = [];
  /** For the next message that comes. */
  #gap: string | undefined;
  /** For the next message that is taken: the mark of one that went before it. */
  #carried: string | undefined;
  #isClosed = false;
  #unloggedDrops = 0;
  #loggedDropsAt = Number.NEGATIVE_INFINITY;

  constructor(options: ReceptionOptions<B>) {
    const { buffer = DEFAULT_BUFFER, overflow = "drop-oldest" } = options.listen;
    this.#options = options;
    this.#inbox = new Inbox({
      max: buffer,
      overflow: DROPPED[overflow],
      dropped: (waiting) => {
        this.#drop(waiting);
        if (overflow === "error") this.#overrun(waiting.length, buffer);
      },
    });
  }

  /** Messages that wait. */
  get waiting(): number {
    return this.#inbox.size;
  }

  /** Resolves once all of it is in force. Whoever is refused has to close it. */
  async open(): Promise<void> {
    const { runtime, wanted, listen } = this.#options;
    for (const [index, each] of wanted.entries()) {
      const subscribing = runtime.backend.broadcast.subscribe(each.target, this.#listenerOf(each, index));
      this.#unsubscribes.push(subscribing);
    }
    const results = await abortable(Promise.allSettled(this.#unsubscribes), listen.signal);
    for (const result of results) if (result.status === "rejected") throw result.reason;
    for (const each of wanted) this.#count(each, 1);
    runtime.telemetry.log("subscribing_to_channel", this.#names());
  }

  /** The next message; undefined: none waits. */
  next(): Arrival<B> | undefined {
    for (let waiting = this.#inbox.shift(); waiting !== undefined; waiting = this.#inbox.shift()) {
      const arrival = toArrival(waiting, waiting.gap ?? this.#carried);
      this.#carried = undefined;
      if (this.#isRepeated(arrival)) {
        this.passOver(arrival);
        continue;
      }
      arrival.from.counters.delivered.add(1);
      return arrival;
    }
    return undefined;
  }

  /** Nobody gets to see this one: the next says that something may have been missed before it. */
  passOver({ gap }: Pick<Arrival<B>, "gap">): void {
    this.#carried ??= gap;
  }

  /** For a message that has not been handled after all: should it come again, it is new. */
  forget(arrival: Arrival<B>): void {
    const { id } = identityOf(arrival.header);
    if (id !== undefined) this.#options.recent?.forget(id);
  }

  #isRepeated({ header }: Arrival<B>): boolean {
    const { recent } = this.#options;
    if (recent === undefined) return false;
    const { id } = identityOf(header);
    return id !== undefined && !recent.add(id);
  }

  /** Hears nothing more from now on. What waits may still be taken. Resolves when the store knows. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { runtime, wanted } = this.#options;
    const results = await Promise.allSettled(this.#unsubscribes);
    const leaving = results.flatMap((result) => (result.status === "fulfilled" ? [result.value()] : []));
    if (leaving.length === wanted.length) {
      for (const each of wanted) this.#count(each, -1);
      runtime.telemetry.log("unsubscribed_from_channel", this.#names());
    }
    await Promise.all(leaving);
  }

  /** Lets go what waits. */
  clear(): void {
    this.#drop(this.#inbox.clear());
  }

  #listenerOf(wanted: Wanted, index: number): BroadcastListener {
    const { runtime } = this.#options;
    const counters = {
      delivered: messagesOf(runtime, wanted.label, "delivered"),
      dropped: messagesOf(runtime, wanted.label, "dropped"),
    };
    // Null: not meant, or heard by one of those before it.
    const sources = new NameCache((channel): Source<B> | null => this.#sourceOf(channel, index, counters));
    return {
      message: (channel, message) => {
        const from = this.#isClosed ? null : sources.get(channel);
        if (from !== null) this.#take(from, message);
      },
      gap: (reason) => this.#tellGap(wanted, reason),
    };
  }

  #sourceOf(channel: string, index: number, counters: Counters): Source<B> | null {
    const { wanted, bind } = this.#options;
    const own = wanted[index];
    const hearing = own?.hearing(channel);
    if (hearing === undefined || wanted.slice(0, index).some((other) => hears(other, channel))) return null;
    const { sharded } = this.#options.listen;
    return { channel, sharded, hearing, bound: bind(channel, hearing, own?.label ?? ""), counters };
  }

  #take(from: Source<B>, message: Bytes): void {
    this.received += 1;
    this.#inbox.push({ from, message, gap: this.#gap });
    this.#gap = undefined;
    this.#options.arrived();
  }

  #tellGap({ name }: Wanted, reason: string): void {
    if (this.#isClosed) return;
    const { runtime, listen } = this.#options;
    this.gaps += 1;
    this.#gap = reason;
    runtime.telemetry.log("subscription_gap", { ...this.#names(), channel: name, reason });
    // It must not keep the others from hearing of it.
    const failed = (error: unknown): void => runtime.report(error, `onGap of ${name}`);
    try {
      onRejection(listen.onGap?.({ channel: name, reason }), failed);
    } catch (error) {
      failed(error);
    }
  }

  #drop(waiting: readonly Waiting<B>[]): void {
    if (waiting.length === 0) return;
    this.dropped += waiting.length;
    for (const { from } of waiting) from.counters.dropped.add(1);
    const gap = waiting.find((each) => each.gap !== undefined)?.gap;
    if (this.#options.listen.overflow === "drop-newest") this.#gap ??= gap;
    else this.passOver({ gap });
    this.#logDrops(waiting.length);
  }

  #overrun(count: number, buffer: number): void {
    const { channel } = this.#names();
    const problem = `${count} messages of "${channel}" were lost: more than the buffer of ${buffer} had to wait`;
    this.#options.overrun(new LimitError(problem));
  }

  #logDrops(count: number): void {
    const { telemetry, clock } = this.#options.runtime;
    this.#unloggedDrops += count;
    if (clock.now() - this.#loggedDropsAt < LOG_EVERY_MS) return;
    telemetry.log("messages_dropped", { ...this.#names(), count: this.#unloggedDrops });
    this.#unloggedDrops = 0;
    this.#loggedDropsAt = clock.now();
  }

  #count({ label }: Wanted, change: 1 | -1): void {
    this.#options.runtime.telemetry.gauge(METRICS.channelSubscribers, { channel: label }).add(change);
  }

  #names(): { readonly channel: string; readonly reader: string } {
    const { wanted, reader } = this.#options;
    return { channel: wanted.map(({ name }) => name).join(", "), reader };
  }
}

function toArrival<B>({ from, message }: Waiting<B>, gap: string | undefined): Arrival<B> {
  const { header, data: shared } = separated(message);
  // Text and JSON stay what they are. Whatever else it may be, other subscribers get the same bytes.
  const data = typeof shared === "string" || isBareHeader(header) ? shared : new Uint8Array(shared);
  return { position: "", attempt: 1, header, data, from, gap };
}

function hears(wanted: Wanted, channel: string): boolean {
  const { target } = wanted;
  return ("pattern" in target || target.channel === channel) && wanted.hearing(channel) !== undefined;
}

/** @param type what became of the messages */
export function messagesOf(
  { telemetry }: Runtime,
  channel: string,
  type: "published" | "delivered" | "dropped",
): Counter {
  return telemetry.counter(METRICS.channelMessages, { channel, type });
}
