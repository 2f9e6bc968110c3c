/** Advice on names: short ones, odd words, and separators that differ. */

import { expect, test } from "vitest";
import { z } from "zod";
import { defineContract, lintNames } from "../../src/index.js";

const text = z.string();
const named = (...names: string[]) =>
  defineContract({ channels: Object.fromEntries(names.map((name) => [name, text])) });

test("[D23] names that say little are named, and names that read well are not", () => {
  expect(lintNames(named("notifications", "presence", "user.{id}", "events.{type}", "chat.{room}.typing"))).toEqual([]);
  expect(lintNames(named("ch1", "un"))).toEqual([
    'contract.channels["ch1"] is short: 3 characters of its own, and 4 say more',
    'contract.channels["un"] is short: 2 characters of its own, and 4 say more',
  ]);
});

test("[D23] words of other characters are named", () => {
  expect(lintNames(named("Order.Created", "order.created_at", "chat.x{room}"))).toEqual([
    'contract.channels["Order.Created"]: the word "Order" does not match /^[a-z][a-z0-9-]*$/',
    'contract.channels["order.created_at"]: the word "created_at" does not match /^[a-z][a-z0-9-]*$/',
    'contract.channels["chat.x{room}"]: the word "x{}" does not match /^[a-z][a-z0-9-]*$/',
  ]);
  expect(lintNames(named("Order.Created"), { word: /^[A-Z]\w+$/g })).toEqual([]);
});

test("[D23] one separator here and another there is named", () => {
  expect(lintNames(named("events.{type}", "user:{id}"))).toEqual([
    'contract.channels["user:{id}"] separates with ":", and others with "."',
  ]);
  expect(lintNames(named("events.{type}"), { separator: ":" })).toHaveLength(1);
});

test("every section has names, and rules that are none are refused", () => {
  const contract = defineContract({
    events: { ev: text },
    queues: { q: text },
    agents: { a: { receives: text, replies: text } },
    rooms: { r: { chat: text } },
  });
  expect(lintNames(contract)).toHaveLength(4);
  expect(lintNames(contract, { minLength: 1 })).toEqual([]);
  expect(() => lintNames(contract, { minLength: 0 })).toThrow(expect.objectContaining({ code: "CONFIG" }));
  expect(() => lintNames(contract, { seperator: "." } as object)).toThrow('did you mean "separator"?');
});
