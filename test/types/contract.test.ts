/** What must and what must not compile against a contract: `npm run types` is the test, each directive an assertion. */

import { expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import type * as signalbox from "../../src/index.js";
import { type Broker, type Context, connect, defineContract, type Handler } from "../../src/index.js";

const contract = defineContract({
  events: {
    "order.created": z.object({ total: z.number(), at: z.string().transform((text) => new Date(text)) }),
    "order.paid": z.object({ by: z.enum(["card", "cash"]) }),
  },
  queues: { tasks: z.object({ task: z.string() }) },
});

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

  const tasks = broker.queue("tasks");
  void tasks.publish({ task: "review" }, { priority: 1, ttlMs: null });
  // @ts-expect-error a payload of the wrong type
  void tasks.publish({ tsak: "review" });
  // @ts-expect-error a queue that the contract does not have
  broker.queue("taks");
  void tasks.subscribe({ concurrency: 2 }, (task) => {
    expectTypeOf(task).toEqualTypeOf<{ task: string }>();
  });
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
}): void {
  expectTypeOf(named.name).toEqualTypeOf<"tasks">();
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
