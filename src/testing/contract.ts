/** What a contract case is, and what it needs to know of the store it runs against. */

import type { Backend } from "../core/backend.js";

/**
 * A store under test, fresh for each case. Whoever opens it also closes it: the backend, every `second()` and the store
 * itself, whatever state the case left them in.
 */
export interface ContractStore {
  readonly backend: Backend;
  /**
   * Another backend on the same store, as another process has it; in another namespace where one is named.
   *
   * Each call opens one more.
   */
  second(options?: { readonly namespace?: string }): Promise<Backend>;
  /** The store's clock passes: a fake clock is advanced, a real server is awaited. */
  elapse(ms: number): Promise<void>;
  /** What the store's clock says, in milliseconds since the epoch. */
  now(): Promise<number>;
  /** What the backends have reported since this was last called, as text: a case that ends with reports left has failed. */
  takeReports(): readonly string[];
  /** A valid name that nothing in the store has yet, of letters, digits and dashes. */
  name(): string;
}

/** One behaviour that every backend has. */
export interface ContractCase {
  /** A sentence, unique among the cases, that begins with the port it is about: `"queue: a delayed item …"`. */
  readonly title: string;
  /** Rejects with an `AssertionError`, or with whatever the backend threw, when the backend behaves otherwise. */
  run(store: ContractStore): Promise<void>;
}
