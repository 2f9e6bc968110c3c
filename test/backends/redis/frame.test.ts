/** Frames: what one backend writes on a channel, another reads; and anything else is somebody else's. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { createWire, fitting } from "../../../src/backends/redis/frame.js";
import { bytesOf } from "../../../src/core/bytes.js";

const marks = fc.constantFrom("1", "a", ":", "\n", "\u0001", "\u0002");
const texts = fc.array(fc.oneof(marks, fc.string({ unit: "binary", maxLength: 3 }))).map((parts) => parts.join(""));
const messages = fc.array(fc.oneof(texts, fc.uint8Array()), { minLength: 1, maxLength: 20 });

function sent(frame: unknown): Buffer {
  return Buffer.from(frame as string);
}

function hex(data: string | Uint8Array): string {
  return Buffer.from(bytesOf(data)).toString("hex");
}

test("messages come out as they went in, however many go together and whatever they hold", () => {
  const [writer, reader] = [createWire(), createWire()];
  fc.assert(
    fc.property(fc.oneof(messages, fc.array(texts, { minLength: 1 })), (all) => {
      expect(reader.unpack(sent(writer.pack(all))).map(hex)).toEqual(all.map(hex));
    }),
  );
});

test("what one has sent oneself is passed over without being read", () => {
  const wire = createWire();
  fc.assert(
    fc.property(messages, (all) => {
      expect(wire.unpack(sent(wire.pack(all)))).toEqual([]);
    }),
  );
});

test("what is no frame, or one that was damaged, is heard as it is or in pieces, and never throws", () => {
  const [writer, reader] = [createWire(), createWire()];
  expect(reader.unpack(Buffer.from("plain"))).toEqual([Buffer.from("plain")]);
  for (const mark of ["\u0001", "\u0002", "\u0003"]) {
    const short = Buffer.from(`${mark}short`);
    expect(reader.unpack(short)).toEqual([short]);
    for (const body of ["5:abc", "!:a", "zzzzzzzz:", "3abc", ":", "2"].slice(mark === "\u0001" ? 6 : 0)) {
      const heard = Buffer.from(`${mark}12345678${body}`);
      expect(reader.unpack(heard)).toEqual([heard]);
    }
  }
  fc.assert(
    fc.property(messages, fc.nat(), fc.nat(255), (all, at, byte) => {
      const frame = sent(writer.pack(all));
      frame[at % frame.length] = byte;
      expect(reader.unpack(frame).length).toBeLessThanOrEqual(frame.length);
    }),
  );
});

test("more messages than a frame takes are no frame, so that none costs more to read than it may", () => {
  const reader = createWire();
  for (const mark of ["\u0002", "\u0003"]) {
    const frame = (count: number): Buffer => Buffer.from(`${mark}12345678${"0:".repeat(count)}`);
    expect(reader.unpack(frame(256))).toHaveLength(256);
    expect(reader.unpack(frame(257))).toEqual([frame(257)]);
  }
});

test("a frame takes at most 256 messages and about 64 KiB, and any one message", () => {
  expect(
    fitting(
      Array.from({ length: 300 }, () => "x"),
      0,
    ),
  ).toBe(256);
  expect(
    fitting(
      Array.from({ length: 300 }, () => "x"),
      100,
    ),
  ).toBe(200);
  expect(fitting(["x".repeat(40_000), "x".repeat(30_000)], 0)).toBe(1);
  expect(fitting(["x".repeat(200_000), "x"], 0)).toBe(1);
});
