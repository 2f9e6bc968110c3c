/** The msgpack codec: what goes in comes out, what would not is refused, and hostile bytes are errors and nothing else. */

import * as fc from "fast-check";
import { Packr } from "msgpackr";
import { expect, test } from "vitest";
import { msgpackCodec } from "../../src/codecs/msgpack.js";

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
const refuses = (bytes: Uint8Array, says: string | RegExp): void => {
  expect(() => msgpackCodec.decode(bytes)).toThrow(
    expect.objectContaining({ code: "CODEC", message: expect.stringMatching(says) }),
  );
};
const there = (value: unknown): unknown => msgpackCodec.decode(msgpackCodec.encode(value) as Uint8Array);

/** Values that a payload may hold, keys with a meaning in JavaScript among them. */
const key = fc.oneof(
  fc.string(),
  fc.constantFrom("constructor", "toJSON", "hasOwnProperty", "then", "valueOf", "__proto_", ""),
);
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.string({ unit: "binary" }),
    fc.double(),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(key, tie("value"), { maxKeys: 20 }),
  ),
}));

test("what goes in comes out, bytes at any depth included, and leaves what went in as it was", () => {
  fc.assert(
    fc.property(value, (payload) => {
      expect(normal(there(payload))).toEqual(normal(payload));
    }),
    { numRuns: 500 },
  );
});

/** Bytes as an array of one kind, and no difference between the zeros, of which a whole number has one. */
function normal(payload: unknown): unknown {
  if (payload instanceof Uint8Array) return { bytes: [...payload] };
  if (Array.isArray(payload)) return payload.map(normal);
  if (typeof payload === "object" && payload !== null)
    return new Map(Object.entries(payload).map(([name, field]) => [name, normal(field)]));
  return payload === 0 ? 0 : payload;
}

test("dates are their ISO text, undefined properties are left out, and toJSON is asked, as JSON does", () => {
  const at = new Date("2026-01-02T03:04:05.678Z");
  expect(there({ at, gone: undefined, own: { toJSON: () => [1, at] }, boxed: new String("b") })).toEqual({
    at: at.toISOString(),
    own: [1, at.toISOString()],
    boxed: "b",
  });
});

const circle: Record<string, unknown> = {};
circle["self"] = circle;
test.each([
  [undefined, "payload is undefined"],
  [{ a: [1, undefined] }, "payload.a[1] is undefined"],
  [{ a: 1n }, "payload.a is a bigint"],
  [{ a: () => 1 }, "payload.a is a function"],
  [{ a: new Map([[1, 2]]) }, "payload.a is a Map"],
  [{ a: new Date(Number.NaN) }, "payload.a is an invalid Date"],
  [{ a: Promise.resolve() }, "payload.a is a promise"],
  [{ a: new Float32Array(1) }, "payload.a holds bytes that are no Uint8Array"],
  [{ a: "\ud800" }, "payload.a holds half a surrogate pair"],
  [circle, "contains itself"],
  [Array(1_000_001).fill(0), "more than 1000000 values"],
  [
    {
      get a(): never {
        throw new Error("no");
      },
    },
    "getters or toJSON",
  ],
])("refuses what would not arrive: %#", (payload, says) => {
  expect(() => msgpackCodec.encode(payload)).toThrow(
    expect.objectContaining({ code: "CODEC", message: expect.stringContaining(says) }),
  );
});

test("reads what other languages write: every length of number, text, list and map, and 64-bit numbers", () => {
  expect(msgpackCodec.decode(hex("df 00000001 d9 01 61 dd 00000002 c0 db 00000001 62"))).toEqual({ a: [null, "b"] });
  expect(msgpackCodec.decode(hex("cf 0000000000000005"))).toBe(5);
  expect(msgpackCodec.decode(hex("d3 fffffffffffffffb"))).toBe(-5);
  expect(msgpackCodec.decode(hex("cf ffffffffffffffff"))).toBe(2n ** 64n - 1n);
});

