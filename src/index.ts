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
  QueueStats,
  Retention,
} from "./core/backend.js";
export type { BatchContext, BatchHandler } from "./core/batches.js";
export { type Clock, systemClock, type Timer } from "./core/clock.js";
export { type Codec, jsonCodec } from "./core/codec.js";
export type { ConsumeOptions, HandlerOptions } from "./core/consuming.js";
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
export type { Delivery } from "./core/delivery.js";
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
  SchemaError,
  SignalboxError,
  TimeoutError,
  UnsupportedError,
} from "./core/errors.js";
export type { ForwardingStats } from "./core/forwarding.js";
export type { Context, Handler } from "./core/handler.js";
export type { ConsumerHealth, GroupHealth, Health } from "./core/health.js";
export type { HolderHealth } from "./core/holder-lease.js";
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
export type {
  ListPresenceOptions,
  OpenPresence,
  Presence,
  PresenceConnection,
  PresenceOptions,
  PresencePage,
  PresenceStats,
  WatchPresenceOptions,
} from "./presence/index.js";
export type { PresenceChange, PresentMember } from "./presence/member.js";
export type { PresenceWatch } from "./presence/watch.js";
export type {
  ConsumeQueueOptions,
  OpenQueue,
  PublishQueueOptions,
  Queue,
  QueueDeadLetter,
  QueueOptions,
  QueueReceipt,
  SubscribeQueueOptions,
} from "./queue/index.js";
