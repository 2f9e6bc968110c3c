/** Payload encryption: keys by name, bound to where the message is, and no way around it. */

import { randomBytes } from "node:crypto";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Codecs } from "../../src/core/codecs.js";
import type { Envelope } from "../../src/core/message.js";
import { type EncryptionOptions, encryption, jsonCodec } from "../../src/index.js";

const keys = { old: randomBytes(32), new: randomBytes(32) };
const place = { id: "m-1", type: "order.created", channel: "orders" };

function codecs(options: EncryptionOptions, namespace = "shop"): Codecs {
  return new Codecs({ namespace, codec: jsonCodec, transforms: [encryption(options).payload ?? never()] });
}

function never(): never {
  throw new Error("encryption has no payload");
}

const both = codecs({ keys, current: "new" });
const sealed = both.transform('{"iban":"DE02"}', "json", place);
const read = (data: Uint8Array, how: Codecs = both, envelope: Partial<Envelope> = {}) =>
  how.decode(data, { ...place, contentType: sealed.contentType, ...envelope } as Envelope);

test("what is encrypted says with which key, shows nothing else, and comes back", () => {
  expect(sealed.contentType).toBe("encrypted+json");
  expect(Buffer.from(sealed.data).toString("latin1")).toContain("\u0001\u0003new");
  expect(Buffer.from(sealed.data).includes("DE02")).toBe(false);
  expect(read(sealed.data)).toEqual({ iban: "DE02" });
  const bytes = both.transform(new Uint8Array([1, 2]), "bytes", place);
  expect(new Uint8Array(read(bytes.data, both, bytes) as Uint8Array)).toEqual(new Uint8Array([1, 2]));
});

test("no two messages are encrypted alike", () => {
  const seen = new Set(
    Array.from({ length: 1_000 }, () => Buffer.from(both.transform("1", "json", place).data).toString("hex")),
  );
  expect(seen.size).toBe(1_000);
});

test("older keys decrypt until they are taken away, whichever is the current one", () => {
  const before = codecs({ keys: { old: keys.old }, current: "old" });
  const old = before.transform("1", "json", place);
  expect(read(old.data)).toBe(1);
  expect(() => read(sealed.data, before)).toThrow(
    expect.objectContaining({ code: "CODEC", message: expect.stringContaining('no key "new"') }),
  );
  const wrong = codecs({ keys: { new: randomBytes(32) }, current: "new" });
  expect(() => read(sealed.data, wrong)).toThrow("does not decrypt");
});

test.each([
  ["id", read.bind(undefined, sealed.data, both, { id: "m-2" })],
  ["type", read.bind(undefined, sealed.data, both, { type: "order.paid" })],
  ["channel", read.bind(undefined, sealed.data, both, { channel: "order" })],
  ["target", read.bind(undefined, sealed.data, both, { target: "mallory" })],
  ["request", read.bind(undefined, sealed.data, both, { causationId: "m-0" })],
  ["inbox for answers", read.bind(undefined, sealed.data, both, { replyTo: "mallory" })],
  ["content type", read.bind(undefined, sealed.data, both, { contentType: "encrypted+bytes" })],
  ["namespace", read.bind(undefined, sealed.data, codecs({ keys, current: "new" }, "shop2"))],
])("a payload that was moved to another %s does not decrypt", (_, moved) => {
  expect(moved).toThrow(expect.objectContaining({ code: "CODEC" }));
});

test.each([{ target: "ada" }, { causationId: "m-0" }, { replyTo: "ada" }])(
  "a payload of a message with %o decrypts with that alone",
  (bound) => {
    const { data } = both.transform("1", "json", { ...place, ...bound });
    expect(read(data, both, bound)).toBe(1);
    for (const moved of [
      {},
      { target: "x" },
      { target: "ada", replyTo: "ada" },
      { causationId: "ada" },
      { replyTo: "m-0" },
    ])
      expect(() => read(data, both, moved)).toThrow("does not decrypt");
  },
);

test("whatever is changed or cut off, it is a CodecError and never a payload", () => {
  fc.assert(
    fc.property(fc.nat({ max: sealed.data.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, by) => {
      const changed = Uint8Array.from(sealed.data);
      changed[at] = (changed[at] ?? 0) ^ by;
      for (const bytes of [changed, sealed.data.subarray(0, at)])
        expect(() => read(bytes)).toThrow(expect.objectContaining({ code: "CODEC" }));
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(() => read(bytes)).toThrow(expect.objectContaining({ code: "CODEC" }));
    }),
  );
});

test("what is not encrypted is refused, unless publishers are being switched over", () => {
  const plain = Buffer.from("1");
  expect(() => both.decode(plain, undefined)).toThrow("what is so is refused");
  expect(() => read(plain, both, { contentType: "json" })).toThrow("what is so is refused");
  const lenient = codecs({ keys, current: "new", plain: "accept" });
  expect(lenient.decode(plain, undefined)).toBe(1);
  expect(read(sealed.data, lenient)).toEqual({ iban: "DE02" });
});

test("transforms are undone in reverse, each once, and what a reader lacks is named", () => {
  const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 255);
  const flipping = { tag: "flip", untagged: "accept", encode: flip, decode: flip } as const;
  const transforms = [flipping, encryption({ keys, current: "new" }).payload ?? never()];
  const two = new Codecs({ namespace: "shop", codec: jsonCodec, transforms });
  const made = two.transform("7", "json", place);
  expect(made.contentType).toBe("encrypted+flip+json");
  expect(read(made.data, two, made)).toBe(7);
  expect(() => read(made.data, both, made)).toThrow('no codec for "flip+json"');
  const without = new Codecs({ namespace: "shop", codec: jsonCodec, transforms: [] });
  expect(() => read(made.data, without, made)).toThrow("pass the codec or the middleware");
  const one = new Codecs({ namespace: "shop", codec: jsonCodec, transforms: [flipping] });
  expect(() => read(made.data, one, { contentType: `${"flip+".repeat(50)}json` })).toThrow('no codec for "flip+flip');
});

test.each([
  [undefined, "must be a plain object"],
  [{ keys: {}, current: "a" }, "a key of 32 bytes for each id"],
  [{ keys: { a: randomBytes(16) }, current: "a" }, 'the key "a" must be a Uint8Array of 32 bytes, and is 16 bytes'],
  [{ keys: { a: "x".repeat(32) }, current: "a" }, "and is a string"],
  [{ keys: { "a b": randomBytes(32) }, current: "a b" }, 'key id "a b"'],
  [{ keys: { a: randomBytes(32) }, current: "b" }, "current must be the id of one of the keys"],
  [{ keys: { a: randomBytes(32) }, currant: "a" }, 'did you mean "current"?'],
  [{ keys: { a: randomBytes(32) }, current: "a", plain: "ok" }, "plain must be"],
])("options that cannot work are refused without showing a key: %#", (options, problem) => {
  expect(() => encryption(options as EncryptionOptions)).toThrow(
    expect.objectContaining({ code: "CONFIG", message: expect.stringContaining(problem) }),
  );
});
