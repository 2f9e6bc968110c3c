/** What `import … from "signalbox"` gives. */

export type { Broker } from "./broker.js";
export { connect, type ConnectOptions } from "./connect.js";
export type { TlsOptions } from "./backends/redis/target.js";
export type { Bytes, Check, DeadReason, Durability, GroupStats, QueueStats, StreamStats } from "./core/backend.js";
export { type Clock, systemClock, type Timer } from "./core/clock.js";
export { type Codec, jsonCodec } from "./core/codec.js";
export type { ConsumeOptions } from "./core/consuming.js";
export type { ConsumerStats, SubscriptionStats } from "./core/consumer.js";
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
export type { DeadLetter } from "./core/dead-letters.js";
export type { Delivery, DeliveryStream } from "./core/deliveries.js";
export {
  AuthError,
  ClosedError,
  CodecError,
  ConfigError,
  ConnectionError,
  type ErrorCode,
  InvalidArgumentError,
  LeaseLostError,
  LimitError,
  NotFoundError,
  OutOfMemoryError,
  PublishIndeterminateError,
  SchemaError,
  SignalboxError,
  TimeoutError,
  UnsupportedError,
} from "./core/errors.js";
export type { Context, Handler } from "./core/handler.js";
export type { ConsumerHealth, Health } from "./core/health.js";
export { LOG_EVENTS, type LogEvent, type LogLevel } from "./core/log-events.js";
export type { Envelope, Message } from "./core/message.js";
export type { MessageOptions } from "./core/outgoing.js";
export { deadLetter, defer, type HandlerOutcome, retry, skip } from "./core/outcome.js";
export type { RetryPolicy } from "./core/retry.js";
export type { Subscription } from "./core/subscription.js";
export type { Labels, Logger, Metric } from "./core/telemetry.js";
export type { EventGroup, EventReceipt, Events, PublishEventOptions, SubscribeEventOptions } from "./events/index.js";
export type {
  OpenQueue,
  PublishQueueOptions,
  Queue,
  QueueOptions,
  QueueReceipt,
  SubscribeQueueOptions,
} from "./queue/index.js";
