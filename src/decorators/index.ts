/** Methods that consume, said where they are written: sugar over `broker.events.subscribe` and its like, in TC39's mode and in TypeScript's older one. */

import type { Broker } from "../broker.js";
import type { ChannelIn, Contract, NameIn, NoContract, OutputOf, ParamsIn } from "../core/contract.js";
import { ConfigError } from "../core/errors.js";
import type { Context, Handler, QueueContext } from "../core/handler.js";
import { show } from "../core/options.js";
import { addRegistration, type Registration } from "../core/registrations.js";
import type { SubscribeEventOptions } from "../events/consume.js";
import type { SubscribeChannelOptions } from "../pubsub/options.js";
import type { SubscribeQueueOptions } from "../queue/consume.js";

/**
 * Decorates a method that could be the handler: of data that the contract says, or of any where it says nothing.
 *
 * @typeParam X what the method learns besides the data
 */
export interface HandlerDecorator<T, X extends Context<T> = Context<T>> {
  (method: Method<T, X>, context: ClassMethodDecoratorContext): void;
  <M extends Method<T, X>>(prototype: object, key: string | symbol, descriptor: TypedPropertyDescriptor<M>): void;
}

// A method's parameter may be anything where nothing is known of the data: `never` fits into all of them.
type Method<T, X> = unknown extends T ? (data: never, context: never) => unknown : (data: T, context: X) => unknown;

/** Decorators that know a contract. */
export interface Decorators<C> {
  /** `broker.pubsub.subscribe(channels, options, method)`, once the object is registered. */
  readonly Subscribe: <N extends ChannelIn<C>>(
    channels: N | readonly N[],
    options?: SubscribeChannelOptions,
  ) => HandlerDecorator<OutputOf<C, "channels", N>, Context<OutputOf<C, "channels", N>, ParamsIn<C, N>>>;
  /** `broker.events.subscribe(types, options, method)`, once the object is registered. */
  readonly Consume: <N extends NameIn<C, "events">>(
    types: N | readonly N[],
    options: SubscribeEventOptions,
  ) => HandlerDecorator<OutputOf<C, "events", N>>;
  /** `broker.queue(name).subscribe(options, method)`, once the object is registered. */
  readonly ConsumeQueue: <N extends NameIn<C, "queues">>(
    name: N,
    options?: SubscribeQueueOptions,
  ) => HandlerDecorator<OutputOf<C, "queues", N>, QueueContext<OutputOf<C, "queues", N>>>;
}

/** The broker as the untyped see it. */
type Open = (
  broker: Broker,
  handler: Handler<unknown>,
  signal: AbortSignal | undefined,
) => ReturnType<Registration["open"]>;

/** See {@link Decorators}. Without a contract a method says itself what it takes, and nobody checks that. */
export const Subscribe: Decorators<NoContract>["Subscribe"] = (channels, options = {}) =>
  decorator("Subscribe", (broker, handler, signal) =>
    broker.pubsub.subscribe(channels, withSignal(options, signal), handler),
  );

/** See {@link Decorators}. */
export const Consume: Decorators<NoContract>["Consume"] = (types, options) =>
  decorator("Consume", (broker, handler, signal) =>
    broker.events.subscribe(types, withSignal(options, signal), handler),
  );

/** See {@link Decorators}. */
export const ConsumeQueue: Decorators<NoContract>["ConsumeQueue"] = (name, options = {}) =>
  decorator("ConsumeQueue", (broker, handler, signal) =>
    broker.queue(name).subscribe(withSignal(options, signal), handler),
  );

/** The decorators for a contract: names that it does not have, and methods for other data, do not compile. */
export function decoratorsFor<C extends Contract>(_contract: C): Decorators<C> {
  // They differ in types alone: names are checked where the object is registered.
  return { Subscribe, Consume, ConsumeQueue } as Decorators<C>;
}

function decorator<T, X extends Context<T>>(name: string, open: Open): HandlerDecorator<T, X> {
  return (target: unknown, where: ClassMethodDecoratorContext | string | symbol, descriptor?: PropertyDescriptor) => {
    if (typeof where === "object") decorateStandard(name, open, target, where);
    else decorateLegacy(name, open, target as object, where, descriptor);
  };
}

function decorateStandard(name: string, open: Open, method: unknown, context: ClassMethodDecoratorContext): void {
  // A decorator in the wrong place compiles where nothing is checked.
  const { kind } = context as { readonly kind: string };
  if (kind !== "method") throw misplaced(name, context.name, `a ${kind}`);
  if (context.static) throw misplaced(name, context.name, "static");
  if (context.private) throw misplaced(name, context.name, "private");
  const key = context.name;
  const levels = [method, levelOf(context) ?? method];
  // Runs for each object, with the object: what a class below adds comes after what is above it.
  context.addInitializer(function noteIn(this: unknown) {
    addRegistration(this as object, { key, levels, open });
  });
}

/**
 * What all decorators of one method in one class have in common, also where another has put a method of its own between
 * them: the class's metadata; where the compiler makes none, the accessor, which TypeScript makes once for each method.
 */
function levelOf(context: ClassMethodDecoratorContext): unknown {
  const { metadata, access } = context as { readonly metadata?: object; readonly access?: { readonly get?: unknown } };
  return metadata ?? access?.get;
}

function decorateLegacy(
  name: string,
  open: Open,
  prototype: object,
  key: string | symbol,
  descriptor: PropertyDescriptor | undefined,
): void {
  if (typeof prototype === "function") throw misplaced(name, key, "static");
  if (typeof descriptor?.value !== "function") throw misplaced(name, key, "no method");
  addRegistration(prototype, { key, levels: [prototype], open });
}

function misplaced(name: string, member: string | symbol, is: string): ConfigError {
  return new ConfigError([
    `@${name} stands at ${show(String(member))}, which is ${is}: only methods of objects are registered`,
  ]);
}

function withSignal<O extends { readonly signal?: AbortSignal }>(options: O, signal: AbortSignal | undefined): O {
  if (signal === undefined) return options;
  // Absent where no compiler looks: the call says what is missing.
  const own = options?.signal;
  const both = own === undefined ? signal : AbortSignal.any([own, signal]);
  return { ...options, signal: both };
}
