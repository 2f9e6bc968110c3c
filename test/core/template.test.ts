/** Templates: one grammar for every separator, and values that come back whatever they hold. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compileGlob } from "../../src/core/glob.js";
import { channel, relate } from "../../src/core/template.js";

/** Well-formed text of any characters, those that mean something in names and patterns most of all. */
const value = fc.oneof(
  fc.string({ unit: "binary", minLength: 1, maxLength: 12 }),
  fc.string({ unit: fc.constantFrom(...Array.from("a.:/{}*?[]%\\ -_é\u0301")), minLength: 1, maxLength: 6 }),
  fc.constantFrom(".", "..", "%", "%2E", "__proto__", "a/b", "a:b", "a.b"),
);
const SEPARATORS = [".", ":", "/", "::", "é", " of "];
const separator = fc.constantFrom(...SEPARATORS);

describe("[D22] a template", () => {
  test("gives the name to publish to, the pattern to subscribe to, and the parameters back", () => {
    const user = channel("user:{id}");
    expect(user.name({ id: "7" })).toBe("user:7");
    expect(user.pattern).toBe("user:*");
    expect(user.params("user:7")).toEqual({ id: "7" });
    expect(user.paramNames).toEqual(["id"]);
    expect(user.params("user:7:devices")).toBeUndefined();
    expect(user.params("users:7")).toBeUndefined();
    expect(user.params("user:")).toBeUndefined();
  });

  test("without parameters is a name", () => {
    const exact = channel("notifications");
    expect(exact.name({})).toBe("notifications");
    expect(exact.pattern).toBe("notifications");
    expect(exact.params("notifications")).toEqual({});
    expect(exact.params("notifications.x")).toBeUndefined();
  });

  test("reads no name that it would write otherwise: of one set of values there is one name", () => {
    const chat = channel("chat.{room}");
    for (const name of ["chat.a.b", "chat.a%2eb", "chat.%41", "chat.%", "chat.%FF", "chat.é", "chat.a b"])
      expect(chat.params(name)).toBeUndefined();
    expect(chat.params("chat.a%2Eb")).toEqual({ room: "a.b" });
  });
});

test("[X2] rooms `a/b`, `a:b` and `a.b` never share a name, whatever separates the template", () => {
  for (const template of ["chat.{room}", "chat:{room}", "chat/{room}"] as const) {
    const names = ["a/b", "a:b", "a.b", "a%2Fb", "a_b", "a-b"].map((room) => channel(template).name({ room }));
    expect(new Set(names).size).toBe(names.length);
  }
});

test("[X2] parameters of any text come back from the name, and no two sets of them share one", () => {
  fc.assert(
    fc.property(separator, fc.tuple(value, value), fc.tuple(value, value), (between, [a, b], [c, d]) => {
      const pair = channel(`pairs/{a}${between}{b}`);
      const texts = { a, b } as Record<string, string>;
      const others = { a: c, b: d } as Record<string, string>;
      // What is too long for a name says so; the rest comes back.
      fc.pre(longest(a, b) && longest(c, d));
      const name = pair.name(texts as never);
      expect(pair.params(name)).toEqual(texts);
      expect(name).toBe(name.normalize("NFC"));
      expect(compileGlob(pair.pattern)(name)).toBe(true);
      expect(pair.name(others as never) === name).toBe(a === c && b === d);
    }),
    { numRuns: 2_000 },
  );
});

function longest(...values: string[]): boolean {
  return encodeURIComponent(values.join("....")).length < 150;
}

test.each([
  ["chat.{room", "no closing brace"],
  ["chat.room}", 'holds "}"'],
  ["chat.{}", "is no parameter"],
  ["chat.{room id}", "is no parameter"],
  ["chat.{__proto__}", "is no parameter"],
  ["chat.{a{b}}", "no closing brace"],
  ["{a}.{a}", "stands in it twice"],
  ["{a}{b}", "could not be told apart"],
  ["{a}-{b}", "could not be told apart"],
  ["{a}\u0301", "would join the value"],
  ["100%.{a}", "begins an escape"],
  ["events.*", 'holds "*"'],
  [" {a}", "white space"],
  ["", "empty"],
])("refuses %j, and says why", (template, problem) => {
  expect(() => channel(template)).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(problem) }),
  );
});

test.each([
  [{}, "{room}"],
  [{ room: "" }, "not empty"],
  [{ room: 7 }, "not 7"],
  [{ room: "\ud800" }, "valid Unicode"],
  [{ rom: "a" }, 'did you mean "room"?'],
  [{ room: "a", more: "b" }, "{more}"],
  [Object.create({ room: "a" }), "plain object"],
  [undefined, "plain object"],
  [{ room: "ä".repeat(34) }, "at most 200"],
])("refuses the parameters %j, and says why", (params, problem) => {
  expect(() => channel("chat.{room}").name(params as { room: string })).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(problem) }),
  );
});

test.each([
  ["chat.lobby", "chat.{room}", "within"],
  ["chat.{room}", "chat.lobby", "around"],
  ["chat.{room}", "chat.{id}", "same"],
  ["chat.{room}", "chat.{room}.typing", "apart"],
  ["chat.{room}", "chat:{room}", "apart"],
  ["chat.vip-{room}", "chat.{room}", "within"],
  ["{a}.x", "y.{b}", "across"],
  ["{kind}.{id}", "chat.{room}", "around"],
  ["a{x}.z", "{x}b.z", "across"],
  ["a{x}", "ab{x}", "around"],
  ["a{x}a", "a", "apart"],
  ["ab{x}", "ac{x}", "apart"],
  ["chat.", "chat.{x}", "apart"],
] as const)("%s lies to %s as: %s", (one, other, relation) => {
  expect(relate(channel(one), channel(other))).toBe(relation);
});

test("how two templates lie to each other agrees with the names they make", () => {
  const template = fc
    .array(fc.constantFrom("a", "b", ".", "-", "{}"), { minLength: 1, maxLength: 5 })
    .map((parts) => parts.map((part, index) => (part === "{}" ? `{p${index}}` : part)).join(""))
    .filter((text) => !/\}[^.]*\{/.test(text));
  const names = fc.array(fc.constantFrom("a", "b", ".", "-"), { minLength: 1, maxLength: 6 }).map((c) => c.join(""));
  fc.assert(
    fc.property(template, template, fc.array(names, { minLength: 20 }), (one, other, tried) => {
      const [left, right] = [channel(one), channel(other)];
      const relation = relate(left, right);
      for (const name of tried) {
        const [inLeft, inRight] = [left.params(name) !== undefined, right.params(name) !== undefined];
        if (relation === "apart") expect(inLeft && inRight).toBe(false);
        if (relation === "within" || relation === "same") expect(inLeft && !inRight).toBe(false);
        if (relation === "around" || relation === "same") expect(inRight && !inLeft).toBe(false);
      }
    }),
    { numRuns: 500 },
  );
});
