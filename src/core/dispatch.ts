/** One handler for messages of several kinds: a function for each, none of them left out. */

import { SchemaError } from "./errors.js";
import type { Context, Handler } from "./handler.js";
import { show } from "./options.js";
import type { Params } from "./template.js";

/** Names of fields by which the kinds of a union are told apart. */
type TagOf<T> = { [F in keyof T]: T[F] extends string ? F : never }[keyof T] & string;

/** A function for each value of the field, which gets that kind alone. */
export type KindHandlers<T, F extends keyof T, P extends Params = Params> = {
  readonly [K in T[F] & string]: (data: Extract<T, Readonly<Record<F, K>>>, context: Context<T, P>) => unknown;
};

/**
 * Makes a handler of one for each kind of message, told apart by a field: a kind without one does not compile. A kind that
 * comes all the same is a `SchemaError`, and goes the way of failures.
 *
 * ```ts
 * await broker.pubsub.subscribe("updates", byKind("kind", { data: refreshData, config: refreshConfig }));
 * ```
 */
export function byKind<T, F extends TagOf<T>, P extends Params = Params>(
  field: F,
  handlers: KindHandlers<T, F, P>,
): Handler<T, P> {
  return (data, context) => {
    const kind: unknown = typeof data === "object" && data !== null ? data[field] : undefined;
    const handle =
      typeof kind === "string" && Object.hasOwn(handlers, kind) ? handlers[kind as T[F] & string] : undefined;
    if (handle === undefined) {
      const problem = `is ${show(kind)}, which is none of ${Object.keys(handlers).join(", ")}`;
      throw new SchemaError(`the ${field} of a message on "${context.channel}" ${problem}`, [
        { path: field, message: problem },
      ]);
    }
    return handle(data as Extract<T, Readonly<Record<F, T[F] & string>>>, context); // Of its own kind: looked up by it.
  };
}
