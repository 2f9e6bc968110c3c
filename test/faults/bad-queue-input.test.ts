/** The bad inputs of the list of faults where they are given to a queue: refused with a typed error that says what and how, and nothing stored. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Broker, connect } from "../../src/index.js";
import { collect, silentLogger } from "../facades/support/lanes.js";
import { BAD_CONCURRENCIES, BAD_NAMES, BAD_PAYLOADS, TOO_MANY_HEADERS } from "./support/bad-values.js";

interface Bad {
  readonly row: number;
  readonly input: string;
  readonly code: string;
  /** What the message has to name. */
  readonly says: RegExp;
  act(): Promise<unknown>;
}

const QUEUE = "tasks";
let broker: Broker;

beforeAll(async () => {
  broker = await connect("memory:", { logger: silentLogger });
});
afterAll(() => broker.close());

const queue = () => broker.queue(QUEUE);
const publish = async (data: unknown, how?: object): Promise<unknown> => await queue().publish(data, how);
const consume = async (options: object, handler: unknown = () => undefined): Promise<unknown> =>
  await queue().subscribe(options, handler as never);
const openWith = async (options: object): Promise<unknown> => broker.queue(QUEUE, options);

/** Where a name is given: of a queue, and of a recipient. */
const PLACES: Readonly<Record<string, (name: unknown) => Promise<unknown>>> = {
  "of a queue": async (name) => await broker.queue(name as string).publish(1),
  "of a target": (name) => publish(1, { target: name }),
  "of a recipient": (name) => consume({ as: name }),
  "to register": async (name) => await queue().register(name as string),
};

const names: readonly Bad[] = Object.entries(PLACES).flatMap(([where, give]) =>
  BAD_NAMES.map(([row, input, name, says]) => {
    return { row, input: `${input} as the name ${where}`, code: "INVALID_ARGUMENT", says, act: () => give(name) };
  }),
);

const payloads: readonly Bad[] = BAD_PAYLOADS.flatMap(([row, input, data, code, says]) => [
  { row, input, code, says, act: () => publish(data) },
  { row, input: `${input}, among others`, code, says, act: async () => await queue().publishMany([1, data]) },
]);

const consuming: readonly Bad[] = [
  ...BAD_CONCURRENCIES.map((concurrency, index) => ({
    row: 11 + index,
    input: `concurrency ${String(concurrency)}`,
    code: "CONFIG",
    says: /concurrency must be a whole number/,
    act: () => consume({ concurrency }),
  })),
  ...(
    [
      [17, "no attempts", { retry: { maxAttempts: 0 } }, /maxAttempts/],
      [24, "a lease too short to be renewed", { leaseMs: 10 }, /leaseMs/],
      [25, "a backoff that is none", { retry: { factor: Number.NaN } }, /factor/],
      [27, "a typing error", { concurrancy: 5 }, /did you mean "concurrency"/],
      [34, "options that carry __proto__", JSON.parse('{ "__proto__": { "concurrency": 1 } }'), /__proto__/],
      [80, "a number that came as text", { concurrency: "ten" }, /concurrency.*"ten"/],
      [22, "priorities that are none", { priorities: "fair" }, /priorities/],
      [28, "an inbox of its own that others share", { fanout: true, as: "ada" }, /fanout.*choose one/],
    ] as const
  ).map(([row, input, options, says]) => {
    return { row, input, code: "CONFIG", says, act: () => consume(options as object) };
  }),
  {
    row: 29,
    input: "a handler that is none",
    code: "INVALID_ARGUMENT",
    says: /handler/,
    act: () => consume({}, "later"),
  },
];

const publishing: readonly Bad[] = (
  [
    [18, "ttlMs 0", { ttlMs: 0 }, /ttlMs/],
    [19, "delayMs 2^53", { delayMs: 2 ** 53 }, /delayMs/],
    [20, 'delayMs "10s"', { delayMs: "10s" }, /delayMs/],
    [21, "priority 1.5", { priority: 1.5 }, /priority/],
    [22, "priority Infinity", { priority: Number.POSITIVE_INFINITY }, /priority/],
    [28, "an audience that is none", { audience: "all" }, /audience/],
    [28, "an audience and a target", { audience: "registered", target: "ada" }, /not to both/],
    [27, "a typing error", { prioriti: 5 }, /did you mean "priority"/],
    [47, "an id of 201 characters", { id: "x".repeat(201) }, /id/],
  ] as const
).map(([row, input, how, says]) => {
  return { row, input, code: "INVALID_ARGUMENT", says, act: () => publish(1, how) };
});

const settings: readonly Bad[] = (
  [
    [18, "a time to live of nothing", { ttlMs: 0 }, /ttlMs/],
    [23, "waiting without an end", { overflow: "block", blockMs: Number.POSITIVE_INFINITY }, /blockMs/],
    [23, "a wait where nothing waits", { blockMs: 1_000 }, /blockMs.*block/],
    [26, "a queue that may hold nothing", { maxItems: 0 }, /maxItems/],
    [26, "an overflow that is none", { overflow: "drop" }, /overflow/],
    [26, "records that are not kept", { maxRecords: 5 }, /keepAckedMs/],
    [30, "an index of what is none", { index: ["colour"] }, /index/],
    [34, "options that carry __proto__", JSON.parse('{ "__proto__": { "maxItems": 1 } }'), /__proto__/],
  ] as const
).map(([row, input, options, says]) => {
  return { row, input, code: "CONFIG", says, act: () => openWith(options as object) };
});

const others: readonly Bad[] = [
  {
    row: 77,
    input: "10,000 headers",
    code: "LIMIT",
    says: /10000 headers/,
    act: () => publish(1, { headers: TOO_MANY_HEADERS }),
  },
  {
    row: 36,
    input: "a signal that has aborted",
    code: "the reason itself",
    says: /enough/,
    act: () =>
      publish(1, { signal: AbortSignal.abort(Object.assign(new Error("enough"), { code: "the reason itself" })) }),
  },
  {
    row: 53,
    input: "an acknowledgement of nothing",
    code: "INVALID_ARGUMENT",
    says: /id/,
    act: async () => await queue().acknowledge(undefined as never, { recipient: "ada" }),
  },
  {
    row: 103,
    input: "clearing another queue than it says",
    code: "INVALID_ARGUMENT",
    says: /confirm/,
    act: async () => await queue().clear({ confirm: "jobs" }),
  },
];

describe("refused by a queue", () => {
  test.each([...names, ...payloads, ...consuming, ...publishing, ...settings, ...others])(
    "bad input $row: $input",
    async ({ act, code, says }) => {
      const failure: unknown = await act().then(
        () => expect.fail("it should be refused"),
        (error: unknown) => error,
      );
      expect(failure).toMatchObject({ code, message: expect.stringMatching(says) });
      const { waiting, leased, delayed } = await queue().stats();
      expect([waiting, leased, delayed]).toEqual([0, 0, 0]);
      expect(await collect(queue().recipients())).toEqual([]);
    },
  );
});
