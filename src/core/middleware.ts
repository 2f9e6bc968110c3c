/** What all messages of a broker pass through: around publishing, around handlers, and around the payload's bytes. */

import type { BatchHandler } from "./batches.js";
import { aTransform, type PayloadTransform } from "./codecs.js";
import { InvalidArgumentError } from "./errors.js";
import type { Delivery } from "./delivery.js";
import type { Context } from "./handler.js";
import type { Message, MessageOptions } from "./message.js";
import { aFunction, aString, type Checks, findProblems, show } from "./options.js";

export type FacadeName = "pubsub" | "events" | "queue";

/** A message that is about to be published. */
export interface Publication {
  readonly facade: FacadeName;
  /** The channel, event type or queue. */
  readonly name: string;
  readonly data: unknown;
  /** What its publisher says of it, and whatever else the call takes. */
  readonly options: MessageOptions;
}

/** Takes the messages, changed or not: as many as there were, in their order, each under its name. */
export type PublishNext = (messages?: readonly Publication[]) => Promise<readonly { readonly id: string }[]>;

/** A message in its handler's hand. */
export interface Received {
  readonly message: Message;
  /** From 1. */
  readonly attempt: number;
}

/** One run of a handler. */
export interface HandlerRun {
  readonly facade: FacadeName;
  /** The stream, queue or channel. */
  readonly channel: string;
  /** What the handler gets: one, or a batch. */
  readonly deliveries: readonly Received[];
  /** Aborts when nobody waits for the handler any more. */
  readonly signal: AbortSignal;
}

/** One idea that all messages of a broker pass through. Each part is optional. */
export interface Middleware {
  /** For errors. */
  readonly name: string;
  /**
   * Around each call that publishes; `publishMany` gives several messages at once. What `next` takes is checked and sent,
   * and the caller gets the receipts it resolves with. To refuse the messages, throw.
   */
  readonly publish?: (messages: readonly Publication[], next: PublishNext) => unknown;
  /**
   * Around each run of a handler, inside its time limit. What it returns is the outcome; when that is nothing, the outcome
   * is the handler's own, also where the handler threw.
   */
  readonly handle?: (run: HandlerRun, next: () => Promise<unknown>) => unknown;
  /** Changes the encoded payload on its way to the store, and back. */
  readonly payload?: PayloadTransform;
}

const CHECKS: Checks<Middleware> = { name: aString, publish: aFunction, handle: aFunction, payload: aTransform };

/** What is wrong with the option of `connect`. */
export function findMiddlewareProblems(given: unknown): string[] {
  if (given === undefined) return [];
  if (!Array.isArray(given)) return [`connect: middleware must be a list, not ${show(given)}`];
  const list = given as readonly Middleware[]; // Each is checked to be one.
  const problems = list.flatMap((each, index) => {
    const at = `connect: middleware[${index}]`;
    const found = findProblems(at, each ?? null, CHECKS);
    return found.length === 0 && each.name === undefined ? [`${at}: name is missing: errors go by it`] : found;
  });
  if (problems.length > 0) return problems;
  const tags = list.flatMap(({ payload }) => payload?.tag ?? []);
  const twice = tags.find((tag, index) => tags.indexOf(tag) !== index);
  return twice === undefined
    ? []
    : [`connect: two of the middleware have the tag "${twice}": one would read the other's`];
}

/** Everything in a list of middleware that stands around publishing. Undefined: nothing does. */
export type PublishThrough = <R extends { readonly id: string }>(
  messages: readonly Publication[],
  send: (messages: readonly Publication[]) => Promise<readonly R[]>,
) => Promise<readonly R[]>;

export function publishThrough(middleware: readonly Middleware[]): PublishThrough | undefined {
  const hooks = middleware.flatMap(({ name, publish }): Hook<readonly Publication[]>[] =>
    // What it returns is no receipt, whatever it is.
    publish === undefined ? [] : [{ name, call: async (messages, next) => void (await publish(messages, next)) }],
  );
  if (hooks.length === 0) return undefined;
  return (messages, send) =>
    pass(hooks, messages, (changed) => {
      assertSame(messages, changed);
      return send(changed);
    });
}

/** The handler with everything around it; the very same where there is nothing. */
export function handleThrough<T, C extends Context<T>>(
  middleware: readonly Middleware[],
  facade: FacadeName,
  handler: (data: T, context: C) => unknown,
): (data: T, context: C) => unknown {
  const hooks = handleHooks(middleware);
  if (hooks.length === 0) return handler;
  return (data, context) => {
    const run: HandlerRun = {
      facade,
      channel: context.channel,
      deliveries: [context],
      // Made when somebody looks.
      get signal() {
        return context.signal;
      },
    };
    return pass(hooks, run, async () => await handler(data, context));
  };
}

/** The same for a batch. */
export function handleBatchThrough<T, D extends Delivery<T>>(
  middleware: readonly Middleware[],
  facade: FacadeName,
  handler: BatchHandler<T, D>,
): BatchHandler<T, D> {
  const hooks = handleHooks(middleware);
  if (hooks.length === 0) return handler;
  return (deliveries, context) => {
    const { channel, signal } = context;
    const run: HandlerRun = { facade, channel, deliveries, signal };
    return pass(hooks, run, async () => await handler(deliveries, context));
  };
}

interface Hook<I> {
  readonly name: string;
  // What next resolves with is the innermost's.
  readonly call: (input: I, next: (input?: I) => Promise<never>) => unknown;
}

function handleHooks(middleware: readonly Middleware[]): Hook<HandlerRun>[] {
  return middleware.flatMap(({ name, handle }) => (handle === undefined ? [] : [{ name, call: handle }]));
}

/** Calls the hooks around `last`, the first outermost. A hook that returns nothing leaves what its `next` came to. */
function pass<I, R>(hooks: readonly Hook<I>[], input: I, last: (input: I) => Promise<R>): Promise<R> {
  const step = async (index: number, given: I): Promise<R> => {
    const hook = hooks[index];
    if (hook === undefined) return await last(given);
    let own: Promise<R> | undefined;
    const next = (changed: I = given): Promise<R> => {
      if (own !== undefined) throw new InvalidArgumentError(`the middleware "${hook.name}" called next twice`);
      own = step(index + 1, changed);
      // The hook need not wait for it: it is waited for below.
      own.catch(() => undefined);
      return own;
    };
    const returned = await hook.call(given, next as (changed?: I) => Promise<never>);
    if (returned !== undefined) return returned as R;
    if (own !== undefined) return await own;
    throw new InvalidArgumentError(`the middleware "${hook.name}" did not call next: throw, or return an outcome`);
  };
  return step(0, input);
}

function assertSame(messages: readonly Publication[], changed: readonly Publication[]): void {
  const isSame =
    changed.length === messages.length &&
    messages.every(({ name, facade }, index) => changed[index]?.name === name && changed[index].facade === facade);
  if (isSame) return;
  throw new InvalidArgumentError("next takes as many messages as there were, each under its name: throw to refuse one");
}
