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
  | "message_not_found"
  | "message_acknowledge_failed"
  | "pending_messages_retrieved"
  | "get_pending_failed"
  | "get_message_failed"
  | "list_messages_failed"
  | "put_message_failed"
  | "delete_message_failed"
  | "messages_cleared"
  | "clear_messages_failed"
  | "reply_dropped"
  | "subscribing_to_channel"
  | "unsubscribed_from_channel"
  | "subscription_gap"
  | "messages_dropped"
  | "consumer_failing"
  | "consumer_recovered"
  | "consumer_ended"
  | "presence_changed"
  | "presence_listed"
  | "presence_reaped"
  | "presence_lapsed"
  | "presence_lost"
  | "presence_failing"
  | "presence_recovered"
  | "fallback_engaged"
  | "fallback_drained"
  | "initializing_redis_single"
  | "initializing_redis_cluster"
  | "redis_initialized"
  | "redis_initialization_failed"
  | "closing_redis_connection"
  | "redis_connection_closed";

export const LOG_EVENTS: Readonly<Record<LogEvent, { readonly level: LogLevel; readonly text: string }>> = {
  backend_opened: { level: "info", text: "the backend is open" },
  backend_closed: { level: "info", text: "the backend is closed" },
  background_failure: { level: "error", text: "something failed that no caller waits for" },
  message_published: { level: "debug", text: "messages were stored" },
  message_publish_failed: { level: "info", text: "a batch of messages was not stored" },
  message_acknowledged: { level: "debug", text: "outcomes of deliveries, or acknowledgements by id, were stored" },
  message_retried: { level: "info", text: "a handler failed; its delivery is tried again" },
  message_dead_lettered: { level: "warn", text: "a message became a dead letter" },
  message_expired: { level: "info", text: "messages expired before they were handled" },
  message_gone: { level: "warn", text: "messages were removed before they were delivered" },
  message_lease_lost: { level: "warn", text: "a delivery passed to another consumer before it was settled" },
  message_not_found: { level: "info", text: "a recipient has no such message to acknowledge" },
  message_acknowledge_failed: { level: "info", text: "messages could not be acknowledged by their ids" },
  pending_messages_retrieved: { level: "debug", text: "a page of what a recipient has not finished was read" },
  get_pending_failed: { level: "info", text: "what a recipient has not finished could not be read" },
  get_message_failed: { level: "info", text: "a message could not be read" },
  list_messages_failed: { level: "info", text: "messages could not be listed or counted" },
  put_message_failed: { level: "info", text: "dead letters could not be put back" },
  delete_message_failed: { level: "info", text: "a message could not be deleted" },
  messages_cleared: { level: "info", text: "a queue was emptied" },
  clear_messages_failed: { level: "info", text: "a queue could not be emptied" },
  reply_dropped: { level: "info", text: "an answer came when nobody waited for it any more" },
  subscribing_to_channel: { level: "info", text: "a consumer starts" },
  unsubscribed_from_channel: { level: "info", text: "a consumer ended" },
  subscription_gap: { level: "warn", text: "a subscription is in force again; messages may have been missed" },
  messages_dropped: { level: "warn", text: "a subscriber was too slow: messages were dropped" },
  consumer_failing: { level: "warn", text: "a consumer cannot reach its backend and tries again" },
  consumer_recovered: { level: "info", text: "a consumer reaches its backend again" },
  consumer_ended: { level: "warn", text: "a consumer ended by itself" },
  presence_changed: { level: "debug", text: "somebody joined, changed or left, where this process watches" },
  presence_listed: { level: "info", text: "who is present was read again, as changes may have been missed" },
  presence_reaped: { level: "info", text: "what a process that died had entered was taken away" },
  presence_lapsed: { level: "warn", text: "this process was taken for dead; what it had entered is entered again" },
  presence_lost: { level: "warn", text: "the store has lost what this process had entered; it is entered again" },
  presence_failing: { level: "warn", text: "presence cannot reach its store and tries again" },
  presence_recovered: { level: "info", text: "presence reaches its store again" },
  fallback_engaged: { level: "warn", text: "the server is away; events are kept in the fallback until it is back" },
  fallback_drained: { level: "info", text: "the fallback is empty again; events go to the server" },
  initializing_redis_single: { level: "info", text: "connecting to one Redis, or by Sentinels" },
  initializing_redis_cluster: { level: "info", text: "connecting to a Redis Cluster" },
  redis_initialized: { level: "info", text: "connected to Redis" },
  redis_initialization_failed: { level: "info", text: "one try to connect to Redis failed" },
  closing_redis_connection: { level: "info", text: "the connections to Redis are being closed" },
  redis_connection_closed: { level: "info", text: "the connections to Redis are closed" },
};
