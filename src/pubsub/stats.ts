/** What is known of a subscription while it lives. */

import type { SubscriptionStats } from "../core/consumer-stats.js";

export interface ChannelStats {
  /** What it is subscribed to, as it was given. */
  readonly channels: readonly string[];
  /** `ended`: by itself, because its outcome was `stop()` or its buffer ran over with `overflow: "error"`. */
  readonly state: "running" | "draining" | "closed" | "ended";
  /** Messages that wait for the subscriber. */
  readonly waiting: number;
  /** Handlers that run now, those that wait for their retry included; of an iteration: 0. */
  readonly running: number;
  /** Handlers that may run at once; of an iteration: 1. */
  readonly concurrency: number;
  /** Messages that have come, dropped ones included. */
  readonly received: number;
  /** Messages that came to an end, those that were passed over included. */
  readonly handled: number;
  /** Messages that were given up, or became dead letters. */
  readonly failed: number;
  /** Messages that found no room, or waited when the subscription ended. */
  readonly dropped: number;
  /** How often messages may have been missed. */
  readonly gaps: number;
  /** When the last message was taken up (ms since the epoch). */
  readonly lastMessageAt: number | undefined;
}

/** The same as `health()` shows it. */
export function toSubscriptionStats(stats: ChannelStats, reader: string, since: number): SubscriptionStats {
  const { channels, state, running, concurrency, handled, failed, lastMessageAt = since } = stats;
  const counts = { settled: handled + failed, lost: 0, lastFetchAt: lastMessageAt, idleMs: 0 };
  return { channel: channels.join(", "), reader, state, running, concurrency, ...counts };
}
