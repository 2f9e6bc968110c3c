/** Globs: what their wild cards stand for, however many ways there are to match. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { compileCaptures, compileGlob } from "../../src/core/glob.js";

test.each([
  ["events.*", "events.signup", ["signup"]],
  ["events.*", "events.", [""]],
  ["events.*", "event", undefined],
  ["*", "anything at all", ["anything at all"]],
  ["*.*", "a.b.c", ["a", "b.c"]],
  ["chat.*.typing", "chat.a.b.typing", ["a.b"]],
  ["user:?", "user:ä", ["ä"]],
  ["user:[ab]*", "user:beta", ["b", "eta"]],
  ["a**b", "axyb", ["xy"]],
  ["exact", "exact", []],
  ["a\\*b", "a*b", []],
  ["*a*a", "aaa", ["", "a"]],
] as const)("%j takes %j apart", (pattern, name, captures) => {
  expect(compileCaptures(pattern)(name)).toEqual(captures);
});

test("captures are those of a lazy expression, and are there for just the names that match", () => {
  const text = (chars: string) => fc.string({ unit: fc.constantFrom(...chars.split("")), maxLength: 8 });
  fc.assert(
    fc.property(text("ab.*?"), text("ab."), (glob, name) => {
      const pattern = glob.replaceAll(/\*+/g, "*");
      const source = pattern.replaceAll(".", "\\.").replaceAll("?", "(.)").replaceAll("*", "(.*?)");
      const expected = new RegExp(`^${source}$`).exec(name)?.slice(1);
      expect(compileCaptures(pattern)(name)).toEqual(expected);
      expect(compileGlob(pattern)(name)).toBe(expected !== undefined);
    }),
    { numRuns: 5_000 },
  );
});
