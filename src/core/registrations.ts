/** Methods that subscribe once their object is registered: noted by decorators, read by the broker. */

import { InvalidArgumentError } from "./errors.js";
import type { Handler } from "./handler.js";
import { aSignal, type Checks, checkOptions, show } from "./options.js";

/** One decorator of one method. */
export interface Registration {
  readonly key: string | symbol;
  /** What stands for its class: each decorator of one method in one class has something of it in common with the next. */
  readonly levels: readonly unknown[];
  /** Subscribes the method at a broker, which core knows nothing about. */
  open(this: void, broker: unknown, handler: Handler<unknown>, signal: AbortSignal | undefined): Promise<Opened>;
}

/** What every facade's subscription is. */
export interface Opened {
  close(options?: { readonly drainMs?: number }): Promise<void>;
  stats(): unknown;
}

/** Registered, so that decorators and brokers of two copies of this package understand each other. */
const REGISTRATIONS: symbol = Symbol.for("signalbox/registrations");

/** Adds to what stands on a prototype, or on an object itself. */
export function addRegistration(target: object, registration: Registration): void {
  const own = ownRegistrations(target);
  Object.defineProperty(target, REGISTRATIONS, { value: [...own, registration], configurable: true });
}

/**
 * What is to be subscribed of an object: of its class and of those above it. A method that is decorated anew in a class
 * below is subscribed as it says there alone; one that is only overridden is subscribed as it was, and called as it is.
 */
export function registrationsOf(instance: object): readonly Registration[] {
  const chain: object[] = [];
  for (let at: object | null = instance; at !== null; at = Object.getPrototypeOf(at) as object | null)
    chain.unshift(at);
  // What an object shadows of its own, such as a method that it has bound, is no class above or below.
  const prototypes = chain.slice(0, -1);
  const byKey = new Map<string | symbol, Registration[]>();
  for (const registration of chain.flatMap(ownRegistrations)) {
    const { key, levels } = registration;
    const above = byKey.get(key) ?? [];
    // Some compilers let two decorators of one method look like two classes': so it is looked up whether there are two.
    const isOfAnother = above.at(-1)?.levels.some((level) => levels.includes(level)) !== true;
    const isReplaced = isOfAnother && prototypes.filter((at) => Object.hasOwn(at, key)).length > 1;
    byKey.set(key, isReplaced ? [registration] : [...above, registration]);
  }
  return [...byKey.values()].flat();
}

function ownRegistrations(target: object): readonly Registration[] {
  // Under this key stands what addRegistration put there.
  return Object.hasOwn(target, REGISTRATIONS) ? (Reflect.get(target, REGISTRATIONS) as readonly Registration[]) : [];
}

/**
 * The subscriptions of one object.
 *
 * @typeParam S the statistics of a subscription
 */
export interface Registered<S = unknown> extends AsyncDisposable {
  /** Closes all of them, as a subscription's `close` does. */
  close(options?: { readonly drainMs?: number }): Promise<void>;
  /** Of all of them, one after the other. */
  stats(): readonly S[];
}

export interface RegisterOptions {
  /** Closes all of them. */
  readonly signal?: AbortSignal;
}

const CHECKS: Checks<RegisterOptions> = { signal: aSignal };

/**
 * Subscribes every decorated method of an object: all or none.
 *
 * @throws {InvalidArgumentError} for an object without any
 */
export async function register(
  broker: unknown,
  instance: unknown,
  options: RegisterOptions | undefined,
  report: (error: unknown, where: string) => void,
): Promise<Registered> {
  checkOptions("register", options, CHECKS);
  const found = checkedRegistrations(instance);
  const results = await Promise.allSettled(
    found.map(async ({ handler, open }) => await open(broker, handler, options?.signal)),
  );
  const subscriptions = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const close = async (how?: { readonly drainMs?: number }): Promise<void> => {
    await allOf(subscriptions.map((each) => each.close(how)));
  };
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) {
    await close({ drainMs: 0 }).catch((error: unknown) =>
      report(error, "closing what was registered beside a failure"),
    );
    throw failed.reason;
  }
  return { close, stats: () => subscriptions.flatMap((each) => each.stats()), [Symbol.asyncDispose]: () => close() };
}

interface Found extends Pick<Registration, "open"> {
  readonly handler: Handler<unknown>;
}

/** Everything is looked at before the first is subscribed. */
function checkedRegistrations(instance: unknown): readonly Found[] {
  if (typeof instance !== "object" || instance === null)
    throw new InvalidArgumentError(`register takes an object with decorated methods, not ${show(instance)}`);
  const registrations = registrationsOf(instance);
  if (registrations.length === 0)
    throw new InvalidArgumentError(
      "register found no decorated method: decorate some with signalbox/decorators, and pass an object of the class",
    );
  const handlers = new Map<string | symbol, Handler<unknown>>();
  return registrations.map(({ key, open }) => {
    // One for all subscriptions of a method: they know it by its identity, and by its name.
    const handler = handlers.get(key) ?? handlerOf(instance, key);
    handlers.set(key, handler);
    return { handler, open };
  });
}

function handlerOf(instance: object, key: string | symbol): Handler<unknown> {
  if (typeof Reflect.get(instance, key) !== "function")
    throw new InvalidArgumentError(`register: ${String(key)} was decorated as a method, and is none in this object`);
  // Looked up at each call: a test may replace it.
  const handler: Handler<unknown> = (data, context) =>
    (Reflect.get(instance, key) as Handler<unknown>).call(instance, data, context);
  return Object.defineProperty(handler, "name", { value: `${instance.constructor.name}.${String(key)}` });
}

/** Waits for all of them, and then fails with the first failure. */
async function allOf(promises: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(promises);
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}
