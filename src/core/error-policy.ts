/** What becomes of failures: rules by class or predicate, of which the first that fits decides. The same for every facade. */

import { InvalidArgumentError, toError } from "./errors.js";
import { show } from "./options.js";
import { HandlerOutcome, type Verdict, verdictOnReturn, verdictOnThrow, verdictOnUnreadable } from "./outcome.js";
import type { RetryPolicy } from "./retry.js";
import { onRejection } from "./thenable.js";

/** What `when` takes: a class of errors, or a function that says whether it is meant. */
export type ErrorMatch = (abstract new (...args: never) => Error) | ((error: Error) => boolean);

/** Which errors a rule is for. Made by `when`. */
export class ErrorMatcher {
  readonly fits: (error: Error) => boolean;

  /** @internal use `when` */
  constructor(fits: (error: Error) => boolean) {
    this.fits = fits;
  }
}

/**
 * Errors of any of these classes, or that any of these functions says yes to. Whatever a handler throws that is no `Error`
 * comes as one that describes it.
 *
 * @throws {InvalidArgumentError}
 */
export function when(...matches: readonly ErrorMatch[]): ErrorMatcher {
  const wrong = matches.find((match) => typeof match !== "function");
  if (matches.length === 0 || wrong !== undefined)
    throw new InvalidArgumentError(`when takes classes of errors, or functions that match them, not ${show(wrong)}`);
  const tests = matches.map((match) => {
    if (isErrorClass(match)) return (error: Error): boolean => error instanceof match;
    return match;
  });
  return new ErrorMatcher((error) => tests.some((test) => test(error)));
}

function isErrorClass(match: ErrorMatch): match is abstract new (...args: never) => Error {
  const prototype: unknown = match.prototype;
  return prototype === Error.prototype || prototype instanceof Error;
}

/** What is known of a failure besides its error. */
export interface Failure {
  /** The stream, queue or channel. */
  readonly channel: string;
  /** From 1. */
  readonly attempt: number;
  /** `unreadable`: no handler has seen the message, since it cannot be decoded or its schema refuses it. */
  readonly kind: "thrown" | "unreadable";
}

/**
 * Decides with `retry()`, `defer()`, `skip()`, `deadLetter(reason)` or `stop()`. Returning nothing leaves the failure to
 * what would become of it without the rule.
 */
export type ErrorAction = (error: Error, failure: Failure) => HandlerOutcome | void;

/** Adds a rule behind those there are. @returns how to remove it again */
export type OnError = (matcher: ErrorMatcher, action: ErrorAction) => () => void;

interface Rule {
  /** Undefined: all of the facade's. */
  readonly channel: string | undefined;
  readonly matcher: ErrorMatcher;
  readonly action: ErrorAction;
}

/** The rules of one facade. */
export class ErrorRules {
  readonly #rules = new Set<Rule>();
  readonly #report: (error: unknown, where: string) => void;

  constructor(report: (error: unknown, where: string) => void) {
    this.#report = report;
  }

  /** How rules are added for one channel, or for all. The function throws an `InvalidArgumentError` for what is no rule. */
  adding(channel?: string): OnError {
    return (matcher, action) => this.#add({ channel, matcher, action });
  }

  #add(rule: Rule): () => void {
    const { matcher, action } = rule;
    if (!(matcher instanceof ErrorMatcher))
      throw new InvalidArgumentError(
        `onError takes what when() makes, such as when(SchemaError), not ${show(matcher)}`,
      );
    if (typeof action !== "function")
      throw new InvalidArgumentError(`onError takes a function that returns an outcome, not ${show(action)}`);
    this.#rules.add(rule);
    return () => void this.#rules.delete(rule);
  }

  /** What the first rule that fits says; undefined where none fits, or it says nothing. */
  decide(error: Error, failure: Failure): HandlerOutcome | undefined {
    try {
      for (const { channel, matcher, action } of this.#rules) {
        if ((channel !== undefined && channel !== failure.channel) || !matcher.fits(error)) continue;
        const outcome: unknown = action(error, failure);
        if (outcome === undefined || outcome instanceof HandlerOutcome) return outcome;
        onRejection(outcome, (thrown) => this.#failed(thrown, failure));
        throw new InvalidArgumentError(
          `a rule of onError returns retry(), defer(), skip(), deadLetter(…), stop() or nothing, not ${show(outcome)}`,
        );
      }
    } catch (thrown) {
      // A rule that fails must not decide by that.
      this.#failed(thrown, failure);
    }
    return undefined;
  }

  #failed(thrown: unknown, { channel }: Failure): void {
    this.#report(toError(thrown), `onError for ${channel}`);
  }
}

/** What failures are judged by. */
export interface Judging {
  readonly policy: RetryPolicy;
  /** They come first. */
  readonly rules?: ErrorRules | undefined;
}

/** The verdict on a failure: a rule's, else that of the retry policy. */
export function verdictOnFailure(error: Error, failure: Failure, { policy, rules }: Judging): Verdict {
  const outcome = rules?.decide(error, failure);
  if (outcome !== undefined) return verdictOnReturn(outcome, failure.attempt, policy);
  return failure.kind === "thrown"
    ? verdictOnThrow(error, failure.attempt, policy)
    : verdictOnUnreadable(error, failure.attempt, policy);
}
