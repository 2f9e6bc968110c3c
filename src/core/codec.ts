/** Payloads to bytes and back: JSON by default, bytes as they are, other codecs by option. */

import { types } from "node:util";
import type { Bytes } from "./backend.js";
import { textOf } from "./bytes.js";
import { CodecError } from "./errors.js";
import { JSON_CONTENT } from "./message.js";
import { type Check, anObjectWith, isPlainObject } from "./options.js";
import { isThenable } from "./thenable.js";

/** Encodes payloads that are not bytes already. */
export interface Codec {
  /** Travels with each message, so that readers know. At most 32 characters of `[a-z0-9.+-]`. */
  readonly contentType: string;
  /** @throws {CodecError} naming the path of a value that would not come back as it was */
  encode(value: unknown): Bytes;
  /** @throws {CodecError} */
  decode(bytes: Uint8Array): unknown;
}

/** The content type of a `Uint8Array` payload, which no codec touches. */
export const BYTES_CONTENT = "bytes";

/** Of values in values, in every codec. */
export const MAX_DEPTH = 64;
/** What others have written may be deeper, up to what can be read, checked and printed without running out of stack. */
const MAX_READ_DEPTH = 1_000;
/** What is shared counts each time, as it is written each time: a few nested pairs of it would take for ever. */
export const MAX_VALUES = 1_000_000;

const CODEC_METHODS = anObjectWith("encode", "decode");

/** For options: whether a value is a codec whose messages could be told apart. */
export const aCodec: Check = (value) => {
  const problem = CODEC_METHODS(value);
  if (problem !== undefined) return problem;
  const { contentType } = value as { contentType?: unknown }; // An object: checked above.
  if (typeof contentType !== "string" || !/^[a-z0-9.+-]{1,32}$/.test(contentType))
    return 'must have a contentType of 1 to 32 characters of a-z, 0-9, ".", "+" and "-"';
  return contentType === BYTES_CONTENT ? `must have another contentType than "${BYTES_CONTENT}"` : undefined;
};

/** Values seen by the running `encode`. Here rather than passed on, which would cost every payload. */
let seen = 0;

/**
 * JSON, strictly: what would silently change on the way is refused. Dates become their ISO text and undefined
 * properties are left out, as JSON does; Map, Set, BigInt, NaN, functions, promises, errors, whatever else JSON would
 * empty, cycles, anything deeper than 64 and more than a million values are a `CodecError`.
 */
export const jsonCodec: Codec = {
  contentType: JSON_CONTENT,
  encode(value) {
    let problem: Problem | undefined;
    try {
      seen = 0;
      problem = findProblem(value, 0);
      if (problem === undefined) return JSON.stringify(value);
    } catch (cause) {
      // A getter or toJSON of the caller's threw.
      throw new CodecError("the payload could not be read: one of its getters or toJSON methods threw", { cause });
    }
    throw new CodecError(`payload${pathText(problem.path)} ${problem.what}`);
  },
  decode: (bytes) => decodeJson(textOf(bytes)),
};

/** @throws {CodecError} */
export function decodeJson(text: string): unknown {
  // Each level takes two characters: most texts need no look.
  if (text.length > 2 * MAX_READ_DEPTH && isDeeperThan(text, MAX_READ_DEPTH))
    throw new CodecError(`the payload is deeper than ${MAX_READ_DEPTH} levels`);
  try {
    // An own "__proto__" is harmless until somebody merges it into an object: it never leaves here.
    const value: unknown = mayHoldProto(text) ? JSON.parse(text, dropProto) : JSON.parse(text);
    return value;
  } catch (cause) {
    throw new CodecError(`the payload is not JSON: ${JSON.stringify(text.slice(0, 64))}`, { cause });
  }
}

/** Whether lists and objects of a JSON text stand in each other more than `limit` times. */
function isDeeperThan(text: string, limit: number): boolean {
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char === '"') {
      at = endOfString(text, at);
    } else if (char === "[" || char === "{") {
      depth += 1;
      if (depth > limit) return true;
    } else if (char === "]" || char === "}") {
      depth -= 1;
    }
  }
  return false;
}

/** Where the string that begins there ends; the text's end, where it does not. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; at += 1) {
    at = text.indexOf('"', at);
    if (at < 0) return text.length;
    let backslashes = 0;
    while (text[at - 1 - backslashes] === "\\") backslashes += 1;
    if (backslashes % 2 === 0) return at;
  }
}

/** Any of its characters may be escaped, and all of them are from U+0050 to U+007F. */
function mayHoldProto(text: string): boolean {
  return text.includes("__proto__") || (text.includes("\\u00") && /\\u00[567]/.test(text));
}

function dropProto(key: string, value: unknown): unknown {
  return key === "__proto__" ? undefined : value;
}

interface Problem {
  /** From the innermost key outwards. */
  readonly path: (string | number)[];
  readonly what: string;
}

