/** Handlers that hang, throw whatever they like, or fail after the fact: slots come free, errors have names, nothing crashes. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { type Context, type Delivery, LeaseLostError } from "../../src/index.js";
import { collect, type Lane, onEveryBackend, recordingLogger } from "../facades/support/lanes.js";
import { pause, until } from "../support/wait.js";
import { type Channel, channelOf } from "./support/consuming.js";
import { type Facade, FACADES } from "./support/load.js";

/** What became of promises that nobody waited for, in the whole process. */
const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
beforeAll(() => void process.on("unhandledRejection", note));
afterAll(() => void process.off("unhandledRejection", note));

/** Unhandled rejections are known once the queue of microtasks has been empty for a turn of the loop. */
async function expectNoneUnhandled(): Promise<void> {
  await pause(20);
  expect(unhandled).toEqual([]);
}

async function deadOf(channel: Channel): Promise<readonly unknown[]> {
  const letters = await collect(channel.deadLetters());
  return letters.map(({ message }) => message?.data);
}

for (const facade of FACADES) {
  onEveryBackend(`handlers of ${facade}`, (lane) => handlerFaults(lane, facade));
}

function handlerFaults(lane: Lane, facade: Facade): void {
  test("fault 33: one that hangs is given up when its time is over: its slot is free, its signal aborted, its result too late", async () => {
    const channel = channelOf(await lane.open(), facade, lane.unique("hangs"));
    const attempts: number[] = [];
    const aborted: unknown[] = [];
    const late: ((value: unknown) => void)[] = [];
    const handled: unknown[] = [];
    const handler = async (data: unknown, { attempt, signal }: Context): Promise<unknown> => {
      if (data !== "hangs") return void handled.push(data);
      attempts.push(attempt);
      signal.addEventListener("abort", () => aborted.push(signal.reason));
      return await new Promise((resolve) => late.push(resolve));
    };
    const options = { concurrency: 1, handlerTimeoutMs: 100, retry: { maxAttempts: 2, initialMs: 200 } };
    const subscription = await channel.subscribe(options, handler);
    await channel.publishMany(["hangs", "next"]);
    await until(() => handled.includes("next"), { what: "the slot to be free" });
    expect(attempts).toEqual([1]);
    expect(aborted).toMatchObject([{ code: "TIMEOUT" }]);
    await until(() => attempts.length === 2, { what: "the second attempt" });
    // Had this late return counted, the second attempt would be settled by it.
    late[0]?.(undefined);
    await until(async () => (await deadOf(channel)).length === 1, { what: "the dead letter" });
    expect(await deadOf(channel)).toEqual(["hangs"]);
    late[1]?.(undefined);
    const [letter] = await collect(channel.deadLetters());
    expect(letter).toMatchObject({
      attempts: 2,
      reason: { kind: "failed", message: expect.stringMatching(/handlerTimeoutMs/) },
    });
    await channel.publishMany(["after"]);
    await until(() => handled.includes("after"), { what: "work to go on" });
    expect(subscription.stats()).toMatchObject([{ running: 0 }]);
    await expectNoneUnhandled();
  });

  test("fault 34: whatever is thrown becomes an error with a text, is retried, and then is a dead letter", async () => {
    const channel = channelOf(await lane.open(), facade, lane.unique("throws"));
    const hostile = { toString: () => expect.fail("read"), [Symbol.toPrimitive]: () => expect.fail("read") };
    const gone = Proxy.revocable({}, {});
    gone.revoke();
    const thrown: readonly unknown[] = [
      undefined,
      null,
      "a text",
      "",
      42,
      Symbol("s"),
      Object.freeze({ code: 1 }),
      Object.freeze(new Error("frozen")),
      Object.create(null),
      hostile,
      gone.proxy,
      Object.defineProperty(new Error("x"), "message", { get: () => expect.fail("read") }),
      new AggregateError([new Error("a")], "several"),
      () => "a function",
    ];
    const attempts = new Map<number, number[]>();
    const handler = (data: unknown, { attempt }: Context): unknown => {
      const index = Number(data);
      attempts.set(index, [...(attempts.get(index) ?? []), attempt]);
      // Every other one rejects instead.
      if (index % 2 === 0) throw thrown[index];
      return Promise.resolve().then(() => {
        throw thrown[index];
      });
    };
    await channel.subscribe({ retry: { maxAttempts: 2, initialMs: 1 } }, handler);
    const indexes = thrown.map((_, index) => index);
    await channel.publishMany(indexes);
    const letters = async () => await collect(channel.deadLetters());
    await until(async () => (await letters()).length === thrown.length, { what: "all to be dead letters" });
    for (const { reason, attempts: count } of await letters()) {
      expect(reason).toMatchObject({ kind: "failed", message: expect.any(String) });
      expect(count).toBe(2);
    }
    expect([...attempts.values()]).toEqual(indexes.map(() => [1, 2]));
    await expectNoneUnhandled();
  });

  test("fault 34: what is logged of it is an Error, too", async () => {
    const { logger, entries } = recordingLogger();
    const channel = channelOf(await lane.open({ logger }), facade, lane.unique("logs"));
    const nothing: unknown = undefined;
    const handler = (): never => {
      throw nothing;
    };
    await channel.subscribe({ retry: { maxAttempts: 2, initialMs: 1 } }, handler);
    await channel.publishMany([1]);
    await until(async () => (await deadOf(channel)).length === 1, { what: "the dead letter" });
    const retried = entries.find(({ fields }) => fields["event"] === "message_retried");
    expect(retried?.fields["err"]).toBeInstanceOf(Error);
  });

  test("fault 35: a batch handler that rejects after it settled is reported, and what it settled stays settled", async () => {
    const reports: [Error, string][] = [];
    const broker = await lane.open({ onError: (error, where) => void reports.push([error, where]) });
    const name = lane.unique("late");
    const channel = channelOf(broker, facade, name);
    const attempts: [unknown, number][] = [];
    const handler = async (deliveries: readonly Delivery[]): Promise<void> => {
      for (const delivery of deliveries) {
        attempts.push([delivery.data, delivery.attempt]);
        // Nobody waits for these, as in the documentation's examples; the second is too late.
        void delivery.ack();
        void delivery.retry();
      }
      await pause(5);
      throw new Error("after the fact");
    };
    await channel.subscribeBatch({ max: 10, waitMs: 5, retry: { initialMs: 1 } }, handler);
    await channel.publishMany([1, 2, 3]);
    await until(() => reports.length > 0, { what: "the failure to be reported" });
    expect(reports[0]?.[0].message).toBe("after the fact");
    expect(reports[0]?.[1]).toContain(name);
    await until(() => channel.isSettled(), { what: "all to be settled" });
    expect(attempts.toSorted(([a], [b]) => Number(a) - Number(b))).toEqual([
      [1, 1],
      [2, 1],
      [3, 1],
    ]);
    await expectNoneUnhandled();
  });

  test("fault 35: settling twice, or after the iteration has ended, is refused to whoever waits and harms nobody else", async () => {
    const channel = channelOf(await lane.open(), facade, lane.unique("twice"));
    await channel.publishMany([1, 2]);
    const deliveries = channel.deliveries({ leaseMs: 1_000 });
    const first = (await deliveries.next()).value;
    const second = (await deliveries.next()).value;
    await first?.ack();
    await expect(first?.ack()).rejects.toBeInstanceOf(LeaseLostError);
    void first?.retry();
    await deliveries.close();
    await expect(second?.ack()).rejects.toMatchObject({ code: expect.stringMatching(/^(CLOSED|LEASE_LOST)$/) });
    void second?.retry();
    void second?.extend();
    // The second went back, uncounted.
    const handled: [unknown, number][] = [];
    await channel.subscribe({}, (data, { attempt }) => void handled.push([data, attempt]));
    await until(() => handled.length > 0, { what: "the second to come again" });
    expect(handled).toEqual([[2, 1]]);
    await expectNoneUnhandled();
  });

  test("fault 35: a handler that rejects after its subscription was closed is heard by nobody, and its message comes again", async () => {
    const channel = channelOf(await lane.open(), facade, lane.unique("closed"));
    await channel.publishMany(["x"]);
    let fail: ((error: Error) => void) | undefined;
    const running = new Promise<never>((_, reject) => (fail = reject));
    running.catch(() => undefined);
    let began = false;
    const subscription = await channel.subscribe({}, async () => {
      began = true;
      await running;
    });
    await until(() => began, { what: "the handler to begin" });
    await subscription.close({ drainMs: 0 });
    fail?.(new Error("much later"));
    await expectNoneUnhandled();
    const handled: number[] = [];
    await channel.subscribe({}, (_, { attempt }) => void handled.push(attempt));
    await until(() => handled.length > 0, { what: "the message to come again" });
    expect(handled).toEqual([1]);
  });
}
