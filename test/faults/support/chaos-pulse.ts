/**
 * Notes when a process of a chaos run, or its store, got to nothing although nobody had stopped it: on a busy machine
 * leases run out beneath whoever is sound, and the checker has to know when.
 */

import { type HistoryLog, now } from "./history-log.js";

const EVERY_MS = 50;
const ASK_EVERY_MS = 100;

/** Watches this process for as long as it lives. @param limitMs what counts as standing still */
export function watchProcess(history: HistoryLog, limitMs: number): void {
  let beat = now();
  setInterval(() => {
    const last = beat;
    beat = now();
    note(history, last, beat, limitMs);
  }, EVERY_MS).unref();
}

/** Watches a store that `ping` asks for a sign of life. Whether it answers at all is for others to judge. @returns ends it */
export function watchStore(history: HistoryLog, limitMs: number, ping: () => Promise<unknown>): () => void {
  let asking = false;
  const ask = async (): Promise<void> => {
    if (asking) return;
    asking = true;
    const askedAt = now();
    try {
      await ping();
      note(history, askedAt, now(), limitMs);
    } catch {
      // A fault is at work.
    } finally {
      asking = false;
    }
  };
  const timer = setInterval(() => void ask(), ASK_EVERY_MS);
  timer.unref();
  return () => clearInterval(timer);
}

function note(history: HistoryLog, from: number, until: number, limitMs: number): void {
  if (until - from > limitMs * 1e6) history.write({ op: "stood", t: from, until });
}
