/** What the ports of one opened memory backend share: whether it is open, and what ends with it. */

import type { Feed } from "../../core/backend.js";

/** One opened backend. Others may share its messages. */
export interface Session {
  /** @throws {ClosedError} */
  assertOpen(): void;
  /** Registers what has to end with the session. @returns a function that forgets it */
  onClose(close: () => void | Promise<void>): () => void;
  /** Makes a feed that ends with the session. */
  track(create: (onClose: () => void) => Feed): Feed;
}

/** The value of a key, made on first use. */
export function getOrCreate<V>(map: Map<string, V>, key: string, create: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = create();
    map.set(key, value);
  }
  return value;
}

/** A name within its namespace. Names hold no line feed, so that no two of them meet. */
export function scoped(namespace: string, name: string): string {
  return `${namespace}\n${name}`;
}