test("bad input 69: whatever is cut off or behind its end is refused", () => {
  fc.assert(
    fc.property(value, fc.nat(), (payload, at) => {
      const bytes = msgpackCodec.encode(payload) as Uint8Array;
      refuses(bytes.subarray(0, at % bytes.length), /ends early/);
      refuses(Buffer.concat([bytes, Buffer.from([0xc0])]), /goes on behind its end/);
    }),
  );
});

test("bad input 70: endless nesting is refused before anything is built of it", () => {
  refuses(new Uint8Array(5_000).fill(0x91), "deeper than 64 levels");
  refuses(new Uint8Array(5_000).fill(0x81), "no text");
});

test.each([
  ["0x70", "c7 01 70 00"],
  ["a record's definition", "d4 72 40 91 a1 61 01"],
  ["a date", "d6 ff 00000000"],
  [
    "an Error, as msgpackr writes one",
    Buffer.from(new Packr({ moreTypes: true }).pack(new Error("x"))).toString("hex"),
  ],
  ["undefined", "d4 00 00"],
  ["the unused code", "c1"],
])("bad input 71: an extension type is refused: %s", (_, bytes) => {
  refuses(hex(bytes), "holds an extension type or an unused code");
});

test.each([
  ["a list", "dd ffffffff c0"],
  ["a map", "df ffffffff a1 61 c0"],
  ["text", "db ffffffff 61"],
  ["bytes", "c6 ffffffff 61"],
  ["a list in lists", "91 91 dd 7fffffff c0 c0"],
])("bad input 72: a length that cannot be true costs nothing: %s", (_, bytes) => {
  refuses(hex(bytes), "ends early");
});

test("more than a million values in a few bytes each are refused", () => {
  const bytes = new Uint8Array(1_000_006).fill(0xc0);
  bytes.set([0xdd, 0x00, 0x0f, 0x42, 0x41]);
  refuses(bytes, "more than 1000000 values");
});

test("keys that are no text are refused, and __proto__ is inert in both directions", () => {
  refuses(hex("81 01 02"), "a key that is no text");
  const evil = msgpackCodec.decode(hex("81 a9 5f5f70726f746f5f5f 81 a5 61646d696e c3")) as object;
  expect(Object.assign({}, evil)).not.toHaveProperty("admin");
  expect(Object.getPrototypeOf(evil)).toBe(Object.prototype);
  expect(there(JSON.parse('{ "__proto__": { "admin": true }, "a": 1 }'))).toEqual({ a: 1 });
});

test("fault 39: whatever bytes arrive, they are a value or a CodecError", () => {
  const tokens = fc.constantFrom(0x40, 0x81, 0x91, 0xa1, 0xc1, 0xc4, 0xc7, 0xd4, 0x72, 0x70, 0xdc, 0xdd, 0xdf, 0xff, 0);
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.array(tokens, { maxLength: 40 }).map((list) => Uint8Array.from(list)),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      try {
        msgpackCodec.decode(input);
      } catch (error) {
        expect(error).toMatchObject({ code: "CODEC" });
      }
    }),
    { numRuns: 5_000 },
  );
});

test("lists with holes are refused with the path of the first, and endless ones at once", () => {
  const hole = [1];
  hole[2] = 3;
  expect(() => msgpackCodec.encode({ list: hole })).toThrow(
    expect.objectContaining({ code: "CODEC", message: expect.stringContaining("payload.list[1] is undefined") }),
  );
  const endless: unknown[] = [];
  endless.length = 2 ** 32 - 1;
  expect(() => msgpackCodec.encode({ endless })).toThrow(
    expect.objectContaining({ code: "CODEC", message: expect.stringContaining("payload.endless makes it more than") }),
  );
  const most = Array.from({ length: 999_999 }, () => 0);
  expect(there(most)).toHaveLength(999_999);
});
