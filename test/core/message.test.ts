/** Envelopes, ids, codecs and what is published: what goes in comes out, and what would not is refused. */

import { runInNewContext } from "node:vm";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { jsonCodec } from "../../src/core/codec.js";
import { Codecs } from "../../src/core/codecs.js";
import { createIdFactory, timeOfId } from "../../src/core/ids.js";
import { Owner } from "../../src/core/lifecycle.js";
import { decodeHeader, encodeHeader, type Envelope, isBareHeader } from "../../src/core/message.js";
import { encodeOutgoing, type Routing } from "../../src/core/outgoing.js";
import type { Backend } from "../../src/core/backend.js";
import type { Runtime } from "../../src/core/runtime.js";
import type { Streams } from "../../src/core/streams.js";
import { createTelemetry, stderrLogger } from "../../src/core/telemetry.js";
import { createFakeClock } from "../../src/testing/index.js";

const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 }).filter((value) => !/\p{Cc}/u.test(value));
const time = fc.integer({ min: 0, max: 8.64e15 });

describe("the header", () => {
  test("gives back every envelope that it was written from", () => {
    const envelope = fc.record(
      {
        id: text,
        type: text,
        source: text,
        channel: text,
        time,
        contentType: fc.constantFrom("json", "bytes", "msgpack"),
        target: text,
        key: text,
        priority: fc.maxSafeInteger(),
        expiresAt: time,
        correlationId: text,
        causationId: text,
        replyTo: text,
        traceparent: text,
        schemaVersion: fc.nat(),
        // Headers may hold anything, the header's own separator and line feeds included.
        headers: fc.dictionary(
          fc.string({ minLength: 1 }).filter((key) => key !== "__proto__"),
          fc.string(),
          { minKeys: 1, noNullPrototype: true },
        ),
      },
      { requiredKeys: ["id", "type", "source", "channel", "time", "contentType"] },
    );
    fc.assert(
      fc.property(envelope, (original: Envelope) => {
        const header = encodeHeader(original);
        expect(header).not.toContain("\n");
        expect(decodeHeader(header, original.channel, "position")).toEqual(original);
      }),
      { numRuns: 1_000 },
    );
  });

  test("of an ordinary message is its version and its id, and is known as such", () => {
    const id = createIdFactory(createFakeClock())();
    const header = encodeHeader({ id, type: "t", channel: "t", source: "signalbox", contentType: "json" });
    expect(header).toBe(`1\u001f${id}`);
    expect(isBareHeader(header)).toBe(true);
    expect(isBareHeader(encodeHeader({ id, type: "t", channel: "t", source: "shop", contentType: "json" }))).toBe(
      false,
    );
    expect(decodeHeader(header, "t", "position").time).toBe(createFakeClock().now());
  });

  test("without an id means that the position is the id, as in queues", () => {
    const { id, time, priority } = decodeHeader("1\u001f\u001fp7", "q", "019b76da-a800-7000-8000-000000000000");
    expect([id, time, priority]).toEqual(["019b76da-a800-7000-8000-000000000000", Date.UTC(2026, 0, 1), 7]);
  });

  test("passes by fields of a later version", () => {
    expect(decodeHeader("1\u001fid\u001fp7\u001fZnew\u001f", "t", "position")).toMatchObject({ id: "id", priority: 7 });
  });

  // Versions that are none, and headers that are no record of texts.
  const badFields = ["v-5", "v1.5", "vabc", "v", "vInfinity", "v1e3", "hnull", "h[]", 'h"a"', 'h{"a":1}', "h{"];
  test.each(["", "2\u001fid", "1", "{}", "id", ...badFields.map((field) => `1\u001fid\u001f${field}`)])(
    "refuses %j",
    (header) => {
      expect(() => decodeHeader(header, "t", "position")).toThrow(expect.objectContaining({ code: "CODEC" }));
    },
  );
});

describe("ids", () => {
  test("sort by creation, also within a millisecond, beyond 4,096 of them and when the clock goes back", () => {
    let now = Date.UTC(2026, 0, 1);
    const createId = createIdFactory({ ...createFakeClock(), now: () => now });
    const ids: string[] = [];
    for (let index = 0; index < 10_000; index += 1) ids.push(createId());
    now -= 3_600_000;
    for (let index = 0; index < 10; index += 1) ids.push(createId());
    expect(ids.toSorted()).toEqual(ids);
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  test("hold the time they were made at", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 48 - 2 }), (now) => {
        expect(timeOfId(createIdFactory({ ...createFakeClock(), now: () => now })())).toBe(now);
      }),
    );
    expect(timeOfId("order-7")).toBeUndefined();
  });
});

