/** What a handler may return besides nothing, and how a result becomes what the backend is told. */

import type { DeadReason, Outcome } from "./backend.js";
import { CodecError, InvalidArgumentError, SchemaError } from "./errors.js";
import { show } from "./options.js";
import { backoffMs, type RetryPolicy } from "./retry.js";

/** A handler's own decision, made by `retry`, `defer`, `deadLetter`, `skip` or `stop`. Any other value is not an outcome. */
export class HandlerOutcome {
  readonly decision: Decision;

  /** @internal use the functions */
  constructor(decision: Decision) {
    this.decision = decision;
  }
}

type Decision =
  | { readonly as: "retry"; readonly delayMs: number | undefined }
  | { readonly as: "defer"; readonly delayMs: number }
  | { readonly as: "deadLetter"; readonly reason: string }
  | { readonly as: "skip" }
  | { readonly as: "stop" };

/** Try again, counted as an attempt: after `delayMs`, or after the policy's backoff. @throws {InvalidArgumentError} */
export function retry(options: { readonly delayMs?: number } = {}): HandlerOutcome {
  return new HandlerOutcome({
    as: "retry",
    delayMs: options.delayMs === undefined ? undefined : validDelay(options.delayMs),
  });
}

/** Try again after `delayMs` (default 1,000) without counting it: the time was wrong, not the message. */
export function defer(options: { readonly delayMs?: number } = {}): HandlerOutcome {
  return new HandlerOutcome({ as: "defer", delayMs: validDelay(options.delayMs ?? 1_000) });
}

/** Park the message as a dead letter at once, with this reason. */
export function deadLetter(reason: string): HandlerOutcome {
  return new HandlerOutcome({ as: "deadLetter", reason: typeof reason === "string" ? reason : show(reason) });
}

/** Acknowledge without having handled it. */
export function skip(): HandlerOutcome {
  return new HandlerOutcome({ as: "skip" });
}

/** End the subscription. Where messages are durable this one goes back, uncounted, for whoever consumes next. */
export function stop(): HandlerOutcome {
  return new HandlerOutcome({ as: "stop" });
}

/** Computed delays are rounded; what is no delay at all must not reach a store. */
function validDelay(delayMs: number): number {
  const rounded = Math.round(delayMs);
  if (rounded >= 0 && rounded <= MAX_DELAY_MS) return rounded;
  throw new InvalidArgumentError(`delayMs must be a number from 0 to ${MAX_DELAY_MS}, not ${String(delayMs)}`);
}

/** What a delivery came to, without its receipt. */
export type Verdict = Outcome extends infer O ? (O extends { receipt: string } ? Omit<O, "receipt"> : never) : never;

export const ACK: Verdict = { as: "ack" };
/** The same, for what its reader has no handler for: told apart by being this very object. */
export const PASSED_BY: Verdict = { as: "ack" };
/** For another consumer, which has a handler for it. */
export const LEFT_TO_OTHERS: Verdict = { as: "retry", delayMs: 1_000, counted: false };
/** As if it had not been taken. */
export const GIVE_BACK: Verdict = { as: "retry", delayMs: 0, counted: false };
/** The same, and its subscription is to end: told apart by being this very object. */
export const STOP: Verdict = { as: "retry", delayMs: 0, counted: false };

/** The verdict on a handler that returned `value`. Whatever is no outcome acknowledges. */
export function verdictOnReturn(value: unknown, attempt: number, policy: RetryPolicy): Verdict {
  if (!(value instanceof HandlerOutcome)) return ACK;
  const { decision } = value;
  switch (decision.as) {
    case "skip":
      return ACK;
    case "stop":
      return STOP;
    case "defer":
      return { as: "retry", delayMs: decision.delayMs, counted: false };
    case "deadLetter":
      return { as: "deadLetter", reason: deadReason("rejected", decision.reason) };
    case "retry":
      if (attempt >= policy.maxAttempts) {
        return { as: "deadLetter", reason: deadReason("failed", "the handler asked for a retry at its last attempt") };
      }
      return { as: "retry", delayMs: decision.delayMs ?? backoffMs(policy, attempt), counted: true };
  }
}

/** The verdict on a handler that threw: backoff, or a dead letter after the last attempt. */
export function verdictOnThrow(error: Error, attempt: number, policy: RetryPolicy): Verdict {
  if (attempt < policy.maxAttempts) return { as: "retry", delayMs: backoffMs(policy, attempt), counted: true };
  return { as: "deadLetter", reason: deadReason("failed", `${error.name}: ${error.message}`, error.stack) };
}

/** The verdict on a message that could not be read: what its codec or schema refuses today it refuses in a second too. */
export function verdictOnUnreadable(error: Error, attempt: number, policy: RetryPolicy): Verdict {
  if (!(error instanceof CodecError || error instanceof SchemaError)) return verdictOnThrow(error, attempt, policy);
  return { as: "deadLetter", reason: deadReason("undecodable", error.message) };
}

/** About 24 days, the longest that a Node timer can wait. */
const MAX_DELAY_MS = 2 ** 31 - 1;
const MAX_MESSAGE_CHARS = 1_000;
const MAX_STACK_CHARS = 4_000;

function deadReason(kind: DeadReason["kind"], message: string, stack?: string): DeadReason {
  const reason = { kind, message: message.slice(0, MAX_MESSAGE_CHARS) };
  return stack === undefined ? reason : { ...reason, stack: stack.slice(0, MAX_STACK_CHARS) };
}
