/** Rows of bookkeeping that several operations of a transaction change, each written once before the commit. */

import type { Tx } from "./writer.js";

export interface Row {
  changed: boolean;
}

/** One table's rows, for the length of a transaction: other processes may change them in between. */
export class Rows<K, T extends Row> {
  readonly #load: (key: K) => T | undefined;
  readonly #save: (row: T) => void;
  #tx: Tx | undefined;
  #rows = new Map<K, T>();

  constructor(load: (key: K) => T | undefined, save: (row: T) => void) {
    this.#load = load;
    this.#save = save;
  }

  /** The row as this transaction has it; loaded at its first use. */
  get(tx: Tx, key: K): T | undefined {
    const rows = this.#of(tx);
    const known = rows.get(key);
    if (known !== undefined) return known;
    const row = this.#load(key);
    if (row !== undefined) rows.set(key, row);
    return row;
  }

  /** Adds a row that was just inserted. */
  add(tx: Tx, key: K, row: T): T {
    this.#of(tx).set(key, row);
    return row;
  }

  /** Forgets a row that was just deleted. */
  remove(tx: Tx, key: K): void {
    this.#of(tx).delete(key);
  }

  #of(tx: Tx): Map<K, T> {
    if (this.#tx === tx) return this.#rows;
    const rows = new Map<K, T>();
    this.#tx = tx;
    this.#rows = rows;
    tx.beforeCommit(() => {
      for (const row of rows.values()) if (row.changed) this.#save(row);
    });
    return rows;
  }
}
