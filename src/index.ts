/** What `import … from "signalbox"` gives. */

export type { Broker } from "./broker.js";
export { connect } from "./connect.js";
export type { ConnectOptions } from "./connect-options.js";
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
export { type AsyncApiDocument, type AsyncApiInfo, toAsyncApi } from "./core/asyncapi.js";
export type { BatchContext, BatchHandler } from "./core/batches.js";
export { type Clock, systemClock, type Timer } from "./core/clock.js";
export { type Codec, jsonCodec } from "./core/codec.js";
export type { BatchOptions, ConsumeOptions, HandlerOptions } from "./core/consuming.js";
export type { PayloadPlace, PayloadTransform } from "./core/codecs.js";
export type { ConsumerStats, SubscriptionStats } from "./core/consumer-stats.js";
export {
  type ChannelIn,
  type Contract,
  type ContractDefinition,
  defineContract,
  type InputOf,
  type NameIn,
  type NoContract,
  type OutputOf,
  type ParamsIn,
  type Schema,
  type Versioned,
} from "./core/contract.js";
export type { DeadLetter, PurgeOptions, RedriveOptions } from "./core/dead-letters.js";
export type { DeliveryStream } from "./core/deliveries.js";
export type { Delivery, QueueDelivery } from "./core/delivery.js";
export { byKind, type KindHandlers } from "./core/dispatch.js";
export { encryption, type EncryptionOptions } from "./core/encryption.js";
export {
  type ErrorAction,
  type ErrorMatch,
  type ErrorMatcher,
  type Failure,
  type OnError,
  when,
} from "./core/error-policy.js";
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
export type { HolderHealth } from "./core/holder-lease.js";
export { LOG_EVENTS, type LogEvent, type LogLevel } from "./core/log-events.js";
export type { Envelope, Message, MessageOptions } from "./core/message.js";
export type {
  FacadeName,
  HandlerRun,
  Middleware,
  Publication,
  PublishNext,
  Received,
} from "./core/middleware.js";
export { lintNames, type NameRules } from "./core/name-lint.js";
export { deadLetter, defer, type HandlerOutcome, retry, skip, stop } from "./core/outcome.js";
export type { Registered, RegisterOptions } from "./core/registrations.js";
export type { RetryPolicy } from "./core/retry.js";
export type { StreamOptions } from "./core/streams.js";
export type { Subscription } from "./core/subscription.js";
export { type AnyChannel, channel, type Channel, type FilledIn, type Params, type ParamsOf } from "./core/template.js";
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
export type { QueueCallOptions, RegisterRecipientOptions } from "./queue/recipients.js";
export type { RequestOptions } from "./queue/request.js";
export type { QueuedMessage, QueuePage } from "./queue/view.js";
export type { ChannelDeadLetter, LetterOptions } from "./pubsub/graveyard.js";
export type { ChannelSubscription, PubSub } from "./pubsub/index.js";
export type {
  Gap,
  ListenOptions,
  PublishChannelManyOptions,
  PublishChannelOptions,
  SubscribeChannelOptions,
} from "./pubsub/options.js";
export type { ChannelReceipt } from "./pubsub/publish.js";
export type { ChannelStats } from "./pubsub/stats.js";
export type { Heard, MessageStream } from "./pubsub/stream.js";
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
