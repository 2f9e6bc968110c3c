/** Consumes the queue of a chaos run for some recipients, and writes down what it was handed, when that was taken, and what it decided. */

import { pause } from "../../support/wait.js";
import { deadLetter, defer, LeaseLostError, type QueueDelivery, retry } from "../../../src/index.js";
import { type ChildSetting, connectPatiently } from "./chaos-child.js";
import type { ConsumerConfig } from "./chaos-load.js";
import { iterate, noticing, subscribe } from "./chaos-consuming.js";
import { itemBehaviourOf, itemIn, itemNamed, QUEUE } from "./chaos-queue-load.js";
import { createTakes, type Takes } from "./chaos-takes.js";
import type { OfItem } from "./history-items.js";
import { type EndedAs, type HistoryLog, now } from "./history-log.js";

interface Handed {
  readonly data: unknown;
  readonly attempt: number;
  readonly message: { readonly id: string; readonly priority?: number; readonly target?: string };
}

interface Decision {
  readonly as: EndedAs;
  /** The same, but that after the last attempt a retry is a dead letter. */
  readonly comesTo: EndedAs;
  readonly delayMs: number;
  /** Undefined for a delivery that cannot be read. */
  readonly of: OfItem | undefined;
}

type Setting = ChildSetting<ConsumerConfig>;

/** @returns ends it */
export async function consumeQueue(setting: Setting, history: HistoryLog): Promise<() => Promise<void>> {
  const { config, noteForeign } = setting;
  const { number, queue: traits, recipients, form, concurrency } = config;
  const answers = form === "deliveries";
  history.write({ op: "opened", t: now(), process: "consumer", number, queue: traits, answers });
  /** What handlers are about, by recipient and id. */
  const underway = new Map<string, OfItem>();
  const takes = createTakes({
    expired(r, ids, within) {
      for (const id of ids) {
        const of = itemNamed(id);
        if (of !== undefined) history.write({ op: "itemExpired", t: now(), r, ...of, ...within });
      }
    },
    extended(r, ids, from) {
      for (const id of ids) {
        const of = underway.get(`${r} ${id}`);
        if (of !== undefined) history.write({ op: "itemExtended", t: now(), ...of, from });
      }
    },
    released: (r) => history.write({ op: "itemsReleased", t: now(), r }),
  });
  const broker = await connectPatiently(setting, { logger: noticing(history) }, takes.observe);
  const queue = broker.queue(QUEUE);
  const failed = (error: unknown): void => noteForeign(error, "consuming the queue");
  const consume = async (r: string): Promise<() => Promise<void>> => {
    const options = {
      ...(r === "" ? {} : { as: r }),
      leaseMs: traits.leaseMs,
      concurrency: concurrency.queue,
      maxDeadLetters: 1_000_000,
      retry: { maxAttempts: traits.maxAttempts },
    };
    const handle = createHandler(setting, history, { recipient: r, takes, underway });
    if (answers) return iterate(() => queue.deliveries(options), settler(setting, history, handle), failed);
    return await subscribe(() => queue.subscribe(options, decider(handle)), failed);
  };
  const closes = await Promise.all(recipients.map(consume));
  return async () => {
    await Promise.all(closes.map((close) => close()));
    await broker.close({ drainMs: 0 });
  };
}

type Handle = (handed: Handed) => Promise<Decision>;

interface For {
  readonly recipient: string;
  readonly takes: Takes;
  readonly underway: Map<string, OfItem>;
}

/** Begins, takes its time, decides: what it decided is in the history when it resolves. */
function createHandler({ config }: Setting, history: HistoryLog, { recipient: r, takes, underway }: For): Handle {
  const { seed, queue: traits } = config;
  /** Messages that were put off once. */
  const deferred = new Set<string>();
  return async ({ data, attempt, message }) => {
    const { id } = message;
    const within = takes.of(r, id);
    const payload = itemIn(data, message);
    if (typeof payload === "string") {
      history.write({ op: "corrupt", t: now(), what: `${payload}, with the id ${id}` });
      return { as: "ack", comesTo: "ack", delayMs: 0, of: undefined };
    }
    const { p, n } = payload;
    const of = { r, p, n, a: attempt };
    const behaviour = itemBehaviourOf(seed, traits, of);
    underway.set(`${r} ${id}`, of);
    if (behaviour.isLate) takes.neglect(r, id);
    history.write({ op: "itemBegin", t: now(), ...of, at: id, ...within });
    await pause(behaviour.ms);
    const as = behaviour.as === "defer" && deferred.has(id) ? "ack" : behaviour.as;
    if (as === "defer") deferred.add(id);
    const comesTo = as === "retry" && attempt >= traits.maxAttempts ? "dead" : as;
    const delayMs = comesTo === "retry" || comesTo === "defer" ? behaviour.delayMs : 0;
    if (underway.get(`${r} ${id}`) === of) underway.delete(`${r} ${id}`);
    history.write({ op: "itemEnd", t: now(), ...of, as: comesTo, delayMs });
    // From here on it may leave the process.
    await history.flushed();
    return { as, comesTo, delayMs, of };
  };
}

/** The handler form: the outcome is what the handler returns. */
function decider(handle: Handle) {
  return async (data: unknown, { attempt, message }: Omit<Handed, "data">): Promise<unknown> => {
    const { as, delayMs } = await handle({ data, attempt, message });
    if (as === "dead") return deadLetter("as it is meant to");
    if (as === "defer") return defer({ delayMs });
    return as === "retry" ? retry({ delayMs }) : undefined;
  };
}

/** The iterable form: the outcome is a call, and the store's answer is heard. */
function settler({ noteForeign }: Setting, history: HistoryLog, handle: Handle) {
  return async (delivery: QueueDelivery): Promise<void> => {
    const { as, comesTo, delayMs, of } = await handle(delivery);
    const calls: Readonly<Record<EndedAs, () => Promise<void>>> = {
      ack: () => delivery.ack(),
      retry: () => delivery.retry({ delayMs }),
      defer: () => delivery.defer({ delayMs }),
      dead: () => delivery.deadLetter("as it is meant to"),
    };
    try {
      await calls[as]();
      if (of !== undefined) history.write({ op: "itemStored", t: now(), ...of, as: comesTo, delayMs });
    } catch (error) {
      noteForeign(error, "settling");
      if (of !== undefined && error instanceof LeaseLostError)
        history.write({ op: "itemLost", t: now(), ...of, as: comesTo, delayMs });
    }
  };
}
