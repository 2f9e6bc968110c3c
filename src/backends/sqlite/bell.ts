/** Wakes those who wait: in this process by topic, in other processes through a small file that is written and watched. */

import { closeSync, constants, type FSWatcher, openSync, readSync, watch, writeSync } from "node:fs";
import type { BackendContext } from "../../core/backend.js";
import type { Database, Statement } from "./driver.js";
import { translateFileError } from "./errors.js";

/**
 * The file is a row of slots. Each topic has one, shared with others; who changed a topic writes any new number there, so
 * that a process with a thousand consumers wakes those concerned. Slot 0 concerns everybody.
 */
const SLOTS = 1_024;
const SLOT_BYTES = 4;
const EVERYBODY = 0;
/** Where more topics changed in one commit, everybody is told. */
const MAX_SLOTS_WRITTEN = 16;
/** On a full disk each commit would say that it could not ring. */
const REPORT_EVERY_MS = 60_000;

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
export class Bell {
  readonly #file: string;
  readonly #namespace: string;
  readonly #report: BackendContext["report"];
  readonly #dataVersion: Statement<{ data_version: number }>;
  readonly #listeners = new Listeners();
  readonly #fd: number | undefined;
  #state: "idle" | "watching" | "failed" | "closed" = "idle";
  #watcher: FSWatcher | undefined;
  /** What the file held, and which commit of others was the last, when this process last heard the bell. */
  #slots: Int32Array;
  #version: number;
  /** By `performance.now`: when it was last said that ringing fails. */
  #reportedAt = Number.NEGATIVE_INFINITY;

  constructor(path: string, db: Database, { namespace, report }: BackendContext) {
    this.#file = `${path}-bell`;
    this.#namespace = namespace;
    this.#report = report;
    this.#dataVersion = db.prepare("PRAGMA data_version");
    this.#fd = this.#open();
    this.#slots = this.#readSlots();
    this.#version = this.#versionNow();
  }

  /** Calls `wake` when the topic changes, here or in another process. @returns a function that stops it */
  listen(topic: string, wake: () => void): () => void {
    if (this.#state === "idle") this.#startWatching();
    return this.#listeners.add(this.#scoped(topic), wake);
  }

  /** Wakes the topic's listeners in this process. */
  wake(topic: string): void {
    this.#listeners.wake(this.#scoped(topic));
  }

  /** Tells other processes that these topics have changed, after the commit. */
  ring(topics: ReadonlySet<string>): void {
    if (this.#fd === undefined) return;
    const changed =
      topics.size > MAX_SLOTS_WRITTEN ? [EVERYBODY] : [...topics].map((topic) => slotOf(this.#scoped(topic)));
    try {
      for (const slot of changed) writeSync(this.#fd, anyNumber(), 0, SLOT_BYTES, slot * SLOT_BYTES);
    } catch (error) {
      const now = performance.now();
      if (now - this.#reportedAt < REPORT_EVERY_MS) return;
      this.#reportedAt = now;
      this.#report(
        translateFileError(error, this.#file),
        `ringing ${this.#file}: other processes find messages once a second`,
      );
    }
  }

  close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#watcher?.close();
    if (this.#fd !== undefined) closeSync(this.#fd);
  }

  readonly #heard = (): void => {
    if (this.#state !== "watching") return;
    const before = this.#slots;
    try {
      const version = this.#versionNow();
      // It was our own ring.
      if (version === this.#version) return;
      this.#version = version;
      this.#slots = this.#readSlots();
    } catch {
      // Nobody waits for this call. Whoever is woken looks by itself, and meets the failure where somebody is told.
      this.#listeners.wakeSlot(EVERYBODY);
      return;
    }
    this.#slots.forEach((value, slot) => {
      if (value !== before[slot]) this.#listeners.wakeSlot(slot);
    });
  };

  #startWatching(): void {
    try {
      this.#watcher = watch(this.#file, { persistent: false }, this.#heard);
      this.#watcher.on("error", (error) => this.#fail(error));
      this.#state = "watching";
    } catch (error) {
      this.#fail(error);
    }
  }

  #open(): number | undefined {
    try {
      return openSync(this.#file, constants.O_RDWR | constants.O_CREAT, 0o666);
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  #fail(error: unknown): void {
    if (this.#state === "closed") return;
    this.#state = "failed";
    this.#watcher?.close();
    this.#report(
      translateFileError(error, this.#file),
      `no bell at ${this.#file}: messages of other processes are found once a second`,
    );
  }

  #readSlots(): Int32Array {
    const slots = new Int32Array(SLOTS);
    if (this.#fd !== undefined) readSync(this.#fd, slots, 0, slots.byteLength, 0);
    return slots;
  }

  /** Changes with every commit of other connections, and with none of our own. */
  #versionNow(): number {
    return this.#dataVersion.get()?.data_version ?? 0;
  }

  #scoped(topic: string): string {
    return `${this.#namespace}\n${topic}`;
  }
}

/** Different from what another process writes at the same time, as good as always. */
function anyNumber(): Int32Array {
  return Int32Array.of(Math.floor(Math.random() * 0xffffffff));
}