describe("strict JSON", () => {
  test("gives back what JSON can hold", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        fc.pre(!JSON.stringify(value).includes("__proto__"));
        expect(jsonCodec.decode(Buffer.from(jsonCodec.encode(value)))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test("writes dates as text, leaves out what is undefined, and uses toJSON", () => {
    const value = { at: new Date(0), nothing: undefined, money: { toJSON: () => "1 EUR" } };
    expect(jsonCodec.encode(value)).toBe('{"at":"1970-01-01T00:00:00.000Z","money":"1 EUR"}');
  });

  const cyclic: unknown[] = [];
  cyclic.push(cyclic);
  let deep: unknown = 1;
  for (let level = 0; level < 65; level += 1) deep = { deep };
  class Accessors {
    get value(): number {
      return 1;
    }
  }
  const throwing = {
    get trap(): never {
      throw new Error("boo");
    },
  };
  test.each([
    ["undefined", undefined, "payload is undefined"],
    ["a function", { handler: () => 1 }, "payload.handler is a function"],
    ["a symbol", [Symbol("x")], "payload[0] is a symbol"],
    ["a BigInt", { a: { b: [0, 1n] } }, "payload.a.b[1] is a bigint"],
    ["NaN", { n: Number.NaN }, "payload.n is NaN"],
    ["an infinity", [Number.NEGATIVE_INFINITY], "payload[0] is -Infinity"],
    ["a hole", [1, undefined], "payload[1] is undefined"],
    ["a Map", { m: new Map() }, "payload.m is a Map"],
    ["a Set", new Set([1]), "payload is a Set"],
    ["an invalid date", { d: new Date(Number.NaN) }, "payload.d is an invalid Date"],
    ["bytes inside", { b: new Uint8Array(1) }, "payload.b holds bytes"],
    ["a buffer inside", { b: Buffer.from("x") }, "payload.b holds bytes"],
    ["a cycle", cyclic, "contains itself"],
    ["too deep a value", deep, "deeper than 64"],
    ["a getter that throws", throwing, "getters"],
    ["a toJSON that throws", { toJSON: () => throwing.trap }, "toJSON"],
    ["a toJSON that gives what JSON would empty", { when: { toJSON: () => new Date(0) } }, "payload.when is a Date"],
    ["a promise", { user: Promise.resolve(1) }, "payload.user is a promise"],
    ["a promise with fields", Object.assign(Promise.resolve(1), { id: 1 }), "payload is a promise"],
    ["an Error", { cause: new TypeError("x") }, "payload.cause is a TypeError"],
    ["an Error with fields", { cause: Object.assign(new Error("x"), { code: "E" }) }, "payload.cause is an Error"],
    ["a regular expression", { r: /x/ }, "payload.r is a RegExp"],
    ["an ArrayBuffer", { b: new ArrayBuffer(1) }, "payload.b is an ArrayBuffer"],
    ["an object of accessors alone", { v: new Accessors() }, "payload.v is an Accessors"],
    ["a boxed NaN", { n: new Number(Number.NaN) }, "payload.n is NaN"],
    ["a boxed BigInt", { n: Object(1n) as unknown }, "payload.n is a bigint"],
    ["a boxed symbol", { s: Object(Symbol("x")) as unknown }, "payload.s is a symbol"],
    ["too many values", Array.from({ length: 1_000_001 }, () => 0), "more than 1000000 values"],
  ])("refuses %s, naming the path", (_, value, message) => {
    expect(() => jsonCodec.encode(value)).toThrow(
      expect.objectContaining({ code: "CODEC", message: expect.stringContaining(message) }),
    );
  });

  test("writes instances that have fields, boxed primitives, and plain objects of any realm and of none", () => {
    class Point {
      x = 1;
    }
    const value = {
      point: new Point(),
      boxed: [new Number(1), new String("s"), new Boolean(false)],
      bare: Object.assign(Object.create(null) as object, { a: 1 }),
      empty: [{}, Object.create(null), runInNewContext("({})")] as unknown[],
      foreign: runInNewContext("({ list: [1] })") as unknown,
    };
    expect(jsonCodec.encode(value)).toBe(
      '{"point":{"x":1},"boxed":[1,"s",false],"bare":{"a":1},"empty":[{},{},{}],"foreign":{"list":[1]}}',
    );
  });

  test("passes over what somebody has added to all objects, which is not written", () => {
    const everything = Object.prototype as { added?: unknown };
    everything.added = () => 1;
    try {
      expect(jsonCodec.encode({ a: 1, b: [{ c: "d" }] })).toBe('{"a":1,"b":[{"c":"d"}]}');
      expect(() => jsonCodec.encode({ added: () => 1 })).toThrow("payload.added is a function");
    } finally {
      delete everything.added;
    }
  });

  test("refuses what is shared so often that its text would never end, at once", () => {
    let shared: unknown = 1;
    for (let level = 0; level < 40; level += 1) shared = { a: shared, b: shared };
    const start = performance.now();
    expect(() => jsonCodec.encode(shared)).toThrow(expect.objectContaining({ code: "CODEC" }));
    expect(performance.now() - start).toBeLessThan(2_000);
    // The count is each payload's own.
    for (let index = 0; index < 3; index += 1) jsonCodec.encode(Array.from({ length: 600_000 }, () => 0));
  });

  test.each([
    '{"\\u005f_proto__":{"admin":true}}',
    '{"_\\u005Fproto__":{"admin":true}}',
    '{"__\\u0070roto__":{"admin":true}}',
    '{"__pr\\u006fto__":{"admin":true}}',
    '{"__pro\\u0074o__":{"admin":true}}',
  ])("never lets %s through, which is an own __proto__", (text) => {
    expect(Object.getOwnPropertyNames(jsonCodec.decode(Buffer.from(text)))).toEqual([]);
  });

  test("never lets an own __proto__ through, nor bytes that are no JSON", () => {
    const decoded = jsonCodec.decode(Buffer.from('{"a":{"__proto__":{"admin":true}},"b":1}'));
    expect(Object.hasOwn((decoded as { a: object }).a, "__proto__")).toBe(false);
    for (const bytes of [Buffer.from("{"), Buffer.from([0xff, 0xfe]), Buffer.alloc(0)]) {
      expect(() => jsonCodec.decode(bytes)).toThrow(expect.objectContaining({ code: "CODEC" }));
    }
  });
});

describe("what is published", () => {
  const runtime: Runtime = {
    backend: {} as Backend, // Encoding asks nothing of it.
    clock: createFakeClock(),
    telemetry: createTelemetry(stderrLogger),
    contract: undefined,
    codec: jsonCodec,
    codecs: new Codecs({ namespace: "default", codec: jsonCodec, transforms: [] }),
    middleware: [],
    source: "signalbox",
    maxPayloadBytes: 1_000,
    streams: {} as Streams, // Nor of these.
    owner: new Owner(createFakeClock()),
    createId: () => "id",
    report: () => undefined,
  };
  const nothing = {
    idIsPosition: false,
    key: undefined,
    target: undefined,
    priority: undefined,
    expiresAt: undefined,
    schemaVersion: undefined,
  };
  const routing: Routing = { channel: "c", type: "c", isBare: true, ...nothing };

  test("takes the short way to its header when nothing is said of it", () => {
    const untouched: Routing = {
      ...nothing,
      isBare: true,
      get type(): never {
        throw new Error("the long way");
      },
      get channel(): never {
        throw new Error("the long way");
      },
    };
    expect(encodeOutgoing(runtime, untouched, { a: 1 })).toMatchObject({ header: "1\u001fid", data: '{"a":1}' });
    expect(() => encodeOutgoing(runtime, untouched, { a: 1 }, { correlationId: "x" })).toThrow("the long way");
    expect(() => encodeOutgoing(runtime, untouched, new Uint8Array(1))).toThrow("the long way");
  });

  test.each([
    ["null", null],
    ["a text", "abc"],
    ["a list", ["a"]],
    ["a Map", new Map([["a", "b"]])],
    ["fetch's Headers", new Headers({ a: "b" })],
    ["inherited ones", Object.create({ a: "b" }) as object],
    ["a number's", { a: 1 }],
  ])("has headers of text, not %s", (_, headers) => {
    expect(() => encodeOutgoing(runtime, routing, 1, { headers: headers as never })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining("header") }),
    );
  });
});
