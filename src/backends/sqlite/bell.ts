/** Wakes those who wait: in this process by topic, in other processes through a small file that is written and watched. */

import { closeSync, constants, type FSWatcher, openSync, readSync, watch, writeSync } from "node:fs";
import type { BackendContext } from "../../core/backend.js";
import type { Database } from "./driver.js";

export interface Bell {
  /** Calls `wake` when the topic changes, here or in another process. @returns a function that stops it */
  readonly listen: (topic: string, wake: () => void) => () => void;
  /** Wakes the topic's listeners in this process. */
  readonly wake: (topic: string) => void;
  /** Tells other processes that these topics have changed, after the commit. */
  readonly ring: (topics: ReadonlySet<string>) => void;
  readonly close: () => void;
}

/**
 * The file is a row of slots. Each topic has one, shared with others; who changed a topic writes any new number there, so
 * that a process with a thousand consumers wakes those concerned. Slot 0 concerns everybody.
 */
const SLOTS = 1_024;
const SLOT_BYTES = 4;
const EVERYBODY = 0;
/** Where more topics changed in one commit, everybody is told. */
const MAX_SLOTS_WRITTEN = 16;

/** FNV-1a. */
function slotOf(topic: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < topic.length; at += 1) hash = Math.imul(hash ^ topic.charCodeAt(at), 0x01000193);
  return 1 + ((hash >>> 0) % (SLOTS - 1));
}

/** The topics that somebody listens to. */
class Listeners {
  readonly #topics = new Map<string, Set<() => void>>();
  readonly #slots = new Map<number, Set<string>>();

  add(topic: string, wake: () => void): () => void {
    const waiting = this.#topics.get(topic) ?? new Set();
    const slot = slotOf(topic);
    this.#topics.set(topic, waiting.add(wake));
    this.#slots.set(slot, (this.#slots.get(slot) ?? new Set()).add(topic));
    return () => {
      waiting.delete(wake);
      if (waiting.size > 0 || this.#topics.get(topic) !== waiting) return;
      this.#topics.delete(topic);
      const sharing = this.#slots.get(slot);
      sharing?.delete(topic);
      if (sharing?.size === 0) this.#slots.delete(slot);
    };
  }

  wake(topic: string): void {
    for (const wake of this.#topics.get(topic) ?? []) wake();
  }

  wakeSlot(slot: number): void {
    const topics = slot === EVERYBODY ? this.#topics.keys() : (this.#slots.get(slot) ?? []);
    for (const topic of topics) this.wake(topic);
  }
}

/**
 * A wake-up is a hint: it may be lost, and whoever waits looks again at least once a second anyway. The file is written
 * after the commit; SQLite's own `-wal` file changes before what it tells of can be read.
 */
export function createBell(path: string, db: Database, { namespace, report }: BackendContext): Bell {
  const file = `${path}-bell`;
  const dataVersion = db.prepare<{ data_version: number }>("PRAGMA data_version");
  const listeners = new Listeners();
  const scoped = (topic: string): string => `${namespace}\n${topic}`;
  let watcher: FSWatcher | undefined;
  let state: "idle" | "watching" | "failed" | "closed" = "idle";
  let isRinging = true;
  const fd = openFile();
  let slots = readSlots();
  let version = versionNow();

  function openFile(): number | undefined {
    try {
      return openSync(file, constants.O_RDWR | constants.O_CREAT, 0o666);
    } catch (error) {
      fail(error);
      return undefined;
    }
  }

  function readSlots(): Int32Array {
    const read = new Int32Array(SLOTS);
    if (fd !== undefined) readSync(fd, read, 0, read.byteLength, 0);
    return read;
  }

  /** Changes with every commit of other connections, and with none of our own. */
  function versionNow(): number {
    return dataVersion.get()?.data_version ?? 0;
  }

  function heard(): void {
    if (state !== "watching") return;
    const before = { slots, version };
    version = versionNow();
    // It was our own ring.
    if (version === before.version) return;
    slots = readSlots();
    slots.forEach((value, slot) => {
      if (value !== before.slots[slot]) listeners.wakeSlot(slot);
    });
  }

  function startWatching(): void {
    try {
      watcher = watch(file, { persistent: false }, heard);
      watcher.on("error", fail);
      state = "watching";
    } catch (error) {
      fail(error);
    }
  }

  function fail(error: unknown): void {
    if (state === "closed") return;
    state = "failed";
    watcher?.close();
    report(error, `no bell at ${file}: messages of other processes are found once a second`);
  }

  return {
    listen(topic, wake) {
      if (state === "idle") startWatching();
      return listeners.add(scoped(topic), wake);
    },
    wake: (topic) => listeners.wake(scoped(topic)),
    ring(topics) {
      if (fd === undefined) return;
      const changed = topics.size > MAX_SLOTS_WRITTEN ? [EVERYBODY] : [...topics].map((topic) => slotOf(scoped(topic)));
      try {
        for (const slot of changed) writeSync(fd, anyNumber(), 0, SLOT_BYTES, slot * SLOT_BYTES);
        isRinging = true;
      } catch (error) {
        // Once, until it works again: on a full disk each commit would say so.
        if (isRinging) report(error, `ringing the bell at ${file}: other processes find messages once a second`);
        isRinging = false;
      }
    },
    close() {
      if (state === "closed") return;
      state = "closed";
      watcher?.close();
      if (fd !== undefined) closeSync(fd);
    },
  };
}

/** Different from what another process writes at the same time, as good as always. */
function anyNumber(): Int32Array {
  return Int32Array.of(Math.floor(Math.random() * 0xffffffff));
}
