/** Every error that signalbox throws: one class per thing a caller can do about it, told apart by `code`. */

/** Stable codes, documented in `docs/reference/errors.md`. */
export type ErrorCode =
  | "CONFIG"
  | "INVALID_ARGUMENT"
  | "SCHEMA"
  | "CODEC"
  | "CONNECTION"
  | "AUTH"
  | "OUT_OF_MEMORY"
  | "TIMEOUT"
  | "PUBLISH_INDETERMINATE"
  | "CLOSED"
  | "DATA_LOSS"
  | "LEASE_LOST"
  | "REPLAY"
  | "REQUEST"
  | "NOT_FOUND"
  | "LIMIT"
  | "UNSUPPORTED";

/** Base of all errors. Check `code`, not the class, where two copies of the package may meet. */
export class SignalboxError extends Error {
  readonly code: ErrorCode;
  /** Whether the same call can succeed later without a change. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; retryable?: boolean } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/** Options or the store's configuration cannot work. Lists every problem at once. */
export class ConfigError extends SignalboxError {
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options: { cause?: unknown } = {}) {
    super(
      "CONFIG",
      problems.length === 1 ? String(problems[0]) : `${problems.length} problems:\n- ${problems.join("\n- ")}`,
      options,
    );
    this.problems = problems;
  }
}

/** An argument of a call cannot be used; nothing was written. */
export class InvalidArgumentError extends SignalboxError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("INVALID_ARGUMENT", message, options);
  }
}

/** A payload does not match the contract. */
export class SchemaError extends SignalboxError {
  readonly issues: readonly { readonly path: string; readonly message: string }[];

  constructor(
    message: string,
    issues: readonly { readonly path: string; readonly message: string }[],
    options: { cause?: unknown } = {},
  ) {
    super("SCHEMA", message, options);
    this.issues = issues;
  }
}

/** A payload cannot be encoded, or stored bytes cannot be decoded. */
export class CodecError extends SignalboxError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("CODEC", message, options);
  }
}

/** The store cannot be reached, or the connection broke on the way. */
export class ConnectionError extends SignalboxError {
  /** The command had left this process: whether it took effect is not known. */
  readonly interrupted: boolean;

  constructor(message: string, options: { cause?: unknown; interrupted?: boolean } = {}) {
    super("CONNECTION", message, { cause: options.cause, retryable: true });
    this.interrupted = options.interrupted ?? false;
  }
}

/** The store refuses the credentials or a command for this user. */
export class AuthError extends SignalboxError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("AUTH", message, options);
  }
}

/** The store refuses to grow. Consuming goes on and makes room. */
export class OutOfMemoryError extends SignalboxError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("OUT_OF_MEMORY", message, { ...options, retryable: true });
  }
}

/** A deadline passed. */
export class TimeoutError extends SignalboxError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("TIMEOUT", message, { ...options, retryable: true });
  }
}

/** Whether a message was stored cannot be known. Publishing it again may store it twice. */
export class PublishIndeterminateError extends SignalboxError {
  /** The message's id, where it concerns one. */
  readonly messageId: string | undefined;

  constructor(message: string, options: { cause?: unknown; messageId?: string } = {}) {
    super("PUBLISH_INDETERMINATE", message, { cause: options.cause, retryable: true });
    this.messageId = options.messageId;
  }
}

/** Messages were lost by the store, or removed before they were handled. Reported to `onError`: no call of yours failed. */
export class DataLossDetected extends SignalboxError {
  /** The stream or queue. */
  readonly channel: string;
  /** The group or recipient. */
  readonly reader: string;
  /** How many messages, where that is known. */
  readonly count: number | undefined;

  constructor(message: string, loss: { channel: string; reader: string; count?: number }) {
    super("DATA_LOSS", message);
    this.channel = loss.channel;
    this.reader = loss.reader;
    this.count = loss.count;
  }
}

/** A replay's handler failed, and the replay with it: `cause` is what the handler threw. */
export class ReplayError extends SignalboxError {
  /** Of the event that was not handled: replay from there to go on. */
  readonly position: string;
  /** Events handled before it. */
  readonly handled: number;

  constructor(message: string, stopped: { position: string; handled: number; cause: unknown }) {
    super("REPLAY", message, { cause: stopped.cause });
    this.position = stopped.position;
    this.handled = stopped.handled;
  }
}

/** A request came to nothing: whoever had it parked it, or finished it without an answer. */
export class RequestError extends SignalboxError {
  /** `unanswered`: its handler returned without `reply`. The others are the reasons of a dead letter. */
  readonly kind: "failed" | "rejected" | "undecodable" | "abandoned" | "unanswered";
  /** Of the request. */
  readonly messageId: string;

  constructor(message: string, request: { kind: RequestError["kind"]; messageId: string }) {
    super("REQUEST", message);
    this.kind = request.kind;
    this.messageId = request.messageId;
  }
}

/** The broker, subscription or backend was closed. */
export class ClosedError extends SignalboxError {
  constructor(message: string) {
    super("CLOSED", message);
  }
}

/** The delivery belongs to somebody else by now; this attempt's outcome will change nothing. */
export class LeaseLostError extends SignalboxError {
  constructor(message: string) {
    super("LEASE_LOST", message);
  }
}

/** What was named does not exist. */
export class NotFoundError extends SignalboxError {
  constructor(message: string) {
    super("NOT_FOUND", message);
  }
}

/** A limit was reached: a size, a length, a count. */
export class LimitError extends SignalboxError {
  constructor(message: string, options: { cause?: unknown; retryable?: boolean } = {}) {
    super("LIMIT", message, options);
  }
}

/** The backend or its configuration cannot do this; the message names what could. */
export class UnsupportedError extends SignalboxError {
  constructor(message: string) {
    super("UNSUPPORTED", message);
  }
}

/** Whatever was thrown, as an Error: handlers may throw strings, undefined, symbols or frozen objects. */
export function toError(thrown: unknown): Error {
  if (isReadableError(thrown)) return thrown;
  let text: string;
  try {
    text = typeof thrown === "string" ? thrown : `thrown value: ${String(thrown)}`;
  } catch {
    // A hostile object may throw from its own conversion.
    text = `thrown value of type ${typeof thrown}`;
  }
  return new Error(text);
}

/** An Error can be as hostile as anything else: a proxy, a getter that throws, a stack that is no text. */
function isReadableError(thrown: unknown): thrown is Error {
  try {
    return (
      thrown instanceof Error &&
      typeof thrown.name === "string" &&
      typeof thrown.message === "string" &&
      (thrown.stack === undefined || typeof thrown.stack === "string")
    );
  } catch {
    // Then it is described as what it is: something thrown that cannot be read.
    return false;
  }
}
