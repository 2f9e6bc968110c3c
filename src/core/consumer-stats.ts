/** What is known of consumers while they run: for their subscription, for `health()` and for whoever closes them. Types only. */

export interface ConsumerStats {
  /** `ended`: by itself, because its group was deleted or a delivery's outcome was `stop()`. */
  readonly state: "running" | "failing" | "draining" | "closed" | "ended";
  /** Handlers that run now. */
  readonly running: number;
  /** Handlers that may run at once. */
  readonly concurrency: number;
  /** Deliveries settled. */
  readonly settled: number;
  /** Outcomes that came too late. */
  readonly lost: number;
  /** When the last fetch completed (ms since the epoch). */
  readonly lastFetchAt: number;
  /** For how long no fetch completed although there was room for deliveries: a few seconds at most in a consumer that lives. */
  readonly idleMs: number;
}

/** What is known of one consumer of a subscription. */
export interface SubscriptionStats extends ConsumerStats {
  /** The stream or queue. */
  readonly channel: string;
  /** The group or recipient. */
  readonly reader: string;
}

/** A consumer, or several, as the broker sees them: it closes them, and `health()` asks them. */
export interface Consuming {
  /** Safe to call twice. */
  close(options?: { readonly drainMs?: number }): Promise<void>;
  stats(): readonly SubscriptionStats[];
}
