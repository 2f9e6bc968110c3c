/** Queues, as the tables hold them: how much each holds, and what is kept of it. */

import type { RecordSettings } from "../../core/backend.js";
import { NO_RECORDS } from "../../core/backend.js";
import type { Database } from "./driver.js";
import type { Rememberer } from "./remembered-ids.js";
import { Rows } from "./rows.js";
import { type StoredText, text } from "./values.js";
import type { Tx } from "./writer.js";

/** Changes when there is something new for the recipient. */
export function inboxTopic(queue: string, recipient: string): string {
  return `inbox ${queue}\n${recipient}`;
}

export interface QueueRow extends Rememberer {
  readonly name: string;
  /** Unfinished items of all recipients; one for an audience counts once. */
  items: number;
  /** What is kept of its items, once that was configured. */
  settings: RecordSettings | undefined;
  /** Finished items that are kept. */
  records: number;
  /** How many were ever kept: the order in which they go. */
  finished: number;
  /** Registered recipients, those that have lapsed unnoticed among them. */
  recipients: number;
  /** How many were ever registered. */
  registrations: number;
  /** Audiences that are not given their shares yet. */
  spreads: number;
}

/** As SQLite has it. */
type StoredQueue = Omit<QueueRow, "name" | "changed" | "settings"> & {
  readonly settings: string | null;
};

export class Queues {
  readonly #namespace: StoredText;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #rows: Rows<string, QueueRow>;

  constructor(db: Database, namespace: string) {
    const sql = prepare(db);
    this.#namespace = text(namespace);
    this.#sql = sql;
    this.#rows = new Rows(
      (name) => this.find(name),
      ({ id, items, records, finished, recipients, registrations, spreads, ids }) => {
        sql.save.run(items, records, finished, recipients, registrations, spreads, ids, id);
      },
    );
  }

  /** As the transaction has it. */
  get(tx: Tx, name: string): QueueRow | undefined {
    return this.#rows.get(tx, name);
  }

  getOrCreate(tx: Tx, name: string): QueueRow {
    const known = this.#rows.get(tx, name);
    if (known !== undefined) return known;
    const id = this.#sql.add.insert(this.#namespace, text(name)) ?? 0;
    return this.#rows.add(tx, name, { ...this.unused(name), id });
  }

  /** A queue that nobody has used yet, and that is not stored. */
  unused(name: string): QueueRow {
    const counts = { items: 0, records: 0, finished: 0, recipients: 0, registrations: 0, spreads: 0, ids: 0 };
    return { id: 0, name, ...counts, settings: undefined, changed: false };
  }

  /** As it was last committed. */
  find(name: string): QueueRow | undefined {
    const row = this.#sql.find.get(this.#namespace, text(name));
    if (row === undefined) return undefined;
    // As `configure` has stored it.
    const settings =
      row.settings === null ? undefined : { ...NO_RECORDS, ...(JSON.parse(row.settings) as RecordSettings) };
    return { ...row, name, settings, changed: false };
  }

  configure(queue: QueueRow, settings: RecordSettings): void {
    queue.settings = settings;
    this.#sql.saveSettings.run(JSON.stringify(settings), queue.id);
  }
}

/** What is kept of a queue's items besides what delivering needs. */
export function settingsOf({ settings = NO_RECORDS }: Pick<QueueRow, "settings">): RecordSettings {
  return settings;
}

/** Whether finished items stay for a while. */
export function keepsFinished(queue: Pick<QueueRow, "settings">): boolean {
  const { keepAckedMs, maxRecords } = settingsOf(queue);
  return keepAckedMs > 0 && maxRecords > 0;
}

/** Whether all items have records, and not only those for audiences. */
export function recordsAll(queue: Pick<QueueRow, "settings">): boolean {
  return queue.settings !== undefined && (queue.settings.index !== undefined || keepsFinished(queue));
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    find: db.prepare<StoredQueue>(
      `SELECT id, items, settings, records, finished, recipients, registrations, spreads, ids
       FROM sb1_queues WHERE namespace = ? AND name = ?`,
    ),
    add: db.prepare("INSERT INTO sb1_queues (namespace, name, items) VALUES (?, ?, 0)"),
    save: db.prepare(
      `UPDATE sb1_queues SET items = ?, records = ?, finished = ?, recipients = ?, registrations = ?, spreads = ?, ids = ?
       WHERE id = ?`,
    ),
    saveSettings: db.prepare("UPDATE sb1_queues SET settings = ? WHERE id = ?"),
  };
}
