/** Payloads to bytes and back: JSON by default, bytes as they are, other codecs by option. */

import type { Bytes } from "./backend.js";
import { CodecError } from "./errors.js";
import { JSON_CONTENT } from "./message.js";

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

const MAX_DEPTH = 64;

/**
 * JSON, strictly: what would silently change on the way is refused. Dates become their ISO text and undefined
 * properties are left out, as JSON does; Map, Set, BigInt, NaN, functions, cycles and anything deeper than 64 are a
 * `CodecError`.
 */
export const jsonCodec: Codec = {
  contentType: JSON_CONTENT,
  encode(value) {
    let problem: Problem | undefined;
    try {
      problem = findProblem(value, 0);
      if (problem === undefined) return JSON.stringify(value);
    } catch (cause) {
      // A getter or toJSON of the caller's threw.
      throw new CodecError("the payload could not be read: one of its getters or toJSON methods threw", { cause });
    }
    throw new CodecError(`payload${pathText(problem.path)} ${problem.what}`);
  },
  decode(bytes) {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
    try {
      // An own "__proto__" is harmless until somebody merges it into an object: it never leaves here.
      const value: unknown = text.includes("__proto__") ? JSON.parse(text, dropProto) : JSON.parse(text);
      return value;
    } catch (cause) {
      throw new CodecError(`the payload is not JSON: ${JSON.stringify(text.slice(0, 64))}`, { cause });
    }
  },
};

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
  if (depth >= MAX_DEPTH) return problem(`is deeper than ${MAX_DEPTH} levels, or contains itself`);
  if ("toJSON" in value && typeof value.toJSON === "function") {
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? problem("is an invalid Date") : undefined;
    if (ArrayBuffer.isView(value))
      return problem("holds bytes: pass a Uint8Array as the whole payload, or use a binary codec");
    return findProblem((value as { toJSON(): unknown }).toJSON(), depth + 1);
  }
  if (Array.isArray(value)) return findInArray(value, depth);
  if (value instanceof Map || value instanceof Set)
    return problem(`is a ${value.constructor.name}, which JSON would empty`);
  if (ArrayBuffer.isView(value))
    return problem("holds bytes: pass a Uint8Array as the whole payload, or use a binary codec");
  for (const key of Object.keys(value)) {
    const child = (value as Record<string, unknown>)[key];
    if (child === undefined) continue;
    const found = findProblem(child, depth + 1);
    if (found !== undefined) return inside(found, key);
  }
  return undefined;
}

function findInArray(values: readonly unknown[], depth: number): Problem | undefined {
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
