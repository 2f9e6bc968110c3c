/** Options: what is read is what was checked, and what is no options object is refused. */

import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { anInteger, assertKnown, assertSignal, checkOptions, nested } from "../../src/core/options.js";

interface Options {
  readonly concurrency?: number;
  readonly retry?: { readonly maxAttempts?: number };
}

const CHECKS = { concurrency: anInteger(1), retry: nested({ maxAttempts: anInteger(1) }) };
const KNOWN = new Set(["concurrency"]);

class Settings {
  concurrency = 1;
}

const noPlainObjects: readonly [string, unknown][] = [
  ["options that inherit others", Object.create({ concurrency: Number.NaN })],
  [
    "options that inherit from no object",
    Object.create(Object.assign(Object.create(null) as object, { concurrency: Number.NaN })),
  ],
  ["an instance", new Settings()],
  ["an array", []],
  ["a Map", new Map([["concurrency", 1]])],
  ["null", null],
  ["a text", "concurrency"],
  ["a function", () => 1],
];

test.each(noPlainObjects)("refuses %s", (_, options) => {
  expect(() => checkOptions<Options>("subscribe", options as Options, CHECKS)).toThrow(
    expect.objectContaining({ code: "CONFIG", message: expect.stringContaining("subscribe: options must be a plain") }),
  );
  expect(() => assertKnown("publish", options as object, KNOWN)).toThrow(
    expect.objectContaining({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("publish: options must be a plain"),
    }),
  );
});

test("refuses inherited options within options", () => {
  const options = { retry: Object.create({ maxAttempts: Number.NaN }) as object };
  expect(() => checkOptions<Options>("subscribe", options, CHECKS)).toThrow(
    expect.objectContaining({ code: "CONFIG", message: expect.stringContaining("plain") }),
  );
});

test("checks options that cannot be enumerated, since they are read all the same", () => {
  const options = Object.defineProperty({}, "concurrency", { value: Number.NaN });
  expect(() => checkOptions<Options>("subscribe", options, CHECKS)).toThrow(/concurrency must be a whole number/);
});

test("takes plain objects of any realm and of none", () => {
  for (const options of [
    { concurrency: 1 },
    Object.assign(Object.create(null) as object, { concurrency: 1 }),
    runInNewContext("({ concurrency: 1 })") as object,
  ]) {
    expect(() => checkOptions<Options>("subscribe", options, CHECKS)).not.toThrow();
    expect(() => assertKnown("publish", options, KNOWN)).not.toThrow();
  }
});

test.each([[{}], ["abort"], [null], [new AbortController()]])("a signal is an AbortSignal, not %j", (signal) => {
  expect(() => assertSignal(signal)).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining("AbortSignal") }),
  );
});

test("a signal may be absent", () => {
  expect(() => assertSignal(undefined)).not.toThrow();
  expect(() => assertSignal(AbortSignal.abort())).not.toThrow();
});
