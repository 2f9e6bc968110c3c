/** What `import … from "signalbox"` gives. */

export type { Broker } from "./broker.js";
export { connect, type ConnectOptions } from "./connect.js";
export type { TlsOptions } from "./backends/redis/target.js";
export type {
  Bytes,
  Check,
  DeadReason,
  Durability,
  EntryPlace,
  GroupSettings,
  GroupStart,
  ItemState,
  OpenState,
  QueueStats,
  RecipientState,
  RecordState,
  RegisteredRecipient,
  Retention,
} from "./core/backend.js";
export type { BatchContext, BatchHandler } from "./core/batches.js";
export { type Clock, systemClock, type Timer } from "./core/clock.js";
export { type Codec, jsonCodec } from "./core/codec.js";
export type { BatchOptions, ConsumeOptions, HandlerOptions } from "./core/consuming.js";
export type { ConsumerStats, SubscriptionStats } from "./core/consumer-stats.js";
export {
  type Contract,
  type ContractDefinition,
  defineContract,
  type InputOf,
  type NameIn,
  type NoContract,
  type OutputOf,
  type Schema,
} from "./core/contract.js";
export type { DeadLetter, PurgeOptions, RedriveOptions } from "./core/dead-letters.js";
export type { DeliveryStream } from "./core/deliveries.js";
export type { Delivery, QueueDelivery } from "./core/delivery.js";
export {
  AuthError,
  ClosedError,
  CodecError,
  ConfigError,
  ConnectionError,
  DataLossDetected,
  type ErrorCode,
  InvalidArgumentError,
  LeaseLostError,
  LimitError,
  NotFoundError,
  OutOfMemoryError,
  PublishIndeterminateError,
  ReplayError,
  RequestError,
  SchemaError,
  SignalboxError,
  TimeoutError,
  UnsupportedError,
} from "./core/errors.js";
export type { ForwardingStats } from "./core/forwarding.js";
export type { Context, Handler, QueueContext, QueueHandler } from "./core/handler.js";
export type { ConsumerHealth, GroupHealth, Health } from "./core/health.js";
export { LOG_EVENTS, type LogEvent, type LogLevel } from "./core/log-events.js";
export type { Envelope, Message } from "./core/message.js";
export type { MessageOptions } from "./core/outgoing.js";
export { deadLetter, defer, type HandlerOutcome, retry, skip } from "./core/outcome.js";
export type { RetryPolicy } from "./core/retry.js";
export type { StreamOptions } from "./core/streams.js";
export type { Subscription } from "./core/subscription.js";
export type { Labels, Logger, Metric } from "./core/telemetry.js";
export type { ConsumeEventOptions, SubscribeBatchOptions, SubscribeEventOptions } from "./events/consume.js";
export type { EventForwarding, ForwardOptions, ForwardTarget } from "./events/forward.js";
export type { CallOptions, EventDeadLetter, EventGroup, GroupConfiguration } from "./events/group.js";
export type { Events } from "./events/index.js";
export type { StreamLimits } from "./events/limits.js";
export type { Position, StartPlace } from "./events/places.js";
export type { EventReceipt, PublishEventOptions, PublishEventsOptions } from "./events/publish.js";
export type { ReplayOptions, ReplayResult } from "./events/replay.js";
export type { EventGroupStats, EventStats } from "./events/stats.js";
export type { ConsumeQueueOptions, SubscribeQueueBatchOptions, SubscribeQueueOptions } from "./queue/consume.js";
export type { ExplainOptions, Explanation } from "./queue/explain.js";
export type { OpenQueue, Queue } from "./queue/index.js";
export type { AcknowledgeOptions, ClearOptions, ListOptions, PendingOptions, QueueFilter } from "./queue/items.js";
export type { QueueDeadLetter } from "./queue/letters.js";
export type { ExpiredMessages, IndexedField, QueueOptions } from "./queue/options.js";
export type { PublishManyQueueOptions, PublishQueueOptions, QueueReceipt } from "./queue/publish.js";
export type { QueueCallOptions, RegisterOptions } from "./queue/recipients.js";
export type { RequestOptions } from "./queue/request.js";
export type { QueuedMessage, QueuePage } from "./queue/view.js";
