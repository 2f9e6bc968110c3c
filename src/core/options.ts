/** Checks options: every problem at once, unknown ones with the nearest known name, each message saying what to do. */

import { ConfigError, InvalidArgumentError } from "./errors.js";

/** Says what is wrong with a value, or nothing. */
export type Check = (value: unknown) => string | undefined;

/** What an options object may hold. Absent and undefined options are always fine; demand the others in the type. */
export type Checks<T> = { readonly [K in keyof Required<T>]: Check };

const MAX_SHOWN_CHARS = 64;
const SECRET = /pass|secret|token|key$|credential/i;

/**
 * @param where what the options belong to, such as `connect` or `events.subscribe`
 * @throws {ConfigError}
 */
export function checkOptions<T extends object>(where: string, options: T | undefined, checks: Checks<T>): void {
  const problems = findProblems(where, options, checks);
  if (problems.length > 0) throw new ConfigError(problems);
}

/** The same, for callers that have more to complain about. */
export function findProblems<T extends object>(where: string, options: T | undefined, checks: Checks<T>): string[] {
  if (options === undefined) return [];
  if (!isPlainObject(options)) return [notPlain(where, options)];
  const known = checks as Readonly<Record<string, Check>>;
  const problems: string[] = [];
  // Whatever a caller may read, also what cannot be enumerated.
  for (const name of Object.getOwnPropertyNames(options)) {
    const value: unknown = options[name];
    const check = Object.hasOwn(known, name) ? known[name] : undefined;
    if (check === undefined) {
      problems.push(`${where}: unknown option "${name}"${suggestion(name, Object.keys(known))}`);
    } else if (value !== undefined) {
      const problem = check(value);
      if (problem !== undefined)
        problems.push(`${where}: ${name} ${problem}, not ${SECRET.test(name) ? "this" : show(value)}`);
    }
  }
  return problems;
}

/** Whether it holds only what is its own, in any realm: what is inherited would be read, but not checked. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || isForeignPrototype(prototype as object);
}

/** Another realm's `Object.prototype`. */
function isForeignPrototype(prototype: object): boolean {
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf");
}

function notPlain(where: string, options: unknown): string {
  const hint = typeof options === "object" && options !== null ? ": what it inherits is not read" : "";
  return `${where}: options must be a plain object, not ${show(options)}${hint}`;
}

export const anInteger =
  (min: number, max: number = Number.MAX_SAFE_INTEGER): Check =>
  (value) =>
    Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max
      ? undefined
      : `must be a whole number ${max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`}`;

export const aNumber =
  (min: number, max: number): Check =>
  (value) =>
    typeof value === "number" && value >= min && value <= max ? undefined : `must be a number from ${min} to ${max}`;

/** Milliseconds; at most what a Node timer can hold. */
export const aDuration = (min = 0): Check => anInteger(min, 2 ** 31 - 1);

/** Milliseconds that no timer has to wait for: up to a hundred years. */
export const anAge = (min = 0): Check => anInteger(min, 100 * 366 * 86_400_000);

export const oneOf =
  (...values: readonly string[]): Check =>
  (value) =>
    typeof value === "string" && values.includes(value)
      ? undefined
      : `must be ${values.map((v) => `"${v}"`).join(" or ")}`;

export const aString: Check = (value) =>
  typeof value === "string" && value !== "" ? undefined : "must be a string that is not empty";

export const aFunction: Check = (value) => (typeof value === "function" ? undefined : "must be a function");

export const anObject: Check = (value) =>
  typeof value === "object" && value !== null ? undefined : "must be an object";

/** An object, of whatever class, that has these methods. */
export const anObjectWith =
  (...methods: readonly string[]): Check =>
  (value) => {
    const missing = methods.filter(
      (name) => typeof value !== "object" || value === null || typeof Reflect.get(value, name) !== "function",
    );
    return missing.length === 0 ? undefined : `must be an object with the method ${missing.join(", ")}`;
  };

export const aSignal: Check = (value) => (value instanceof AbortSignal ? undefined : "must be an AbortSignal");

/** An options object within the options. */
export const nested =
  <T extends object>(checks: Checks<T>): Check =>
  (value) => {
    const problems = findProblems("it", value as T, checks); // findProblems checks that it is an object.
    return problems.length === 0 ? undefined : `is wrong (${problems.join("; ")})`;
  };

/** For calls that take a signal and check nothing else. @throws {InvalidArgumentError} */
export function assertSignal(signal: unknown): asserts signal is AbortSignal | undefined {
  if (signal === undefined) return;
  const problem = aSignal(signal);
  if (problem !== undefined) throw new InvalidArgumentError(`signal ${problem}, not ${show(signal)}`);
}

/** @throws {InvalidArgumentError} when what is to be published is no array: callers without types get this far */
export function assertArray(data: unknown): asserts data is readonly unknown[] {
  if (!Array.isArray(data)) throw new InvalidArgumentError(`publishMany takes an array of payloads, not ${show(data)}`);
}

/**
 * For options of hot calls: refuses unknown names, and leaves the values to who uses them.
 *
 * @throws {InvalidArgumentError}
 */
export function assertKnown(where: string, options: object, known: ReadonlySet<string>): void {
  if (!isPlainObject(options)) throw new InvalidArgumentError(notPlain(where, options));
  // Without a list of the names, which every publish would pay for.
  for (const name in options) {
    if (!known.has(name) && Object.hasOwn(options, name))
      throw new InvalidArgumentError(`${where}: unknown option "${name}"${suggestion(name, [...known])}`);
  }
}

/** A value as it may stand in a message: short, and never a whole object. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, MAX_SHOWN_CHARS));
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" && value !== null) return "an object";
  return String(value);
}

/** `, did you mean "x"?` when a known name is near, else the list of names. */
export function suggestion(name: string, known: readonly string[]): string {
  const nearest = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .toSorted((a, b) => a.distance - b.distance)[0];
  if (nearest !== undefined && nearest.distance <= Math.max(2, name.length / 3))
    return `, did you mean "${nearest.candidate}"?`;
  return ` (known: ${known.join(", ")})`;
}

/** Levenshtein's distance, for names: long input is cut, since it is no misspelt option. */
function editDistance(a: string, b: string): number {
  const left = a.slice(0, MAX_SHOWN_CHARS);
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = (row[j - 1] ?? 0) + (left[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substitution));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
