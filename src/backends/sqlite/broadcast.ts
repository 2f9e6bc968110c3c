/** Whoever listens now hears it: in this process at once, in others through a bounded table of recent messages. */

import { randomUUID } from "node:crypto";
import type { Broadcast, BroadcastMessage, BroadcastTarget } from "../../core/backend.js";
import type { Timer } from "../../core/clock.js";
import { type Audience, createAudience, RENEW_MS } from "./audience.js";
import { ELSEWHERE } from "./bell.js";
import { createHub, type Hub } from "./hub.js";
import type { Store } from "./store.js";
import { type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** What the table keeps for those who are slow to read it, in messages, bytes and time; beyond it they are told of a gap. */
const MAX_KEPT = 10_000;
const MAX_KEPT_BYTES = 64 * 1_024 * 1_024;
const KEPT_MS = 60_000;
/** Old messages that each publish removes at least, where there are any. */
const TRIM_SLICE = 100;
/** Messages read at once. */
const READ_SLICE = 500;
/** However sure the wake-ups are, listeners look again after this long. */
const RECHECK_MS = 1_000;

interface MessageRow {
  readonly id: number;
  readonly namespace: StoredText;
  readonly origin: string;
  readonly channel: StoredText;
  readonly data: Uint8Array;
}

interface OwnMessage {
  readonly channel: string;
  readonly data: Uint8Array;
}

export function createBroadcast(store: Store): Broadcast {
  const { writer, db } = store;
  const backend = randomUUID();
  const hub = createHub(store.report);
  const audience = createAudience(db, text(store.namespace), backend);
  const outbox = createOutbox(store, backend);
  /** How often each target of this backend is subscribed to, or about to be. */
  const wanted = new Map<string, { readonly target: BroadcastTarget; count: number }>();
  const receiver = createReceiver(store, backend, hub, audience, () =>
    [...wanted.values()].map(({ target }) => target),
  );
  store.onClose(receiver.close);

  function want(target: BroadcastTarget, change: 1 | -1): number {
    const key = "pattern" in target ? `pattern ${target.pattern}` : `channel ${target.channel}`;
    const entry = wanted.get(key) ?? { target, count: 0 };
    entry.count += change;
    if (entry.count > 0) wanted.set(key, entry);
    else wanted.delete(key);
    return entry.count;
  }

  async function leave(target: BroadcastTarget): Promise<void> {
    if (want(target, -1) > 0) return;
    if (wanted.size === 0) receiver.stop();
    // Asked again when it is its turn: somebody may have subscribed in between.
    await writer.run((tx) => {
      if (want(target, 1) === 1) audience.leave(tx, target);
      want(target, -1);
    });
  }

  return {
    async publish(messages) {
      store.assertOpen();
      if (messages.length === 0) return [];
      const own = messages.map(({ channel, data }): OwnMessage => ({ channel, data: toBytes(data) }));
      return writer.run((tx) => {
        const others = audience.others(tx);
        const counts = own.map(({ channel }) => others(channel));
        const wantedElsewhere = own.filter((_, index) => counts[index] !== 0);
        if (wantedElsewhere.length > 0) outbox.send(tx, wantedElsewhere);
        tx.spend(own.length);
        tx.afterCommit(() => {
          for (const { channel, data } of own) hub.deliver(channel, data);
        });
        return counts.map((count, index) => count + (hub.hears(own[index]?.channel ?? "") ? 1 : 0));
      });
    },

    async subscribe(target, listener) {
      store.assertOpen();
      want(target, 1);
      let remove = (): void => undefined;
      try {
        await writer.run((tx) => {
          audience.join(tx, target);
          const since = receiver.lastId();
          tx.afterCommit(() => {
            receiver.start(since);
            remove = hub.add(target, listener, since);
          });
        });
      } catch (error) {
        want(target, -1);
        throw error;
      }
      let ended: Promise<void> | undefined;
      const end = (): Promise<void> => {
        remove();
        forget();
        return leave(target);
      };
      const forget = store.onClose(async () => {
        ended = Promise.resolve();
        remove();
      });
      return () => {
        ended ??= end();
        return ended;
      };
    },
  };
}

function toBytes(data: BroadcastMessage["data"]): Uint8Array {
  return typeof data === "string" ? Buffer.from(data) : data.slice();
}

interface Outbox {
  send(tx: Tx, messages: readonly OwnMessage[]): void;
}

function createOutbox({ db, namespace }: Store, backend: string): Outbox {
  const end = db.prepare<{ id: number; bytes: number }>(
    "SELECT id, bytes_before + length(data) AS bytes FROM sb1_broadcasts ORDER BY id DESC LIMIT 1",
  );
  const insert = db.prepare(
    "INSERT INTO sb1_broadcasts (namespace, origin, channel, data, at, bytes_before) VALUES (?, ?, ?, CAST(? AS BLOB), ?, ?)",
  );
  const trim = db.prepare(
    `DELETE FROM sb1_broadcasts WHERE id IN (SELECT id FROM sb1_broadcasts ORDER BY id LIMIT ?)
     AND (id <= ? OR at < ? OR bytes_before < ?)`,
  );
  return {
    send(tx, messages) {
      let bytes = end.get()?.bytes ?? 0;
      let last = 0;
      for (const { channel, data } of messages) {
        const stored = data.length === 0 ? "" : data;
        last = insert.insert(text(namespace), backend, text(channel), stored, tx.now, bytes) ?? last;
        bytes += data.length;
      }
      // The newest is kept whatever its age, so that readers can tell what they missed by its number.
      trim.run(TRIM_SLICE + 2 * messages.length, last - MAX_KEPT, tx.now - KEPT_MS, bytes - MAX_KEPT_BYTES);
      tx.changed(ELSEWHERE);
    },
  };
}

interface Receiver {
  /** The last message that any backend has written. */
  lastId(): number;
  /** Hears what other backends write behind this message; where it has started, it goes on. */
  start(after: number): void;
  stop(): void;
  close(): Promise<void>;
}

function createReceiver(
  store: Store,
  backend: string,
  hub: Hub,
  audience: Audience,
  targets: () => readonly BroadcastTarget[],
): Receiver {
  const { db, clock, bell, writer, report } = store;
  const lastId = db.prepare<{ id: number | null }>("SELECT max(id) AS id FROM sb1_broadcasts");
  const behind = db.prepare<MessageRow>(
    "SELECT id, namespace, origin, channel, data FROM sb1_broadcasts WHERE id > ? ORDER BY id LIMIT ?",
  );
  let cursor = 0;
  let unlisten: (() => void) | undefined;
  let recheck: Timer | undefined;
  let renewal: Timer | undefined;

  function read(): void {
    if (unlisten === undefined) return;
    recheck?.cancel();
    recheck = clock.setTimer(read, RECHECK_MS);
    try {
      const rows = store.read(() => behind.all(cursor, READ_SLICE));
      for (const row of rows) hear(row);
      if (rows.length === READ_SLICE) setImmediate(read);
    } catch (error) {
      report(error, "reading broadcasts of other processes");
    }
  }

  function hear({ id, namespace, origin, channel, data }: MessageRow): void {
    const missed = id - cursor - 1;
    cursor = id;
    if (missed > 0) hub.gap(`${missed} messages were removed before this process came to read them`);
    if (origin !== backend && textOf(namespace) === store.namespace) hub.deliver(textOf(channel), data, id);
  }

  function renew(): void {
    if (unlisten === undefined) return;
    renewal = clock.setTimer(renew, RENEW_MS);
    writer
      .run((tx) => {
        if (audience.renew(tx)) return;
        for (const target of targets()) audience.join(tx, target);
        tx.afterCommit(() => hub.gap("this process was silent for so long that others took it for dead"));
      })
      .catch((error: unknown) => report(error, "renewing the broadcast subscriptions"));
  }

  function stop(): void {
    unlisten?.();
    unlisten = undefined;
    recheck?.cancel();
    renewal?.cancel();
  }

  return {
    lastId: () => lastId.get()?.id ?? 0,
    start(after) {
      if (unlisten !== undefined) return;
      cursor = after;
      unlisten = bell.listen(ELSEWHERE, read);
      recheck = clock.setTimer(read, RECHECK_MS);
      renewal = clock.setTimer(renew, RENEW_MS);
    },
    stop,
    async close() {
      const listened = unlisten !== undefined;
      stop();
      if (!listened) return;
      await writer
        .run(() => audience.leaveAll())
        .catch((error: unknown) => report(error, "ending the broadcast subscriptions"));
    },
  };
}
