/** What `broker.health()` makes of the backend's checks and the consumers' progress. Pure. */

import type { Check } from "./backend.js";
import type { SubscriptionStats } from "./consumer.js";

export interface Health {
  /** `down`: the backend cannot be used. `degraded`: something fails or does not move. */
  readonly status: "up" | "degraded" | "down";
  readonly details: {
    readonly checks: readonly Check[];
    readonly consumers: readonly ConsumerHealth[];
  };
}

export interface ConsumerHealth extends SubscriptionStats {
  readonly ok: boolean;
  /** What is wrong, where something is. */
  readonly error?: string;
}

/** A fetch waits two seconds at most: a consumer that completed none for this long does not move. */
const STALE_MS = 10_000;

export function assessHealth(checks: readonly Check[], consumers: readonly SubscriptionStats[]): Health {
  const assessed = consumers.map(assessConsumer);
  const failed = checks.filter(({ ok }) => !ok).length;
  const degraded = failed > 0 || assessed.some(({ ok }) => !ok);
  const status = checks.length > 0 && failed === checks.length ? "down" : degraded ? "degraded" : "up";
  return { status, details: { checks, consumers: assessed } };
}

function assessConsumer(stats: SubscriptionStats): ConsumerHealth {
  if (stats.state === "failing") return { ...stats, ok: false, error: "its backend fails; it tries again" };
  if (stats.state === "running" && stats.idleMs > STALE_MS) {
    return { ...stats, ok: false, error: `no fetch completed for ${stats.idleMs} ms` };
  }
  return { ...stats, ok: true };
}
