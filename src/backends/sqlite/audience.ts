/** Which backends on the file listen to what, so that a message that only this process hears is never written. */

import type { BroadcastTarget } from "../../core/backend.js";
import { compileGlob } from "../../core/glob.js";
import type { Destination } from "../../core/hub.js";
import type { Database } from "./driver.js";
import { shardedNamespace } from "./outbox.js";
import { type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

export interface Audience {
  /** Registers a target of this backend. Doing it again changes nothing. */
  join(tx: Tx, target: BroadcastTarget): void;
  leave(tx: Tx, target: BroadcastTarget): void;
  leaveAll(): void;
  /** How many other backends listen to a channel. */
  others(tx: Tx): (destination: Destination) => number;
  /** Says that this backend lives, and removes those that have not said so for long. @returns false when it was removed itself */
  renew(tx: Tx): boolean;
}

/** How often a backend that listens says that it lives. */
export const RENEW_MS = 15_000;
/** A backend that was not heard of for so long has died: nothing is written for it any more. */
const STALE_MS = 60_000;

interface ListenerRow {
  readonly namespace: StoredText;
  readonly backend: string;
  readonly pattern: number;
  readonly target: StoredText;
}

export function createAudience(db: Database, namespace: string, backend: string): Audience {
  const plain = text(namespace);
  const sharded = text(shardedNamespace(namespace));
  const keyOf = (target: BroadcastTarget) =>
    "pattern" in target
      ? ([plain, backend, 1, text(target.pattern)] as const)
      : ([target.sharded ? sharded : plain, backend, 0, text(target.channel)] as const);
  const insert = db.prepare(
    "INSERT OR IGNORE INTO sb1_listeners (namespace, backend, pattern, target) VALUES (?, ?, ?, ?)",
  );
  const remove = db.prepare(
    "DELETE FROM sb1_listeners WHERE namespace = ? AND backend = ? AND pattern = ? AND target = ?",
  );
  const removeBackend = db.prepare("DELETE FROM sb1_backends WHERE backend = ?");
  const removeListeners = db.prepare("DELETE FROM sb1_listeners WHERE backend = ?");
  const alive = db.prepare(
    "INSERT INTO sb1_backends VALUES (?, ?) ON CONFLICT (backend) DO UPDATE SET seen_at = excluded.seen_at",
  );
  const isKnown = db.prepare("SELECT 1 FROM sb1_backends WHERE backend = ?");
  const stale = db.prepare<{ backend: string }>("SELECT backend FROM sb1_backends WHERE seen_at < ? AND backend <> ?");
  const version = db.prepare<{ version: number }>("SELECT version FROM sb1_versions WHERE name = 'listeners'");
  const bump = db.prepare("UPDATE sb1_versions SET version = version + 1 WHERE name = 'listeners'");
  const all = db.prepare<ListenerRow>(
    "SELECT namespace, backend, pattern, target FROM sb1_listeners WHERE namespace IN (?, ?) AND backend <> ?",
  );

  let known:
    | { readonly version: number; readonly count: (destination: Destination) => number; readonly empty: boolean }
    | undefined;
  let cleanedAt = Number.NEGATIVE_INFINITY;

  function clean(now: number): void {
    cleanedAt = now;
    for (const { backend: dead } of stale.all(now - STALE_MS, backend)) {
      removeBackend.run(dead);
      if (removeListeners.run(dead) > 0) bump.run();
    }
  }

  return {
    join(tx, target) {
      alive.run(backend, tx.now);
      if (insert.run(...keyOf(target)) > 0) bump.run();
    },
    leave(_tx, target) {
      if (remove.run(...keyOf(target)) > 0) bump.run();
    },
    leaveAll() {
      removeBackend.run(backend);
      if (removeListeners.run(backend) > 0) bump.run();
    },
    others(tx) {
      const current = version.get()?.version ?? 0;
      if (known?.version !== current) {
        const rows = all.all(plain, sharded, backend);
        known = { version: current, count: createCount(rows, namespace), empty: rows.length === 0 };
      }
      // Those who publish and never listen have to look for the dead as well.
      if (!known.empty && tx.now - cleanedAt >= RENEW_MS) clean(tx.now);
      return known.count;
    },
    renew(tx) {
      const wasKnown = isKnown.get(backend) !== undefined;
      alive.run(backend, tx.now);
      clean(tx.now);
      return wasKnown;
    },
  };
}

function createCount(rows: readonly ListenerRow[], namespace: string): (destination: Destination) => number {
  const exact = new Map<string, Set<string>>();
  const sharded = new Map<string, Set<string>>();
  const patterns: { readonly backend: string; readonly matches: (channel: string) => boolean }[] = [];
  for (const { namespace: stored, backend, pattern, target } of rows) {
    const name = textOf(target);
    const named = textOf(stored) === namespace ? exact : sharded;
    if (pattern === 1) patterns.push({ backend, matches: compileGlob(name) });
    else named.set(name, (named.get(name) ?? new Set()).add(backend));
  }
  return (destination) => {
    const { channel } = destination;
    if (destination.sharded) return sharded.get(channel)?.size ?? 0;
    const hearing = new Set(exact.get(channel));
    for (const { backend, matches } of patterns) if (matches(channel)) hearing.add(backend);
    return hearing.size;
  };
}
