/** What becomes of failures: one mechanism of rules, the same for every facade and on every backend. */

import { expect, test } from "vitest";
import { z } from "zod";
import {
  type Broker,
  CodecError,
  ConnectionError,
  type Context,
  deadLetter,
  defer,
  defineContract,
  type OnError,
  retry,
  SchemaError,
  type SignalboxError,
  skip,
  stop,
  when,
} from "../../src/index.js";
import { until } from "../support/wait.js";
import { byText, collect, type Lane, onEveryBackend } from "./support/lanes.js";

const RETRY = { initialMs: 1, maxMs: 2, maxAttempts: 3 } as const;

/** A facade by what rules are about. */
interface Facade {
  readonly name: string;
  readonly onError: OnError;
  publish(data: unknown): Promise<unknown>;
  subscribe(handler: (data: unknown, context: Context) => unknown): Promise<{ close(): Promise<void> }>;
  letters(): Promise<readonly { readonly reason: { readonly kind: string; readonly message: string } }[]>;
}

const FACADES: Readonly<Record<string, (broker: Broker, name: string) => Facade>> = {
  pubsub: ({ pubsub }, name) => ({
    name,
    onError: pubsub.onError,
    publish: (data) => pubsub.publish(name, data),
    subscribe: (handler) => pubsub.subscribe(name, { retry: RETRY, concurrency: 1 }, handler),
    letters: () => collect(pubsub.deadLetters(name)),
  }),
  events: ({ events }, name) => ({
    name,
    onError: events.onError,
    publish: (data) => events.publish(name, data),
    subscribe: (handler) =>
      events.subscribe(name, { group: "g", from: "beginning", retry: RETRY, concurrency: 1 }, handler),
    letters: () => collect(events.group(name, "g").deadLetters()),
  }),
  queue: (broker, name) => {
    const queue = broker.queue(name);
    return {
      name,
      onError: queue.onError,
      publish: (data) => queue.publish(data),
      subscribe: (handler) => queue.subscribe({ retry: RETRY, concurrency: 1 }, handler),
      letters: () => collect(queue.deadLetters()),
    };
  },
};

class NetworkError extends Error {}
class DnsError extends NetworkError {}

const contract = defineContract({
  channels: { typed: z.object({ n: z.number() }) },
  events: { typed: z.object({ n: z.number() }) },
  queues: { typed: z.object({ n: z.number() }) },
});

onEveryBackend("error policy", (lane) => {
  describeFacades(lane);

  test("[D26] rules are for batches and for iterations as well: one by one, and for what cannot be read", async () => {
    const sender = await lane.open();
    const broker = await lane.open({ contract, onError: () => undefined });
    const from = { group: lane.unique("batch"), from: "new" } as const;
    const iterating = { group: lane.unique("iteration"), from: "new" } as const;
    broker.events.onError(when(NetworkError), (_, { attempt }) => (attempt < 2 ? retry({ delayMs: 1 }) : skip()));
    broker.events.onError(when(SchemaError), () => skip());
    const batches: number[][] = [];
    await broker.events.subscribeBatch("typed", { ...from, max: 2, waitMs: 10_000 }, (deliveries) => {
      batches.push(deliveries.map(({ attempt }) => attempt));
      throw new NetworkError("the line is dead");
    });
    await using deliveries = broker.events.deliveries("typed", iterating);
    const first = deliveries.next();
    await until(async () => (await broker.events.groups("typed")).includes(iterating.group));
    await sender.events.publishMany("typed", [{ n: "refused" }, { n: 1 }, { n: 2 }]);
    await until(() => batches.length === 2);
    expect(batches).toEqual([
      [1, 1],
      [2, 2],
    ]);
    const taken = (await first).value;
    expect(taken?.data).toEqual({ n: 1 });
    await taken?.ack();
    for (const group of [from.group, iterating.group])
      await until(async () => (await broker.events.group("typed", group).stats()).dead === 0);
    await until(async () => (await broker.events.group("typed", from.group).stats()).pending === 0);
  });

  test("[D25] rules of one facade are nobody else's, and a queue's are for that queue", async () => {
    const broker = await lane.open({ onError: () => undefined });
    const names = [lane.unique("a"), lane.unique("b")] as const;
    const decided: string[] = [];
    broker.pubsub.onError(when(Error), () => void decided.push("pubsub"));
    broker.events.onError(when(Error), () => void decided.push("events"));
    broker.queue(names[0]).onError(when(Error), () => void decided.push("queue a"));
    let failed = 0;
    await broker.queue(names[1]).subscribe({ retry: { maxAttempts: 1 } }, () => {
      failed += 1;
      throw new Error("no");
    });
    await broker.queue(names[1]).publish(1);
    await until(() => failed === 1);
    await broker.queue(names[0]).subscribe({ retry: { maxAttempts: 1 } }, () => {
      throw new Error("no");
    });
    await broker.queue(names[0]).publish(1);
    await until(() => decided.length > 0);
    expect(decided).toEqual(["queue a"]);
  });
});