/** The first value that JSON would lose or refuse. The path is built only on the way back from one. */
function findProblem(value: unknown, depth: number): Problem | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
      return undefined;
    case "number":
      return Number.isFinite(value) ? undefined : problem(`is ${value}, which JSON cannot hold`);
    case "object":
      return value === null ? undefined : findInObject(value, depth);
    default:
      return problem(`is ${value === undefined ? "undefined" : `a ${typeof value}`}, which JSON cannot hold`);
  }
}

function findInObject(value: object, depth: number): Problem | undefined {
  if (isBare(value)) return findInBare(value, depth);
  if (!("toJSON" in value) || typeof value.toJSON !== "function") return findInFields(value, depth);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? problem("is an invalid Date") : undefined;
  if (ArrayBuffer.isView(value)) return problem(HOLDS_BYTES);
  if (isThenable(value)) return problem(IS_PROMISE);
  const json: unknown = (value as { toJSON(): unknown }).toJSON();
  // JSON does not ask what it is given for a toJSON of its own.
  return typeof json === "object" && json !== null ? findInFields(json, depth + 1) : findProblem(json, depth);
}

/** What nearly all payloads consist of. */
function isBare(value: object): value is Readonly<Record<string, unknown>> {
  return Object.getPrototypeOf(value) === Object.prototype && (value as { toJSON?: unknown }).toJSON === undefined;
}

/** In this form V8 reads the fields without looking for their names and without a list of them: half of all that is checked for. */
function findInBare(value: Readonly<Record<string, unknown>>, depth: number): Problem | undefined {
  if (depth >= MAX_DEPTH) return problem(TOO_DEEP);
  for (const key in value) {
    const field = value[key];
    seen += 1;
    if (field === undefined || typeof field === "string") continue;
    const found = findProblem(field, depth + 1);
    // What somebody has added to all objects is not written.
    if (found !== undefined && Object.hasOwn(value, key)) return inside(found, key);
  }
  return seen > MAX_VALUES ? problem(TOO_MANY) : undefined;
}

function findInFields(value: object, depth: number): Problem | undefined {
  if (depth >= MAX_DEPTH) return problem(TOO_DEEP);
  if (Array.isArray(value)) return findInArray(value, depth);
  // The values alone, which is cheaper than asking for each by its key.
  const fields: readonly unknown[] = Object.values(value);
  if (Object.getPrototypeOf(value) !== Object.prototype) {
    // JSON takes these out of their boxes.
    if (types.isBoxedPrimitive(value)) return findProblem(value.valueOf(), depth);
    const loss = lossOf(value, fields.length);
    if (loss !== undefined) return problem(loss);
  }
  seen += fields.length;
  if (seen > MAX_VALUES) return problem(TOO_MANY);
  for (let index = 0; index < fields.length; index += 1) {
    const field = fields[index];
    if (field === undefined || typeof field === "string") continue;
    const found = findProblem(field, depth + 1);
    if (found !== undefined) return inside(found, Object.keys(value)[index] ?? "");
  }
  return undefined;
}

const TOO_DEEP = `is deeper than ${MAX_DEPTH} levels, or contains itself`;
const TOO_MANY = `makes it more than ${MAX_VALUES} values, counting what is shared each time: send bytes instead`;
const HOLDS_BYTES = "holds bytes: pass a Uint8Array as the whole payload, or use a binary codec";
const IS_PROMISE = "is a promise: await it first";

/** Says what is lost of an instance of a class. It is written as its fields alone: one without any would arrive empty. */
export function lossOf(value: object, fields: number): string | undefined {
  if (isThenable(value)) return IS_PROMISE;
  if (ArrayBuffer.isView(value)) return HOLDS_BYTES;
  const isLost =
    types.isMap(value) || types.isSet(value) || types.isNativeError(value) || (fields === 0 && !isPlainObject(value));
  return isLost ? `is ${describe(value)}, which would arrive empty` : undefined;
}

function describe({ constructor }: object): string {
  // Whoever made the object may have given it any constructor, or none.
  const name = typeof constructor === "function" ? constructor.name : "object";
  return `${/^[aeiou]/i.test(name) ? "an" : "a"} ${name}`;
}

function findInArray(values: readonly unknown[], depth: number): Problem | undefined {
  seen += values.length;
  if (seen > MAX_VALUES) return problem(TOO_MANY);
  for (let index = 0; index < values.length; index += 1) {
    const found = findProblem(values[index], depth + 1);
    if (found !== undefined) return inside(found, index);
  }
  return undefined;
}

function problem(what: string): Problem {
  return { path: [], what };
}

function inside(found: Problem, key: string | number): Problem {
  found.path.push(key);
  return found;
}

function pathText(path: readonly (string | number)[]): string {
  return [...path]
    .reverse()
    .slice(0, 8)
    .map((key) => (typeof key === "number" ? `[${key}]` : `.${key}`))
    .join("");
}
