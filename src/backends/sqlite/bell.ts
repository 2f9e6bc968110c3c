/** Wakes those who wait: in this process by topic, in other processes through a file that is touched and watched. */

import { closeSync, constants, type FSWatcher, openSync, watch, writeSync } from "node:fs";
import type { BackendContext } from "../../core/backend.js";
import type { Database } from "./driver.js";

export interface Bell {
  /** Calls `wake` when the topic changes here, or when anything changes in another process. @returns a function that stops it */
  listen(topic: string, wake: () => void): () => void;
  /** Wakes the topic's listeners in this process. */
  wake(topic: string): void;
  /** Tells other processes that something was committed. */
  ring(): void;
  close(): void;
}

/** The topic of those who want to hear of other processes only. */
export const ELSEWHERE = "";

/**
 * A wake-up is a hint: it may be lost, and whoever waits looks again at least once a second anyway. The file beside the
 * database is touched after the commit; SQLite's own `-wal` file changes before what it tells of can be read.
 */
export function createBell(path: string, db: Database, report: BackendContext["report"]): Bell {
  const file = `${path}-bell`;
  const dataVersion = db.prepare<{ data_version: number }>("PRAGMA data_version");
  const listeners = new Map<string, Set<() => void>>();
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o666);
  let watcher: FSWatcher | undefined;
  let state: "idle" | "watching" | "failed" | "closed" = "idle";
  let seen = versionNow();
  let rings = true;

  /** Changes with every commit of other connections, and with none of our own. */
  function versionNow(): number {
    return dataVersion.get()?.data_version ?? 0;
  }

  function heard(): void {
    if (state === "closed") return;
    const version = versionNow();
    if (version === seen) return;
    seen = version;
    for (const topic of listeners.keys()) wake(topic);
  }

  function wake(topic: string): void {
    const waiting = listeners.get(topic);
    if (waiting !== undefined) for (const call of waiting) call();
  }

  function startWatching(): void {
    try {
      watcher = watch(file, { persistent: false }, heard);
      watcher.on("error", fail);
      state = "watching";
      // What was committed before the watch began rang unheard.
      seen = versionNow();
    } catch (error) {
      fail(error);
    }
  }

  function fail(error: unknown): void {
    if (state === "closed") return;
    state = "failed";
    watcher?.close();
    report(error, `watching ${file}; messages of other processes are now found once a second`);
  }

  return {
    listen(topic, call) {
      if (state === "idle") startWatching();
      const waiting = listeners.get(topic) ?? new Set();
      listeners.set(topic, waiting.add(call));
      return () => {
        waiting.delete(call);
        if (waiting.size === 0 && listeners.get(topic) === waiting) listeners.delete(topic);
      };
    },
    wake,
    ring() {
      // Always the same byte at the same place: the file does not grow, and only the event counts.
      try {
        writeSync(fd, "!", 0);
        rings = true;
      } catch (error) {
        if (rings) report(error, `touching ${file}; other processes now find messages once a second`);
        rings = false;
      }
    },
    close() {
      if (state === "closed") return;
      state = "closed";
      watcher?.close();
      listeners.clear();
      closeSync(fd);
    },
  };
}
