/** Every event that signalbox logs: stable ids with their level. Documented in `docs/reference/log-events.md`. */

export type LogLevel = "debug" | "info" | "warn" | "error";

/** Ids that the sources name are kept as they name them. */
export type LogEvent =
  | "backend_opened"
  | "backend_closed"
  | "background_failure"
  | "message_published"
  | "message_publish_failed"
  | "message_acknowledged"
  | "message_retried"
  | "message_dead_lettered"
  | "message_expired"
  | "message_gone"
  | "message_lease_lost"
  | "subscribing_to_channel"
  | "unsubscribed_from_channel"
  | "subscription_gap"
  | "messages_dropped"
  | "consumer_failing"
  | "consumer_recovered"
  | "consumer_ended"
  | "fallback_engaged"
  | "fallback_drained";

export const LOG_EVENTS: Readonly<Record<LogEvent, { readonly level: LogLevel; readonly text: string }>> = {
  backend_opened: { level: "info", text: "the backend is open" },
  backend_closed: { level: "info", text: "the backend is closed" },
  background_failure: { level: "error", text: "something failed that no caller waits for" },
  message_published: { level: "debug", text: "a batch of messages was stored" },
  message_publish_failed: { level: "info", text: "a batch of messages was not stored" },
  message_acknowledged: { level: "debug", text: "outcomes of deliveries were stored" },
  message_retried: { level: "info", text: "a handler failed; its delivery is tried again" },
  message_dead_lettered: { level: "warn", text: "a message became a dead letter" },
  message_expired: { level: "info", text: "messages expired before they were handled" },
  message_gone: { level: "warn", text: "messages were removed before they were delivered" },
  message_lease_lost: { level: "warn", text: "a delivery passed to another consumer before it was settled" },
  subscribing_to_channel: { level: "info", text: "a consumer starts" },
  unsubscribed_from_channel: { level: "info", text: "a consumer ended" },
  subscription_gap: { level: "warn", text: "a subscription is in force again; messages may have been missed" },
  messages_dropped: { level: "warn", text: "a subscriber was too slow: messages were dropped" },
  consumer_failing: { level: "warn", text: "a consumer cannot reach its backend and tries again" },
  consumer_recovered: { level: "info", text: "a consumer reaches its backend again" },
  consumer_ended: { level: "warn", text: "a consumer ended by itself" },
  fallback_engaged: { level: "warn", text: "the server is away; events are kept in the fallback until it is back" },
  fallback_drained: { level: "info", text: "the fallback is empty again; events go to the server" },
};
