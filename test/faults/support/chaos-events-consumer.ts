/** Consumes the events of a chaos run, in the form that it is told, and writes down what it was handed and what it decided. */

import { pause } from "../../support/wait.js";
import { deadLetter, type Delivery, defer, LeaseLostError, retry } from "../../../src/index.js";
import { type ChildSetting, connectPatiently } from "./chaos-child.js";
import { behaviourOf, type ConsumerConfig, payloadIn, STREAM } from "./chaos-load.js";
import { iterate, noticing, subscribe } from "./chaos-consuming.js";
import { type EndedAs, type HistoryLog, now } from "./history-log.js";

const DEFER_MS = 30;
const RETRY = { initialMs: 20, factor: 2, maxMs: 300 };
/** Thrown by handlers on purpose. */
const FAILURE = new Error("the handler fails, as it is meant to");

interface Handed {
  readonly data: unknown;
  readonly attempt: number;
  readonly message: { readonly key?: string; readonly position: string };
}

interface Decision {
  readonly as: EndedAs;
  /** For a retry: how it asks. */
  readonly throws: boolean;
  /** Undefined for a delivery that cannot be read. */
  readonly of: { readonly p: number; readonly n: number; readonly a: number } | undefined;
}

/** @returns ends it */
export async function consumeEvents(
  setting: ChildSetting<ConsumerConfig>,
  history: HistoryLog,
): Promise<() => Promise<void>> {
  const { config, noteForeign } = setting;
  const { group, number, seed, form } = config;
  const answers = form === "deliveries";
  history.write({ op: "opened", t: now(), process: "consumer", number, group, answers });
  /** Messages that were put off once. */
  const deferred = new Set<string>();

  /** Begins, takes its time, decides: what it decided is in the history when this resolves. */
  async function handle({ data, attempt, message }: Handed): Promise<Decision> {
    const payload = payloadIn(data, message.key);
    if (typeof payload === "string") {
      history.write({ op: "corrupt", t: now(), what: `${payload}, at ${message.position}` });
      return { as: "ack", throws: false, of: undefined };
    }
    const { p, n } = payload;
    const of = { p, n, a: attempt };
    history.write({ op: "begin", t: now(), ...of, at: message.position });
    const { ms, as, throws } = behaviourOf(seed, { ...of, leaseMs: group.leaseMs });
    if (ms > 0) await pause(ms);
    const decided = as === "defer" && isSecond(`${p}-${n}`) ? "ack" : as;
    // After the last attempt a retry is a dead letter.
    const comesTo = decided === "retry" && attempt >= group.maxAttempts ? "dead" : decided;
    history.write({ op: "end", t: now(), ...of, as: comesTo });
    // From here on it may leave the process.
    await history.flushed();
    return { as: decided, throws, of };
  }

  function isSecond(name: string): boolean {
    const seen = deferred.has(name);
    deferred.add(name);
    return seen;
  }

  /** The handler form: the outcome is what the handler returns or throws. */
  async function decide(data: unknown, context: Omit<Handed, "data">): Promise<unknown> {
    const { as, throws } = await handle({ data, attempt: context.attempt, message: context.message });
    if (as === "dead") return deadLetter("as it is meant to");
    if (as === "defer") return defer({ delayMs: DEFER_MS });
    if (as === "ack") return undefined;
    if (throws) throw FAILURE;
    return retry();
  }

  /** The iterable form: the outcome is a call, and the store's answer is heard. */
  async function settle(delivery: Delivery): Promise<void> {
    const { as, of } = await handle(delivery);
    const calls: Readonly<Record<EndedAs, () => Promise<void>>> = {
      ack: () => delivery.ack(),
      retry: () => delivery.retry(),
      defer: () => delivery.defer({ delayMs: DEFER_MS }),
      dead: () => delivery.deadLetter("as it is meant to"),
    };
    try {
      await calls[as]();
      if (of !== undefined) history.write({ op: "stored", t: now(), ...of, as });
    } catch (error) {
      noteForeign(error, "settling");
      if (of !== undefined && error instanceof LeaseLostError) history.write({ op: "lost", t: now(), ...of, as });
    }
  }

  const broker = await connectPatiently(setting, { logger: noticing(history) });
  const options = {
    group: group.name,
    from: "beginning" as const,
    leaseMs: group.leaseMs,
    concurrency: config.concurrency.events,
    maxDeadLetters: 1_000_000,
    retry: { ...RETRY, maxAttempts: group.maxAttempts },
    order: group.order,
  };
  const failed = (error: unknown): void => noteForeign(error, "consuming events");
  const close = answers
    ? iterate(() => broker.events.deliveries(STREAM, options), settle, failed)
    : await subscribe(() => broker.events.subscribe(STREAM, options, decide), failed);
  return async () => {
    await close();
    await broker.close({ drainMs: 0 });
  };
}
