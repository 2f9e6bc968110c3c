/** What `connect` is told of streams: every problem at once, and which type is in which stream. */

import { expect, test } from "vitest";
import { z } from "zod";
import type { Log, Retention } from "../../src/core/backend.js";
import { declareStreams, findStreamProblems, type StreamOptions } from "../../src/core/streams.js";
import { defineContract } from "../../src/index.js";

/** A log that has stored these limits, by stream. */
function logOf(stored: Record<string, Retention> = {}): { log: Log; configured: [string, Retention][] } {
  const configured: [string, Retention][] = [];
  const log: Partial<Log> = {
    async configure(stream, retention) {
      configured.push([stream, retention]);
      return stored[stream] ?? retention;
    },
  };
  return { log: log as Log, configured }; // Nothing else is asked of it.
}

test("every problem of every stream is told at once", () => {
  const problems = findStreamProblems(
    {
      orders: { types: ["order.created", "order.paid"], maxEntries: 0, overflow: "drop" },
      bills: { types: ["order.created", "invoices", "bill*"] },
      invoices: { types: [] },
      mail: { types: ["mail", "mail"], blockMs: 10 },
      "a b*": {},
      nothing: 7,
      typo: { maxEntrys: 3 },
    },
    undefined,
  );
  expect(problems).toEqual([
    expect.stringContaining('streams["orders"]: maxEntries must be a whole number from 1'),
    expect.stringContaining('streams["orders"]: overflow must be "reject" or "block" or "drop-oldest"'),
    expect.stringContaining('streams["bills"]: the type "invoices" is the name of another stream'),
    expect.stringContaining('streams["bills"]: event type "bill*"'),
    expect.stringContaining('streams["invoices"]: types must be a list of event types that is not empty'),
    expect.stringContaining('streams["mail"]: blockMs is for overflow "block"'),
    expect.stringContaining('streams["mail"]: the type "mail" is already in the stream "mail"'),
    expect.stringContaining('streams["a b*"]: stream "a b*" holds "*"'),
    expect.stringContaining('streams["nothing"]: options must be a plain object, not 7'),
    expect.stringContaining('did you mean "maxEntries"?'),
  ]);
});

test("a type in two streams is told, and a stream that is spelt in two ways", () => {
  const composed = "caf\u00e9";
  expect(
    findStreamProblems(
      { one: { types: ["a", "b"] }, two: { types: ["c", "a"] }, [composed]: {}, "cafe\u0301": {} },
      undefined,
    ),
  ).toEqual([
    expect.stringContaining("names one stream twice"),
    expect.stringContaining('the type "a" is already in the stream "one"'),
    expect.stringContaining("is already in the stream"),
  ]);
  expect(findStreamProblems("orders", undefined)).toEqual([expect.stringContaining("streams must be a plain object")]);
});

test("types that the contract does not have are told", () => {
  const contract = defineContract({ events: { "order.created": z.unknown() } });
  expect(findStreamProblems({ orders: { types: ["order.created", "order.payed"] } }, contract)).toEqual([
    expect.stringContaining('the contract\'s events have no "order.payed"'),
  ]);
  expect(findStreamProblems({ "order.paid": { maxEntries: 5 } }, contract)).toHaveLength(1);
  expect(findStreamProblems({ "order.created": { maxEntries: 5 } }, contract)).toEqual([]);
});

test("a type is its own stream unless it is declared otherwise; the name of a shared stream is no type", async () => {
  const { log, configured } = logOf();
  const streams = await declareStreams(log, {
    orders: { types: ["order.paid", "order.created"], maxEntries: 5 },
    mail: {},
  });
  expect(streams.of("order.paid")).toBe(streams.of("order.created"));
  expect(streams.of("order.paid")).toMatchObject({
    name: "orders",
    types: ["order.created", "order.paid"],
    isShared: true,
    retention: { maxEntries: 5, overflow: "reject" },
    blockMs: undefined,
  });
  expect(streams.of("mail")).toMatchObject({ name: "mail", types: ["mail"], isShared: false });
  expect(streams.of("other")).toMatchObject({ name: "other", isShared: false, retention: { maxEntries: 1_000_000 } });
  expect(() => streams.of("orders")).toThrow('"orders" is no event type, but the stream of order.created, order.paid');
  // What says nothing of limits stores none.
  expect(configured).toEqual([["orders", { maxEntries: 5, overflow: "reject" }]]);
  expect(streams.retentionOf("orders")).toEqual({ maxEntries: 5, overflow: "reject" });
  expect(streams.retentionOf("other")).toEqual({ maxEntries: 1_000_000, overflow: "reject" });
});

test("limits that are stored otherwise are refused, naming both; what is not said is as it is stored", async () => {
  const stored = { maxEntries: 10, maxAgeMs: 60_000, overflow: "block" } as const;
  const { log } = logOf({ orders: stored, bills: { maxEntries: 3, overflow: "reject" } });
  const declared = (orders: StreamOptions, bills: StreamOptions = {}) => declareStreams(log, { orders, bills });
  await expect(declared({ maxEntries: 20, overflow: "reject" }, { maxAgeMs: 5 })).rejects.toMatchObject({
    code: "CONFIG",
    problems: [
      'connect: the stream "orders" is stored with maxEntries 10, and this process declares 20: they must agree, or be changed with events.configure',
      'connect: the stream "orders" is stored with overflow "block", and this process declares "reject": they must agree, or be changed with events.configure',
      'connect: the stream "bills" is stored with no maxAgeMs, and this process declares 5: they must agree, or be changed with events.configure',
    ],
  });
  const streams = await declared({ maxEntries: 10 });
  expect(streams.of("orders")).toMatchObject({ retention: stored, blockMs: 30_000 });
});

test("the streams that are used are remembered, the latest thousand of them", async () => {
  const streams = await declareStreams(logOf().log, undefined);
  for (let index = 0; index < 1_500; index += 1) streams.use(streams.of(`t${index}`));
  streams.use(streams.of("t600"));
  streams.use(streams.of("one more"));
  const used = streams.used();
  expect(used).toHaveLength(1_000);
  expect(used).toContain("t600");
  expect(used).not.toContain("t500");
});
