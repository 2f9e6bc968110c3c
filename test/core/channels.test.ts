/** The contract's channels: the template that a name belongs to, and what is said to who names none of them. */

import { expect, test } from "vitest";
import { z } from "zod";
import { Channels } from "../../src/core/channels.js";
import { defineContract } from "../../src/core/contract.js";

const text = z.string();
const channels = new Channels(
  defineContract({
    channels: {
      notifications: text,
      "events.{type}": z.object({ id: z.number() }),
      "chat.{room}": text,
      "chat.{room}.typing": z.boolean(),
      "chat.lobby": z.number(),
      "{kind}.{id}.log": text,
    },
  }),
);

test.each([
  ["notifications", "notifications", {}],
  ["events.signup", "events.{type}", { type: "signup" }],
  ["chat.kitchen", "chat.{room}", { room: "kitchen" }],
  ["chat.lobby", "chat.lobby", {}],
  ["chat.lobby.typing", "chat.{room}.typing", { room: "lobby" }],
  ["chat.a%2Eb", "chat.{room}", { room: "a.b" }],
  ["chat.7.log", "{kind}.{id}.log", { kind: "chat", id: "7" }],
])("[D22] %s belongs to the most specific template that makes it, %s", (name, template, params) => {
  const found = channels.of(name);
  expect(found.channel.template).toBe(template);
  expect(found.params).toEqual(params);
});

test.each([
  ["notification", 'did you mean "notifications"?'],
  ["events.user.signup", 'with that value it is "events.user%2Esignup"'],
  ["chat.café", 'with that value it is "chat.caf%C3%A9"'],
  ["chat.{room}", 'holds "{"'],
  ["nothing-like-it", "known: "],
])("a name of no channel is refused, saying what was meant: %s", (name, hint) => {
  expect(() => channels.of(name)).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(hint) }),
  );
});

test.each([
  ["events.*", ["events.{type}"]],
  ["events.order[ab]*", ["events.{type}"]],
  ["chat.*", ["chat.{room}"]],
  ["chat.*.typing", ["chat.{room}.typing"]],
  ["*.7.log", ["{kind}.{id}.log"]],
  ["chat.*.log", ["chat.{room}", "{kind}.{id}.log"]],
])("the pattern %s is for the channels whose template it fits", (pattern, templates) => {
  const found = channels.ofPattern(pattern)?.map((each) => each.channel.template);
  expect(found?.toSorted()).toEqual(templates.toSorted());
});

test("a pattern or template that fits none is refused; without a contract everything is a channel of its own", () => {
  expect(() => channels.ofPattern("order.*")).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  expect(() => channels.ofTemplate("chat.{rooms}")).toThrow('did you mean "chat.{room}"?');
  expect(channels.ofTemplate("chat.{room}").channel.pattern).toBe("chat.*");
  const open = new Channels(undefined);
  expect(open.ofPattern("order.*")).toBeUndefined();
  expect(open.of("any.thing").params).toEqual({});
  expect(open.ofTemplate("user:{id}").channel.params("user:7")).toEqual({ id: "7" });
});

test("templates of which one name could belong to two are refused where they are declared", () => {
  const define = (channels: Record<string, typeof text>) => () => defineContract({ channels });
  expect(define({ "{a}.x": text, "y.{b}": text })).toThrow("names in common, and neither is the more specific");
  expect(define({ "user:{id}": text, "user:{name}": text })).toThrow("have the same names");
  expect(define({ "user:{id}": text, "user:{id": text, "{a}{b}": text })).toThrow(
    expect.objectContaining({
      code: "CONFIG",
      problems: [expect.stringContaining("no closing brace"), expect.stringContaining("could not be told apart")],
    }),
  );
  expect(define({ "cafe\u0301.{x}": text })).toThrow("normal form C");
});

test("a name or pattern that was made to fit almost, in as many ways as can be, is refused at once", () => {
  const many = new Channels(defineContract({ channels: { "{a}.{b}.{c}.{d}.{e}.{f}.x": text } }));
  const startedAt = performance.now();
  for (const refuse of [() => many.of(`${".".repeat(100)}y`), () => many.ofPattern(`${".".repeat(100)}*`)])
    expect(refuse).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  expect(performance.now() - startedAt).toBeLessThan(1_000);
  expect(() => many.of("1.2.3.4.5.6.7.x")).toThrow('with that value it is "1.2.3.4.5.6%2E7.x"');
});
