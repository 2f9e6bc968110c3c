/** Who is registered in a queue, until nobody has read it for long; and the inboxes, which anybody has. */

import type { BackendContext, RecipientPage, Registration } from "../../core/backend.js";
import { MAX_RECIPIENTS } from "../../core/backend.js";
import { recipientLapsed, tooManyRecipients } from "../../core/limits.js";
import { isReplyInbox } from "../../core/private-recipients.js";
import { pageOf } from "./cursors.js";
import type { Database } from "./driver.js";
import type { InboxCounts } from "./inbox-counts.js";
import type { Items } from "./items.js";
import type { Online } from "./online.js";
import { inboxTopic, type QueueRow } from "./queues.js";
import { ANSWERS, type Reader, type Readers } from "./readers.js";
import type { Store } from "./store.js";
import { type StoredText, textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** Lapsed recipients that one call forgets. */
const MAX_LAPSES = 100;
/** Items and dead letters of forgotten recipients that one transaction removes. */
const MAX_REMOVED = 500;
/** That a recipient was read is written down at once when this share of its time to live has passed since it last was. */
const READ_SHARE = 0.01;

interface RecipientRow {
  readonly id: number;
  readonly name: StoredText;
  readonly registered: number;
  readonly isAudience: number;
  readonly lapsesAt: number;
}

export class Recipients {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #readers: Readers;
  readonly #items: Items;
  readonly #online: Online;
  readonly #counts: InboxCounts;
  readonly #report: BackendContext["report"];

  constructor(
    store: Pick<Store, "db" | "report">,
    readers: Readers,
    items: Items,
    online: Online,
    counts: InboxCounts,
  ) {
    this.#sql = prepare(store.db);
    this.#readers = readers;
    this.#items = items;
    this.#online = online;
    this.#counts = counts;
    this.#report = store.report;
  }

  // ------------------------------------------------------------------------------------------------ inboxes

  /** The recipient's inbox, if it has one. What has lapsed is forgotten now. */
  inbox(tx: Tx, queue: QueueRow, recipient: string): Reader | undefined {
    const id = this.#readers.find("inbox", queue.id, recipient);
    const inbox = id === undefined ? undefined : this.#readers.get(tx, id);
    return inbox !== undefined && this.#meetLapse(tx, queue, inbox, recipient) ? undefined : inbox;
  }

  inboxOf(tx: Tx, queue: QueueRow, recipient: string): Reader {
    return this.inbox(tx, queue, recipient) ?? this.#insert(tx, queue, recipient);
  }

  /** The inbox that a feed reads, by the number it had: undefined when it is another's by now, or nobody's. */
  known(tx: Tx, queue: QueueRow, reader: number, recipient: string): Reader | undefined {
    const inbox = this.#readers.get(tx, reader);
    return inbox !== undefined && this.#meetLapse(tx, queue, inbox, recipient) ? undefined : inbox;
  }

  // ------------------------------------------------------------------------------------------- registration

  /** @throws {LimitError} */
  register(tx: Tx, queue: QueueRow, recipient: string, { ttlMs, isAudience }: Registration): Reader {
    const known = this.inbox(tx, queue, recipient);
    const isNew = known === undefined || known.registered === null;
    if (isNew && queue.recipients >= MAX_RECIPIENTS) throw tooManyRecipients(queue.name);
    const inbox = known ?? this.#insert(tx, queue, recipient);
    if (isNew) {
      queue.recipients += 1;
      queue.registrations += 1;
      queue.changed = true;
    }
    const registered = inbox.registered ?? queue.registrations;
    Object.assign(inbox, { registered, isAudience, ttlMs, lapsesAt: tx.now + ttlMs });
    this.#readers.saveRegistration(inbox);
    return inbox;
  }

  /** Somebody reads the inbox. Mostly that is written down later, by `readAt`. */
  read(tx: Tx, inbox: Reader): void {
    const pause = inbox.ttlMs * READ_SHARE;
    // Also when the clock went back, as the recipient would else be there for longer.
    const passed = tx.now + inbox.ttlMs - (inbox.lapsesAt ?? 0);
    if (Math.abs(passed) > pause) this.#saveLapse(inbox, tx.now + inbox.ttlMs);
  }

  /** A feed is open: its recipient stays registered, whether it takes or not. */
  keep(tx: Tx, inbox: Reader): void {
    if (inbox.lapsesAt !== null && inbox.lapsesAt > tx.now) this.#saveLapse(inbox, tx.now + inbox.ttlMs);
  }

  /** It was last read then, as its feed knows when it closes. */
  readAt(inbox: Reader, at: number): void {
    if (inbox.lapsesAt !== null && at + inbox.ttlMs > inbox.lapsesAt) this.#saveLapse(inbox, at + inbox.ttlMs);
  }

  /**
   * Forgets a recipient. What it had is removed by `clean`.
   *
   * @returns whether it was registered
   */
  unregister(tx: Tx, queue: QueueRow, recipient: string): boolean {
    const inbox = this.inbox(tx, queue, recipient);
    if (inbox === undefined) return false;
    const wasRegistered = inbox.registered !== null;
    this.#forget(tx, queue, inbox, recipient);
    return wasRegistered;
  }

  /** Forgets some of those that have lapsed, and removes some of what they had. */
  meetLapsed(tx: Tx, queue: QueueRow): void {
    for (const { id, name } of this.#sql.lapsed.all(queue.id, tx.now, MAX_LAPSES)) {
      const inbox = this.#readers.get(tx, id);
      if (inbox !== undefined) this.#meetLapse(tx, queue, inbox, textOf(name));
    }
    this.clean(tx, queue);
  }

  /** Removes some of what those had who are forgotten. @returns whether that was all */
  clean(tx: Tx, queue: QueueRow): boolean {
    let left = MAX_REMOVED;
    for (let gone = this.#sql.gone.get(queue.id); gone !== undefined; gone = this.#sql.gone.get(queue.id)) {
      left -= this.#items.forgetSome(tx, queue, gone.id, left);
      if (left > 0) left -= this.#sql.removeLetters.run(gone.id, left);
      if (left <= 0) break;
      this.#sql.remove.run(gone.id);
    }
    tx.spend(MAX_REMOVED - left);
    return left > 0;
  }

  // ---------------------------------------------------------------------------------------------- looking

  /** Those that have not lapsed, in the order of their registration. */
  page(queue: QueueRow, max: number, after: number, now: number): RecipientPage {
    const rows = this.#sql.page.all(queue.id, after, now, max + 1);
    const { items, ...rest } = pageOf(rows, max, ({ registered }) => [registered]);
    const recipients = items.map(({ id, name, isAudience, lapsesAt }) => ({
      recipient: textOf(name),
      isAudience: isAudience === 1,
      isOnline: this.#online.isOnline(queue.id, id, now),
      lapsesAt,
    }));
    return { recipients, ...rest };
  }

  /** @returns whether it had lapsed, and is forgotten now */
  #meetLapse(tx: Tx, queue: QueueRow, inbox: Reader, recipient: string): boolean {
    if (inbox.lapsesAt === null || inbox.lapsesAt > tx.now) return false;
    const lost = inbox.isAudience ? this.#counts.unfinished(inbox, tx.now) + inbox.dead : 0;
    this.#forget(tx, queue, inbox, recipient);
    if (lost > 0) {
      const loss = recipientLapsed(queue.name, recipient, lost);
      tx.afterCommit(() => this.#report(loss, "forgetting a recipient that has lapsed"));
    }
    return true;
  }

  #insert(tx: Tx, queue: QueueRow, recipient: string): Reader {
    return this.#readers.insert(tx, "inbox", queue.id, recipient, isReplyInbox(recipient) ? ANSWERS : null);
  }

  #saveLapse(inbox: Reader, lapsesAt: number): void {
    inbox.lapsesAt = lapsesAt;
    this.#readers.saveRegistration(inbox);
  }

  #forget(tx: Tx, queue: QueueRow, inbox: Reader, recipient: string): void {
    this.#readers.letGo(tx, inbox);
    this.#online.forget(queue.id, inbox.id);
    if (inbox.registered !== null) queue.recipients -= 1;
    queue.changed = true;
    // Whoever waits begins anew.
    tx.changed(inboxTopic(queue.name, recipient));
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const recipients = `SELECT id, name, registered, audience AS isAudience, lapses_at AS lapsesAt FROM sb1_readers`;
  return {
    lapsed: db.prepare<RecipientRow>(
      `${recipients} INDEXED BY sb1_readers_lapse WHERE parent = ? AND lapses_at <= ? ORDER BY lapses_at LIMIT ?`,
    ),
    gone: db.prepare<{ id: number }>("SELECT id FROM sb1_readers WHERE kind = 'gone' AND parent = ? LIMIT 1"),
    removeLetters: db.prepare("DELETE FROM sb1_dead WHERE id IN (SELECT id FROM sb1_dead WHERE reader = ? LIMIT ?)"),
    remove: db.prepare("DELETE FROM sb1_readers WHERE id = ?"),
    page: db.prepare<RecipientRow>(
      `${recipients} INDEXED BY sb1_readers_registered
       WHERE parent = ? AND registered > ? AND lapses_at > ? ORDER BY registered LIMIT ?`,
    ),
  };
}