function describeFacades(lane: Lane): void {
  for (const [facadeName, facadeOf] of Object.entries(FACADES)) {
    const open = async (reports: Error[] = []): Promise<Facade> =>
      facadeOf(await lane.open({ onError: (error) => void reports.push(error) }), lane.unique("n"));

    test(`[D25] ${facadeName}: the first rule that fits decides, by class or by predicate`, async () => {
      const facade = await open();
      const decided: string[] = [];
      const rule = (what: string) => (error: Error) => {
        decided.push(`${what}: ${error.message}`);
        return skip();
      };
      facade.onError(
        when((error) => error.message === "by predicate"),
        rule("predicate"),
      );
      facade.onError(when(DnsError, RangeError), rule("dns or range"));
      facade.onError(when(NetworkError), rule("network"));
      facade.onError(when(Error), rule("any"));
      const errors = [
        new DnsError("1"),
        new NetworkError("2"),
        new RangeError("3"),
        new NetworkError("by predicate"),
        "text",
      ];
      await facade.subscribe((data) => {
        // oxlint-disable-next-line typescript/only-throw-error -- what is no error is among them
        throw errors[Number(data)];
      });
      for (const index of errors.keys()) await facade.publish(index);
      await until(() => decided.length === errors.length);
      expect(decided).toEqual([
        "dns or range: 1",
        "network: 2",
        "dns or range: 3",
        "predicate: by predicate",
        "any: text",
      ]);
      expect(await facade.letters()).toEqual([]);
    });

    test(`[D26] ${facadeName}: a failure is retried, deferred, skipped or kept as its rule says`, async () => {
      const facade = await open();
      const attempts: [unknown, number][] = [];
      facade.onError(when(Error), ({ message }, { attempt, channel, kind }) => {
        expect([channel, kind]).toEqual([facade.name, "thrown"]);
        const times = attempts.filter(([data]) => data === message).length;
        if (message === "skip" || times > 4) return skip();
        if (message === "keep") return deadLetter(`kept after attempt ${attempt}`);
        if (message === "retry") return retry({ delayMs: 1 });
        return times < 4 ? defer({ delayMs: 1 }) : skip();
      });
      let ended = 0;
      await facade.subscribe((data, { attempt }) => {
        attempts.push([data, attempt]);
        if (data === "end") ended += 1;
        else throw new Error(String(data));
      });
      for (const data of ["skip", "keep", "retry", "defer", "end"]) await facade.publish(data);
      await until(() => ended === 1 && attempts.filter(([data]) => data === "defer").length === 4);
      const of = (what: string) => attempts.filter(([data]) => data === what).map(([, attempt]) => attempt);
      // A retry counts, so that there is a last one; a deferral does not.
      await until(() => of("retry").length === 3);
      expect([of("skip"), of("keep"), of("retry"), of("defer")]).toEqual([[1], [1], [1, 2, 3], [1, 1, 1, 1]]);
      await until(async () => (await facade.letters()).length >= (facadeName === "pubsub" ? 1 : 2));
      const kept = (await facade.letters()).map(({ reason }) => reason);
      expect(kept).toContainEqual({ kind: "rejected", message: "kept after attempt 1" });
    });

    test(`[D26] ${facadeName}: stop() ends the subscription, and durable messages stay for the next one`, async () => {
      const reports: Error[] = [];
      const broker = await lane.open({ onError: (error) => void reports.push(error) });
      const facade = facadeOf(broker, lane.unique("n"));
      const seen: unknown[] = [];
      facade.onError(when(NetworkError), () => stop());
      const subscription = await facade.subscribe((data) => {
        seen.push(data);
        if (data === 2) throw new NetworkError("the line is dead");
      });
      for (const data of [1, 2, 3]) await facade.publish(data);
      const health = async () => (await broker.health()).details.consumers;
      await until(async () => (await health())[0]?.state === "ended");
      expect(seen).toEqual([1, 2]);
      expect((await health())[0]).toMatchObject({ channel: facade.name, ok: false });
      expect(reports).toEqual([expect.objectContaining({ message: "the line is dead" })]);
      await subscription.close();
      const next: unknown[] = [];
      await facade.subscribe((data, { attempt }) => void next.push([data, attempt]));
      if (facadeName !== "pubsub") await until(() => next.length === 2);
      // What was given back has not failed.
      expect(next.toSorted(byText)).toEqual(
        facadeName === "pubsub"
          ? []
          : [
              [2, 1],
              [3, 1],
            ],
      );
    });

    test(`[D26] ${facadeName}: a handler may stop its subscription itself`, async () => {
      const reports: Error[] = [];
      const facade = await open(reports);
      const seen: unknown[] = [];
      await facade.subscribe((data) => {
        seen.push(data);
        return data === 2 ? stop() : undefined;
      });
      for (const data of [1, 2, 3]) await facade.publish(data);
      await until(() => seen.length === 2);
      await facade.publish(4);
      expect(seen).toEqual([1, 2]);
    });

    test(`[D26] ${facadeName}: without a rule, or where it says nothing, the defaults go`, async () => {
      const reports: Error[] = [];
      const facade = await open(reports);
      facade.onError(when(TypeError), () => skip());
      facade.onError(when(NetworkError), () => undefined);
      const remove = facade.onError(when(Error), () => skip());
      remove();
      let attempts = 0;
      await facade.subscribe(() => {
        attempts += 1;
        throw new NetworkError("the line is dead");
      });
      await facade.publish(1);
      await until(() => attempts === 3);
      if (facadeName === "pubsub") {
        await until(() => reports.length === 1);
        expect([reports[0]?.message, await facade.letters()]).toEqual(["the line is dead", []]);
      } else {
        await until(async () => (await facade.letters()).length === 1);
        expect((await facade.letters())[0]?.reason).toMatchObject({ kind: "failed" });
      }
    });

    test(`${facadeName}: a rule that fails, or returns what is no outcome, is reported and decides nothing`, async () => {
      const reports: Error[] = [];
      const facade = await open(reports);
      facade.onError(when(TypeError), () => {
        throw new Error("the rule's own failure");
      });
      facade.onError(when(RangeError), (() => "skip") as never);
      facade.onError(when(SyntaxError), (() => Promise.reject(new Error("a rule that is asynchronous"))) as never);
      let done = 0;
      await facade.subscribe((data, { attempt }) => {
        if (attempt < 2)
          throw data === 0 ? new TypeError("a") : data === 1 ? new RangeError("b") : new SyntaxError("c");
        done += 1;
      });
      for (const data of [0, 1, 2]) await facade.publish(data);
      await until(() => done === 3);
      expect(reports.map(({ message }) => message)).toEqual([
        "the rule's own failure",
        expect.stringContaining('not "skip"'),
        expect.stringContaining("not an object"),
        "a rule that is asynchronous",
      ]);
    });

    test(`[D25] ${facadeName}: what cannot be read goes through the same rules, and is kept with its raw bytes`, async () => {
      const reports: Error[] = [];
      const sender = await lane.open();
      const broker = await lane.open({ contract, onError: (error) => void reports.push(error) });
      const facade = facadeOf(broker as unknown as Broker, "typed");
      const kinds: string[] = [];
      facade.onError(when(SchemaError, CodecError), (error, { kind }) => {
        kinds.push(`${kind} ${(error as SignalboxError).code}`);
        return deadLetter(`refused: ${error.message}`);
      });
      const seen: unknown[] = [];
      await facade.subscribe((data) => void seen.push(data));
      const plain = facadeOf(sender, "typed");
      await plain.publish({ n: "seven" });
      await plain.publish({ n: 7 });
      await until(() => seen.length === 1 && kinds.length === 1);
      await until(async () => (await facade.letters()).length === 1);
      expect([seen, kinds]).toEqual([[{ n: 7 }], ["unreadable SCHEMA"]]);
      expect(await facade.letters()).toMatchObject([
        {
          reason: { kind: "rejected", message: expect.stringContaining("does not match its schema") },
          message: { data: { n: "seven" } },
        },
      ]);
      const [{ raw } = { raw: Buffer.alloc(0) }] = (await facade.letters()) as unknown as { raw: Uint8Array }[];
      expect(Buffer.from(raw).toString()).toBe('{"n":"seven"}');
    });

    test(`[D25] ${facadeName}: a lost connection in a handler can be tried again, as the source's example does`, async () => {
      const facade = await open();
      facade.onError(when(ConnectionError), () => retry({ delayMs: 1 }));
      facade.onError(when(CodecError), () => skip());
      let attempts = 0;
      await facade.subscribe((_, { attempt }) => {
        attempts += 1;
        if (attempt < 3) throw new ConnectionError("Connection lost");
      });
      await facade.publish(1);
      await until(() => attempts === 3);
      expect(await facade.letters()).toEqual([]);
    });
  }
}

test.each([
  [() => when(), "when takes classes"],
  [() => when("Error" as never), 'not "Error"'],
])("what is no matcher is refused where it is made", (make, message) => {
  expect(make).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(message) }),
  );
});
