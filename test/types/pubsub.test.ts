/** What must and what must not compile with pub/sub: `npm run types` is the test, each directive an assertion. */

import { expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import { type Broker, byKind, connect, defineContract, type Heard, retry, skip, stop, when } from "../../src/index.js";

const Update = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("data"), rows: z.number() }),
  z.object({ kind: z.literal("config"), name: z.string() }),
  z.object({ kind: z.literal("status"), up: z.boolean() }),
]);

const contract = defineContract({
  channels: {
    notifications: z.object({ userId: z.number() }),
    "events.{type}": z.object({ id: z.number(), at: z.string().transform((text) => new Date(text)) }),
    updates: Update,
  },
  events: { "order.created": z.object({ total: z.number() }) },
});

/** Never called: it only has to compile. */
export function typedUse(broker: Broker<typeof contract>): void {
  const { pubsub, events } = broker;
  void pubsub.publish("notifications", { userId: 1 });
  void pubsub.publish("events.signup", { id: 1, at: "2026-01-01" }, { id: "m-1", headers: { a: "b" } });
  // @ts-expect-error a name that the contract does not have
  void pubsub.publish("notification", { userId: 1 });
  // @ts-expect-error a payload of the wrong type
  void pubsub.publish("events.signup", { id: "1", at: "2026-01-01" });
  // @ts-expect-error one wrong payload among several
  void pubsub.publishMany("notifications", [{ userId: 1 }, { userId: "2" }]);
  // @ts-expect-error several have an id each
  void pubsub.publishMany("notifications", [{ userId: 1 }], { id: "m-1" });
  // @ts-expect-error [X6] what is told to whoever listens is not stored: it is no event
  void events.publish("notifications", { userId: 1 });
  // @ts-expect-error [X6] what is stored is not told: it is no channel
  void pubsub.publish("order.created", { total: 1 });

  void pubsub.subscribe("notifications", ({ userId }, { params, channel }) => {
    expectTypeOf(userId).toEqualTypeOf<number>();
    expectTypeOf<keyof typeof params>().toBeNever();
    expectTypeOf(channel).toEqualTypeOf<string>();
  });
  void pubsub.subscribe("events.{type}", { concurrency: 1 }, (event, { params, message }) => {
    expectTypeOf(event.at).toEqualTypeOf<Date>();
    expectTypeOf(params.type).toEqualTypeOf<string>();
    expectTypeOf(message.data.id).toEqualTypeOf<number>();
  });
  void pubsub.subscribe("events.*", (event) => expectTypeOf(event.id).toEqualTypeOf<number>());
  // @ts-expect-error a handler for other data
  void pubsub.subscribe("notifications", (data: { userId: string }) => data);
  // @ts-expect-error a parameter that the template does not have
  void pubsub.subscribe("events.{type}", (_, { params }) => params.kind);
  // @ts-expect-error a pattern that no channel fits
  void pubsub.subscribe("event.*", () => undefined);
  // @ts-expect-error what waits for the subscriber is for events and queues
  void pubsub.subscribe("notifications", { overflow: "block" }, () => undefined);

  const heard = pubsub.listen("events.{type}", { buffer: 10 });
  expectTypeOf(heard.next()).resolves.toExtend<IteratorResult<Heard<{ id: number; at: Date }>, undefined>>();

  pubsub.onError(
    when(TypeError, (error) => error.message === ""),
    (_, { attempt }) => (attempt < 3 ? retry() : stop()),
  );
  events.onError(when(Error), () => skip());
  // @ts-expect-error only what when() makes
  pubsub.onError(TypeError, () => skip());
  // @ts-expect-error only outcomes
  pubsub.onError(when(TypeError), () => "skip");
}

/** Never called. */
export function typedKinds({ pubsub }: Broker<typeof contract>): void {
  void pubsub.subscribe(
    "updates",
    byKind("kind", {
      data: ({ rows }) => expectTypeOf(rows).toEqualTypeOf<number>(),
      config: ({ name }) => expectTypeOf(name).toEqualTypeOf<string>(),
      status: ({ up }) => expectTypeOf(up).toEqualTypeOf<boolean>(),
    }),
  );
  // @ts-expect-error [D35] a kind is left out
  void pubsub.subscribe("updates", byKind("kind", { data: () => 1, config: () => 2 }));
  // @ts-expect-error a kind that there is not
  void pubsub.subscribe("updates", byKind("kind", { data: () => 1, config: () => 2, status: () => 3, other: () => 4 }));
  // @ts-expect-error no field that tells kinds apart
  void pubsub.subscribe("updates", byKind("rows", { data: () => 1 }));
}

test("[D35] kinds that the types let through are told apart when they come, and others are refused by name", async () => {
  await using broker = await connect("memory:", { contract, onError: (error) => void errors.push(error.message) });
  const errors: string[] = [];
  const seen: string[] = [];
  const handlers = {
    data: ({ rows }: { rows: number }) => void seen.push(`data ${rows}`),
    config: ({ name }: { name: string }) => void seen.push(`config ${name}`),
    status: ({ up }: { up: boolean }) => void seen.push(`status ${up}`),
  };
  await broker.pubsub.subscribe("updates", byKind("kind", handlers));
  await broker.pubsub.publish("updates", { kind: "status", up: true });
  await broker.pubsub.publish("updates", { kind: "data", rows: 3 });
  await broker.pubsub.publish("updates", { kind: "config", name: "a" });
  expect(seen).toEqual(["status true", "data 3", "config a"]);
  const run = byKind<{ kind: "a" }, "kind">("kind", { a: () => 1 });
  const context = { channel: "updates" } as Parameters<typeof run>[1];
  for (const data of [{ kind: "toString" }, { kind: 7 }, null, "a"])
    expect(() => run(data as { kind: "a" }, context)).toThrow(/which is none of a/);
  expect(errors).toEqual([]);
});
