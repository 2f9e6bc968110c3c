/** Versions of schemas: what is older is upgraded before it is checked, what is newer is refused. */

import { expect, test } from "vitest";
import { z } from "zod";
import { defineContract } from "../../src/core/contract.js";
import { createPayload } from "../../src/core/payload.js";

const schema = z.object({ euros: z.number() });
const upgrade = (data: unknown, from: number): unknown => {
  const { cents, price } = data as { cents?: number; price?: number };
  return from < 2 ? { euros: (cents ?? 0) / 100 } : { euros: price };
};
const order = createPayload("order", { schema, version: 3, upgrade });

test("what is older is upgraded from its version, then checked; what names no version is of version 0", () => {
  expect(order.version).toBe(3);
  expect(order.read({ euros: 5 }, 3)).toEqual({ euros: 5 });
  expect(order.read({ price: 5 }, 2)).toEqual({ euros: 5 });
  expect(order.read({ cents: 500 }, undefined)).toEqual({ euros: 5 });
  expect(() => order.read({ wrong: 1 }, 2)).toThrow("euros");
  expect(() => order.read({ price: 5 }, 3)).toThrow(expect.objectContaining({ code: "SCHEMA" }));
});

test("an upgrade may be asynchronous, and a failing one refuses the message for good", async () => {
  const later = createPayload("order", { schema, version: 2, upgrade: async (data) => upgrade(data, 0) });
  expect(await later.read({ cents: 100 }, 1)).toEqual({ euros: 1 });
  const fail = (): never => {
    throw new Error("no such currency");
  };
  const failing = createPayload("order", { schema, version: 2, upgrade: fail });
  const refused = { code: "SCHEMA", message: expect.stringContaining("from version 1: no such currency") };
  expect(() => failing.read({}, 1)).toThrow(expect.objectContaining(refused));
  const rejecting = createPayload("order", { schema, version: 2, upgrade: async () => fail() });
  await expect(rejecting.read({}, 1)).rejects.toMatchObject(refused);
});

test("a version that is newer, or that nothing upgrades from, is refused by its number", () => {
  expect(() => order.read({ euros: 5 }, 999)).toThrow("version 999, and this contract knows 3");
  const first = createPayload("order", { schema, version: 1 });
  expect(() => first.read({ euros: 5 }, undefined)).toThrow("no upgrade from it");
});

test.each([
  [{ schema, version: 0 }, '["a"].version must be a whole number'],
  [{ schema }, '["a"].version must be a whole number'],
  [{ version: 1 }, '["a"].schema is no Standard Schema'],
  [{ schema, version: 1, upgrade: true }, '["a"].upgrade must be a function'],
  [{ schema, verison: 1, version: 1 }, 'unknown key "verison", did you mean "version"?'],
])("a versioned entry that is none is refused: %#", (entry, problem) => {
  expect(() => defineContract({ events: { a: entry as never } })).toThrow(
    expect.objectContaining({ code: "CONFIG", message: expect.stringContaining(problem) }),
  );
});
