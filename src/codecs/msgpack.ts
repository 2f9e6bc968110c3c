/** MessagePack as a codec: smaller than JSON, and with bytes anywhere in a payload. Needs the package `msgpackr`. */

import { types } from "node:util";
import { Packr } from "msgpackr";
import { type Codec, lossOf, MAX_DEPTH, MAX_VALUES } from "../core/codec.js";
import { CodecError } from "../core/errors.js";
import { assertMsgpack } from "./msgpack-grammar.js";

const OPTIONS = {
  // Records would make a message readable only to who has seen the ones before it.
  useRecords: false,
  // The shortest form of each map, as other libraries write it.
  variableMapSize: true,
  // Copies have none, and data may hold a key of that name.
  useToJSON: false,
  // A view would keep the whole message in memory for a few of its bytes.
  copyBuffers: true,
  // A BigInt only where a number would not be exact.
  int64AsType: "auto",
};
// "auto" is missing in the package's types.
const packr = new Packr(OPTIONS as ConstructorParameters<typeof Packr>[0]);

/**
 * As strict as JSON's codec and with its rules: dates become their ISO text, undefined properties are left out, a
 * property called `__proto__` never gets through, and what would silently change is a `CodecError` with its path. Beyond
 * JSON it holds `Uint8Array`s at any depth, NaN and the infinities.
 *
 * It reads what other languages write, except extension types and keys that are no text.
 */
export const msgpackCodec: Codec = {
  contentType: "msgpack",
  encode(value) {
    return packr.pack(new Copying().copy(value));
  },
  decode(bytes) {
    assertMsgpack(bytes);
    try {
      const value: unknown = packr.unpack(bytes);
      return value;
    } catch (cause) {
      throw new CodecError("the payload is no MessagePack", { cause });
    }
  },
};

const TOO_MANY = `makes it more than ${MAX_VALUES} values: send bytes instead`;

/** Thrown inside a copy, with its path from the innermost key outwards. */
class Unwritable extends Error {
  readonly path: (string | number)[] = [];
}

/** Makes of a payload what arrives of it: lists, plain objects, bytes and single values. */
class Copying {
  #values = 0;

  /** @throws {CodecError} */
  copy(value: unknown): unknown {
    try {
      return this.#copy(value, 0);
    } catch (cause) {
      if (!(cause instanceof Unwritable))
        throw new CodecError("the payload could not be read: one of its getters or toJSON methods threw", { cause });
      const path = cause.path.reverse().slice(0, 8);
      const text = path.map((key) => (typeof key === "number" ? `[${key}]` : `.${key}`)).join("");
      throw new CodecError(`payload${text} ${cause.message}`);
    }
  }

  #copy(value: unknown, depth: number): unknown {
    this.#values += 1;
    if (this.#values > MAX_VALUES) throw new Unwritable(TOO_MANY);
    switch (typeof value) {
      case "string":
        return wellFormed(value);
      case "number":
      case "boolean":
        return value;
      case "object":
        return value === null ? null : this.#copyObject(value, depth);
      default:
        throw new Unwritable(
          `is ${value === undefined ? "undefined" : `a ${typeof value}`}, which MessagePack does not hold here`,
        );
    }
  }

  #copyObject(value: object, depth: number): unknown {
    if (depth >= MAX_DEPTH) throw new Unwritable(`is deeper than ${MAX_DEPTH} levels, or contains itself`);
    if (value instanceof Uint8Array) return value;
    if (value instanceof Date && Number.isNaN(value.getTime())) throw new Unwritable("is an invalid Date");
    if (ArrayBuffer.isView(value)) throw new Unwritable("holds bytes that are no Uint8Array: make one of them");
    if (hasToJson(value)) return this.#copy(value.toJSON(), depth + 1);
    if (types.isBoxedPrimitive(value)) return this.#copy(value.valueOf(), depth);
    if (Array.isArray(value)) return this.#copyList(value, depth);
    return this.#copyFields(value, depth);
  }

  #copyList(list: readonly unknown[], depth: number): unknown[] {
    // Before anything is made of it: a list of holes is as long as it says, and takes no memory.
    if (list.length > MAX_VALUES - this.#values) throw new Unwritable(TOO_MANY);
    const copy: unknown[] = [];
    // Unlike map, this does not pass over holes.
    for (let index = 0; index < list.length; index += 1)
      copy.push(within(index, () => this.#copy(list[index], depth + 1)));
    return copy;
  }

  #copyFields(value: object, depth: number): Record<string, unknown> {
    const fields = Object.entries(value);
    const loss = Object.getPrototypeOf(value) === Object.prototype ? undefined : lossOf(value, fields.length);
    if (loss !== undefined) throw new Unwritable(loss);
    const copy: Record<string, unknown> = {};
    for (const [key, field] of fields) {
      if (field !== undefined && key !== "__proto__")
        copy[wellFormed(key)] = within(key, () => this.#copy(field, depth + 1));
    }
    return copy;
  }
}

function hasToJson(value: object): value is { toJSON(): unknown } {
  return "toJSON" in value && typeof value.toJSON === "function";
}

function within<T>(key: string | number, copy: () => T): T {
  try {
    return copy();
  } catch (error) {
    if (error instanceof Unwritable) error.path.push(key);
    throw error;
  }
}

/** UTF-8 has no half pairs: one would arrive as another character. */
function wellFormed(text: string): string {
  if (text.isWellFormed()) return text;
  throw new Unwritable("holds half a surrogate pair: it is not valid text");
}
