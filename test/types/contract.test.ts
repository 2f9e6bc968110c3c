/** What must and what must not compile against a contract: `npm run types` is the test, each directive an assertion. */

import { expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import type * as signalbox from "../../src/index.js";
import {
  type Broker,
  type Context,
  connect,
  defineContract,
  type Delivery,
  type DeliveryStream,
  type EventGroup,
  type Explanation,
  type Handler,
  type QueueContext,
  type QueueDelivery,
  type QueuedMessage,
  type QueuePage,
} from "../../src/index.js";

const contract = defineContract({
  events: {
    "order.created": z.object({ total: z.number(), at: z.string().transform((text) => new Date(text)) }),
    "order.paid": z.object({ by: z.enum(["card", "cash"]) }),
  },
  queues: {
    tasks: z.object({ task: z.string() }),
    visits: z.object({ at: z.string().transform((text) => new Date(text)) }),
  },
});

const versioned = defineContract({
  events: {
    "order.created": {
      schema: z.object({ euros: z.number().default(1) }),
      version: 2,
      upgrade: (data, fromVersion) => {
        expectTypeOf(data).toEqualTypeOf<unknown>();
        expectTypeOf(fromVersion).toEqualTypeOf<number>();
        return data;
      },
    },
  },
  queues: { tasks: { schema: z.string(), version: 1 } },
});

/** A schema with a version types as the schema does. Never called. */
export function versionedUse({ events, queue }: Broker<typeof versioned>): void {
  void events.publish("order.created", {});
  // @ts-expect-error a payload of the wrong type
  void events.publish("order.created", { euros: "1" });
  void events.subscribe("order.created", { group: "g", from: "new" }, (order) => {
    expectTypeOf(order).toEqualTypeOf<{ euros: number }>();
  });
  void queue("tasks").publish("review");
  // @ts-expect-error a payload of the wrong type
  void queue("tasks").publish(1);
  // @ts-expect-error a version is a number
  defineContract({ events: { a: { schema: z.string(), version: "1" } } });
}

type Typed = Broker<typeof contract>;

/** Never called: it only has to compile. */
export function typedUse(broker: Typed): void {
  const { events } = broker;
  void events.publish("order.created", { total: 1, at: "2026-01-01" });
  // @ts-expect-error a name that the contract does not have
  void events.publish("order.craeted", { total: 1, at: "2026-01-01" });
  // @ts-expect-error a payload of the wrong type
  void events.publish("order.created", { total: "1", at: "2026-01-01" });
  // @ts-expect-error what a handler gets is not what is published
  void events.publish("order.created", { total: 1, at: new Date() });
  // @ts-expect-error one wrong payload among several
  void events.publishMany("order.paid", [{ by: "card" }, { by: "cheque" }]);
  const either = "order.paid" as "order.paid" | "order.created";
  // @ts-expect-error one of several names: the data has to fit whichever it is
  void events.publish(either, { by: "card" });
  void events.publish(either, { by: "card", total: 1, at: "2026-01-01" });
  const options = { group: "g", from: "beginning" } as const;
  void events.subscribe("order.created", options, (order, context) => {
    expectTypeOf(order).toEqualTypeOf<{ total: number; at: Date }>();
    expectTypeOf(context).toEqualTypeOf<Context<{ total: number; at: Date }>>();
    expectTypeOf(context.message.data.at).toEqualTypeOf<Date>();
  });
  void events.subscribe(["order.created", "order.paid"], options, (order) => {
    expectTypeOf(order).toEqualTypeOf<{ total: number; at: Date } | { by: "card" | "cash" }>();
  });
  // @ts-expect-error group and from have no default
  void events.subscribe("order.created", {}, () => undefined);
  // @ts-expect-error a handler for other data
  void events.subscribe("order.created", options, (order: { total: string }) => order);

  typedConsuming(broker);
  void typedGroups(broker);

  typedQueues(broker);
  void typedItems(broker);
}

function typedQueues(broker: Typed): void {
  type Visit = { at: Date };
  const tasks = broker.queue("tasks", { overflow: "block", index: ["source", "target"], keepAckedMs: 5 });
  void tasks.publish({ task: "review" }, { priority: 1, ttlMs: null });
  // @ts-expect-error a payload of the wrong type
  void tasks.publish({ tsak: "review" });
  // @ts-expect-error a queue that the contract does not have
  broker.queue("taks");
  // @ts-expect-error a field that cannot be indexed
  broker.queue("tasks", { index: ["colour"] });
  // @ts-expect-error an overflow that there is not
  broker.queue("tasks", { overflow: "drop" });
  void tasks.subscribe({ concurrency: 2, as: "ada", priorities: "weighted" }, (task, context) => {
    expectTypeOf(task).toEqualTypeOf<{ task: string }>();
    expectTypeOf(context).toEqualTypeOf<QueueContext<{ task: string }>>();
    context.reply({ anything: "that can be encoded" });
  });
  // @ts-expect-error each consumer has its own copy, or it has not
  void tasks.subscribe({ fanout: false }, () => undefined);
  // @ts-expect-error a group is for events
  void tasks.subscribe({ group: "g" }, () => undefined);
  const visits = broker.queue("visits");
  void visits.publishMany([{ at: "2026-01-01" }], { id: ({ at }, index) => at + index, audience: "online" });
  // @ts-expect-error what a handler gets is not what is published
  void visits.publish({ at: new Date() });
  // @ts-expect-error one id for several messages would store one of them
  void visits.publishMany([{ at: "2026-01-01" }], { id: "x" });
  // @ts-expect-error an audience that there is not
  void visits.publish({ at: "2026-01-01" }, { audience: "everybody" });
  void visits.subscribeBatch({ max: 5, fanout: true }, async (deliveries, { signal }) => {
    expectTypeOf(deliveries).toEqualTypeOf<readonly QueueDelivery<Visit>[]>();
    expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
    await deliveries[0]?.reply("seen");
  });
  expectTypeOf(visits.deliveries({ as: "ada" })).toEqualTypeOf<DeliveryStream<Visit, QueueDelivery<Visit>>>();
  expectTypeOf(visits.request({ at: "2026-01-01" }, { target: "ada", timeoutMs: 5 })).toEqualTypeOf<Promise<unknown>>();
  // @ts-expect-error a request has its own id
  void visits.request({ at: "2026-01-01" }, { id: "x" });
  // @ts-expect-error a request is for one
  void visits.request({ at: "2026-01-01" }, { audience: "online" });
  // Events have nobody who asks.
  expectTypeOf<Context<Visit>>().not.toHaveProperty("reply");
  expectTypeOf<Delivery<Visit>>().not.toHaveProperty("reply");
}

async function typedItems(broker: Typed): Promise<void> {
  type Visit = { at: Date };
  const visits = broker.queue("visits");
  expectTypeOf(await visits.pending("ada", { limit: 5, state: "leased" })).toEqualTypeOf<QueuePage<Visit>>();
  // @ts-expect-error how it stands with everybody is no state of one inbox
  await visits.pending("ada", { state: "acked" });
  expectTypeOf(await visits.get("1")).toEqualTypeOf<QueuedMessage<Visit> | undefined>();
  const { items, cursor } = await visits.list({ filter: { source: "a", target: "b", state: "dead" }, limit: 1 });
  expectTypeOf(cursor).toEqualTypeOf<string | undefined>();
  expectTypeOf(items[0]?.data?.at).toEqualTypeOf<Date | undefined>();
  // @ts-expect-error a field that is never indexed
  await visits.list({ filter: { colour: "red" } });
  expectTypeOf(await visits.count({ acknowledged: false })).toEqualTypeOf<number>();
  expectTypeOf(await visits.acknowledge("1", { recipient: "ada" })).toEqualTypeOf<boolean>();
  expectTypeOf(await visits.acknowledgeMany(["1"])).toEqualTypeOf<readonly boolean[]>();
  expectTypeOf(await visits.delete("1")).toEqualTypeOf<boolean>();
  expectTypeOf(await visits.clear({ confirm: "visits" })).toEqualTypeOf<number>();
  // @ts-expect-error nothing is cleared without its name
  await visits.clear({});
  expectTypeOf(await visits.explain("1", { recipient: "ada" })).toEqualTypeOf<Explanation>();
  for await (const { recipient, isOnline } of visits.recipients())
    expectTypeOf({ recipient, isOnline }).toEqualTypeOf<{ recipient: string; isOnline: boolean }>();
  for await (const { message } of visits.deadLetters("ada"))
    expectTypeOf(message?.data).toEqualTypeOf<Visit | undefined>();
}

function typedConsuming({ events }: Typed): void {
  type Created = { total: number; at: Date };
  void events.publishMany("order.paid", [{ by: "card" }], { key: ({ by }) => by, id: ({ by }, index) => by + index });
  // @ts-expect-error the key comes from what is published, not from what is read
  void events.publishMany("order.created", [], { key: ({ at }: { at: Date }) => at.toISOString() });
  // @ts-expect-error an id is text
  void events.publishMany("order.created", [], { id: ({ total }) => total });
  // @ts-expect-error one id for several events would store one of them
  void events.publishMany("order.paid", [{ by: "card" }], { id: "x" });
  // @ts-expect-error a single event has its key, and no function
  void events.publish("order.paid", { by: "card" }, { key: () => "x" });
  const options = { group: "g", from: { after: "1" }, order: "key", handlerTimeoutMs: 5 } as const;
  void events.subscribeBatch(
    ["order.created", "order.paid"],
    { ...options, max: 5 },
    async (deliveries, { signal }) => {
      expectTypeOf(deliveries).toEqualTypeOf<readonly Delivery<Created | { by: "card" | "cash" }>[]>();
      expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
      await deliveries[0]?.retry({ delayMs: 1 });
    },
  );
  // @ts-expect-error a name that the contract does not have
  void events.subscribeBatch("order.payed", options, () => undefined);
  // @ts-expect-error an order that there is not
  void events.subscribe("order.paid", { group: "g", from: "new", order: "keys" }, () => undefined);
  // @ts-expect-error an iteration has no handler whose time could be limited
  void events.deliveries("order.paid", { group: "g", from: "new", handlerTimeoutMs: 5 });
  expectTypeOf(events.deliveries(["order.created"], { group: "g", from: new Date() })).toEqualTypeOf<
    DeliveryStream<Created>
  >();
  void events.replay(
    "order.created",
    { from: "beginning", to: new Date(), where: ({ total }, { key }) => total > 1 && key === "c", ratePerSecond: 5 },
    (order, { message }) => {
      expectTypeOf(order).toEqualTypeOf<Created>();
      expectTypeOf(message.data.at).toEqualTypeOf<Date>();
    },
  );
  // @ts-expect-error a replay says where it begins
  void events.replay("order.created", {}, () => undefined);
}

async function typedGroups({ events }: Typed): Promise<void> {
  const billing = events.group("order.paid", "billing");
  expectTypeOf(billing).toEqualTypeOf<EventGroup<{ by: "card" | "cash" }, "order.created" | "order.paid">>();
  for await (const { message, stream, group, firstFailedAt } of billing.deadLetters()) {
    expectTypeOf(message?.data).toEqualTypeOf<{ by: "card" | "cash" } | undefined>();
    expectTypeOf({ stream, group, firstFailedAt }).toEqualTypeOf<{
      stream: string;
      group: string;
      firstFailedAt: number;
    }>();
  }
  await billing.configure({ types: ["order.created"], order: "strict" });
  // @ts-expect-error a type that the contract does not have
  await billing.configure({ types: ["order.payed"] });
  // @ts-expect-error where a group starts is seek's business
  await billing.configure({ from: "new" });
  await billing.seek("1-0");
  await billing.seek({ at: "1-0" });
  // @ts-expect-error one or the other
  await billing.seek({ before: "1-0" });
  expectTypeOf(
    await events.configure("order.paid", { maxEntries: 5, maxAgeMs: null }),
  ).toEqualTypeOf<signalbox.Retention>();
  // @ts-expect-error how long a publish waits is each process's own
  await events.configure("order.paid", { blockMs: 5 });
  // @ts-expect-error a name that the contract does not have
  events.group("order.payed", "billing");
  // @ts-expect-error the same
  await events.stats("order.payed");
  expectTypeOf(await events.groups("order.paid")).toEqualTypeOf<readonly string[]>();
}

/** Streams are declared of the contract's types alone. */
export async function typedStreams(): Promise<void> {
  await connect("memory:", {
    contract,
    streams: { orders: { types: ["order.created", "order.paid"], maxEntries: 5 } },
  });
  // @ts-expect-error a type that the contract does not have
  await connect("memory:", { contract, streams: { orders: { types: ["order.created", "order.payed"] } } });
  // @ts-expect-error an overflow that there is not
  await connect("memory:", { streams: { orders: { overflow: "drop" } } });
  await connect("memory:", { streams: { orders: { types: ["anything"] } } });
}

/** Without a contract every name is a string and every payload unknown. */
export function untypedUse(broker: Broker): void {
  void broker.events.publish("anything", { at: 1 });
  const handler: Handler<unknown> = (data) => expectTypeOf(data).toEqualTypeOf<unknown>();
  void broker.events.subscribe("anything", { group: "g", from: "new" }, handler);
  void broker.queue("any").publish(1);
}

/** A section that a contract leaves out stays untyped. */
export function partlyTypedUse(broker: Broker<ReturnType<typeof onlyQueues>>): void {
  void broker.events.publish("anything", { at: 1 });
  // @ts-expect-error the section that is there is checked
  broker.queue("other");
}

function onlyQueues() {
  return defineContract({ queues: { tasks: z.string() } });
}

/** What the signatures show can be named. */
export function namedUse(named: {
  check: signalbox.Check;
  consumer: signalbox.ConsumerHealth;
  stats: signalbox.SubscriptionStats & signalbox.ConsumerStats;
  message: signalbox.MessageOptions;
  open: signalbox.OpenQueue<signalbox.NoContract>;
  tls: signalbox.TlsOptions;
  labels: signalbox.Labels;
  bytes: signalbox.Bytes;
  schema: signalbox.Schema;
  name: signalbox.NameIn<typeof contract, "queues">;
  input: signalbox.InputOf<typeof contract, "queues", "tasks">;
  output: signalbox.OutputOf<typeof contract, "queues", "tasks">;
  level: signalbox.LogLevel;
  places: readonly [signalbox.StartPlace, signalbox.Position];
  options: readonly [
    signalbox.SubscribeBatchOptions,
    signalbox.ConsumeEventOptions,
    signalbox.ConsumeQueueOptions,
    signalbox.PublishEventsOptions,
    signalbox.ReplayOptions,
    signalbox.RedriveOptions,
    signalbox.PurgeOptions,
    signalbox.StreamOptions,
    signalbox.StreamLimits,
    signalbox.CallOptions,
    signalbox.GroupConfiguration,
    signalbox.BatchOptions,
    signalbox.QueueOptions,
    signalbox.IndexedField,
    signalbox.PublishQueueOptions,
    signalbox.PublishManyQueueOptions,
    signalbox.SubscribeQueueOptions,
    signalbox.SubscribeQueueBatchOptions,
    signalbox.RequestOptions,
    signalbox.RegisterRecipientOptions,
    signalbox.QueueCallOptions,
    signalbox.PendingOptions,
    signalbox.ListOptions,
    signalbox.QueueFilter,
    signalbox.AcknowledgeOptions,
    signalbox.ClearOptions,
    signalbox.ExplainOptions,
  ];
  results: readonly [
    signalbox.ReplayResult,
    signalbox.EventStats,
    signalbox.EventGroupStats,
    signalbox.EventDeadLetter,
    signalbox.QueueDeadLetter,
    signalbox.GroupHealth,
    signalbox.GroupSettings,
    signalbox.Retention,
    signalbox.EntryPlace,
    signalbox.QueueReceipt,
    signalbox.QueueStats,
    signalbox.ExpiredMessages,
    signalbox.RegisteredRecipient,
    signalbox.RecipientState,
    signalbox.ItemState,
    signalbox.OpenState,
    signalbox.RecordState,
  ];
  batch: readonly [signalbox.BatchContext, signalbox.BatchHandler<unknown>];
  handler: signalbox.QueueHandler<unknown>;
  queue: signalbox.Queue<unknown>;
  contract: readonly [signalbox.Versioned, signalbox.AsyncApiDocument, signalbox.AsyncApiInfo, signalbox.NameRules];
  templates: readonly [signalbox.AnyChannel, signalbox.Channel<"a.{b}">, signalbox.Params];
  middleware: readonly [
    signalbox.Middleware,
    signalbox.Publication,
    signalbox.PublishNext,
    signalbox.HandlerRun,
    signalbox.Received,
    signalbox.FacadeName,
    signalbox.PayloadTransform,
    signalbox.PayloadPlace,
    signalbox.EncryptionOptions,
  ];
  registered: readonly [signalbox.Registered, signalbox.RegisterOptions];
}): void {
  expectTypeOf(named.name).toEqualTypeOf<"tasks" | "visits">();
  expectTypeOf(named.input).toEqualTypeOf<{ task: string }>();
}

test("connect infers the contract from its options", async () => {
  const broker = await connect("memory:", { contract });
  expectTypeOf(broker).toEqualTypeOf<Typed>();
  await broker.close();
});

test("a definition that is none is refused with every problem at once", () => {
  const wrong = { events: { a: 1, b: {} }, qeues: {} };
  expect(() => defineContract(wrong as object)).toThrow(
    expect.objectContaining({
      code: "CONFIG",
      problems: [
        expect.stringContaining('contract.events["a"]'),
        expect.stringContaining('contract.events["b"]'),
        expect.stringContaining('did you mean "queues"?'),
      ],
    }),
  );
});
