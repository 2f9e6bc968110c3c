/** Pub/sub as its users see it, the same on every backend: who hears what, from when on, once and in order. */

import { expect, test } from "vitest";
import { z } from "zod";
import { type Broker, type Context, channel, defineContract } from "../../src/index.js";
import { until } from "../support/wait.js";
import { byText, onEveryBackend } from "./support/lanes.js";

const contract = defineContract({
  channels: {
    notifications: z.object({ userId: z.number(), kind: z.string() }),
    "user:{id}": z.object({ userId: z.number(), kind: z.string() }),
    "events.{type}": z.object({ id: z.number() }),
    "chat.{room}": z.object({ from: z.string(), text: z.string() }),
    "chat.{room}.typing": z.object({ from: z.string() }),
  },
  events: { "order.created": z.object({ total: z.number() }) },
});

/** Notes what it hears. */
function createEar() {
  const contexts: Context[] = [];
  const handler = (_: unknown, context: Context): void => void contexts.push(context);
  return {
    contexts,
    handler,
    data: () => contexts.map(({ message }) => message.data),
    channels: () => contexts.map((context) => context.channel),
    params: () => contexts.map((context) => context.params),
  };
}

onEveryBackend("pub/sub", (lane) => {
  /** Two brokers on one store, as two processes have it. */
  const openTwo = async (): Promise<[Broker, Broker]> => [await lane.open(), await lane.open()];

  test("[D21] once subscribe has resolved, whatever is published is heard, by name and by pattern", async () => {
    const [here, there] = await openTwo();
    for (let round = 0; round < 10; round += 1) {
      const name = lane.unique("news");
      const [exact, glob] = [createEar(), createEar()];
      await here.pubsub.subscribe(`${name}.a`, exact.handler);
      await there.pubsub.publish(`${name}.a`, round);
      await here.pubsub.subscribe(`${name}.*`, glob.handler);
      await there.pubsub.publish(`${name}.a`, `${round} again`);
      await until(() => exact.contexts.length === 2 && glob.contexts.length === 1);
      expect([exact.data(), glob.data()]).toEqual([[round, `${round} again`], [`${round} again`]]);
    }
  });

  test("[D21] an iteration listens once it is ready", async () => {
    const [here, there] = await openTwo();
    const name = lane.unique("news");
    await using heard = here.pubsub.listen(name);
    await heard.ready();
    await there.pubsub.publishMany(name, [1, 2, 3]);
    const got: unknown[] = [];
    for await (const { data, channel: at } of heard) {
      got.push([at, data]);
      if (got.length === 3) break;
    }
    expect(got).toEqual([1, 2, 3].map((number) => [name, number]));
  });

  test("the envelope arrives whole", async () => {
    const [here, there] = [await lane.open(), await lane.open({ source: "shop" })];
    const name = lane.unique("news");
    const ear = createEar();
    await here.pubsub.subscribe(name, { concurrency: 1 }, ear.handler);
    const options = {
      source: "till-7",
      correlationId: "c-1",
      causationId: "b-1",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      schemaVersion: 3,
      headers: { tenant: "Zürich\n2" },
    };
    const { id } = await there.pubsub.publish(name, { total: 1 }, options);
    await there.pubsub.publish(name, { total: 2 });
    await there.pubsub.publish(name, Uint8Array.of(0, 10, 255));
    await until(() => ear.contexts.length === 3);
    const [full, plain, bytes] = ear.contexts.map(({ message }) => message);
    expect(full).toMatchObject({ id, channel: name, type: name, ...options, contentType: "json", data: { total: 1 } });
    expect(plain).toMatchObject({ source: "shop", data: { total: 2 } });
    expect(Math.abs((plain?.time ?? 0) - Date.now())).toBeLessThan(5_000);
    expect(Array.from(bytes?.data as Uint8Array)).toEqual([0, 10, 255]);
    expect(ear.contexts.map(({ attempt }) => attempt)).toEqual([1, 1, 1]);
  });

  test("what is published together, and one after the other, is heard in order", async () => {
    const [here, there] = await openTwo();
    const [one, other] = [lane.unique("one"), lane.unique("other")];
    const ear = createEar();
    await here.pubsub.subscribe([one, other], { concurrency: 1, buffer: 10_000 }, ear.handler);
    const numbers = Array.from({ length: 700 }, (_, index) => index);
    await Promise.all(numbers.slice(0, 600).map((n) => there.pubsub.publish(n % 2 === 0 ? one : other, n)));
    for (const n of numbers.slice(600)) await there.pubsub.publish(n % 2 === 0 ? one : other, n);
    await until(() => ear.contexts.length === 700);
    for (const name of [one, other]) {
      const heard = ear.contexts.filter((context) => context.channel === name).map(({ message }) => message.data);
      expect(heard).toEqual(numbers.filter((n) => (n % 2 === 0 ? one : other) === name));
    }
  });

  test("receivers counts the processes that listen: in one exactly, in several as far as is known", async () => {
    const [here, there] = await openTwo();
    const name = lane.unique("news");
    expect((await here.pubsub.publish(name, 1)).receivers).toBe(0);
    await here.pubsub.subscribe(name, () => undefined);
    await here.pubsub.subscribe(name, () => undefined);
    expect((await here.pubsub.publish(name, 1)).receivers).toBe(1);
    expect((await there.pubsub.publish(name, 1)).receivers).toBe(1);
    await there.pubsub.subscribe(name, () => undefined);
    const receipts = await here.pubsub.publishMany(name, [1, 2, 3]);
    expect(receipts.map(({ receivers }) => receivers)).toEqual([2, 2, 2]);
    expect(new Set(receipts.map(({ id }) => id)).size).toBe(3);
  });

  test("[D11] a broadcast event goes out under its own type, and subscribers of the type and of all types hear it", async () => {
    const [here, there] = [await lane.open({ contract }), await lane.open({ contract })];
    const [signups, all] = [createEar(), createEar()];
    await here.pubsub.subscribe("events.signup", signups.handler);
    await here.pubsub.subscribe("events.{type}", all.handler);
    const broadcastEvent = (event: { type: string; id: number }): Promise<unknown> =>
      there.pubsub.publish(`events.${event.type}`, { id: event.id });
    await broadcastEvent({ type: "signup", id: 1 });
    await broadcastEvent({ type: "logout", id: 2 });
    await until(() => all.contexts.length === 2);
    expect(signups.data()).toEqual([{ id: 1 }]);
    expect(all.channels()).toEqual(["events.signup", "events.logout"]);
  });

  test("[D13] a pattern's handler gets the channel, what the wild cards stand for, and data that its schema has seen", async () => {
    const [plain, typed] = [await lane.open(), await lane.open({ contract })];
    const prefix = lane.unique("p");
    const [raw, checked] = [createEar(), createEar()];
    await plain.pubsub.subscribe(`${prefix}.*.[xy]?`, raw.handler);
    await typed.pubsub.subscribe("events.*", checked.handler);
    await plain.pubsub.publish(`${prefix}.a.b.xü`, 1);
    await typed.pubsub.publish("events.signup", { id: 7, more: "is left out by the schema" } as { id: number });
    await until(() => raw.contexts.length === 1 && checked.contexts.length === 1);
    expect(raw.channels()).toEqual([`${prefix}.a.b.xü`]);
    expect(raw.params()).toEqual([{ 0: "a.b", 1: "x", 2: "ü" }]);
    expect([checked.channels(), checked.params(), checked.data()]).toEqual([
      ["events.signup"],
      [{ 0: "signup" }],
      [{ id: 7 }],
    ]);
  });

  test("[D14] the variable parts of a name reach the handler as parameters, whatever they hold", async () => {
    const broker = await lane.open({ contract });
    const ear = createEar();
    await broker.pubsub.subscribe("chat.{room}", { concurrency: 1 }, ear.handler);
    await broker.pubsub.subscribe("user:7", { concurrency: 1 }, ear.handler);
    const rooms = ["lobby", "a/b", "a.b", "a:b", "küche %2F"];
    for (const room of rooms)
      await broker.pubsub.publish(channel("chat.{room}").name({ room }), { from: "ada", text: room });
    await broker.pubsub.publish("user:7", { userId: 7, kind: "hello" });
    await until(() => ear.contexts.length === rooms.length + 1);
    expect(ear.params()).toEqual([...rooms.map((room) => ({ room })), { id: "7" }]);
  });

  test("without a contract a template works all the same, and hears no channel that it does not make", async () => {
    const [here, there] = await openTwo();
    const prefix = lane.unique("p");
    const ear = createEar();
    await here.pubsub.subscribe(`${prefix}/{tenant}/orders/{id}`, ear.handler);
    for (const name of [
      `${prefix}/t/orders/1`,
      `${prefix}/t/orders/1/lines`,
      `${prefix}/t/x/orders/2`,
      `${prefix}/u/orders/3`,
    ])
      await there.pubsub.publish(name, name);
    await until(() => ear.contexts.length === 2);
    expect(ear.params()).toEqual([
      { tenant: "t", id: "1" },
      { tenant: "u", id: "3" },
    ]);
  });

  test("a template of the contract hears its own names, and not those of a more specific one", async () => {
    const broker = await lane.open({ contract });
    const [rooms, typing] = [createEar(), createEar()];
    await broker.pubsub.subscribe("chat.{room}", rooms.handler);
    await broker.pubsub.subscribe("chat.{room}.typing", typing.handler);
    await broker.pubsub.publish("chat.lobby", { from: "ada", text: "hello" });
    await broker.pubsub.publish("chat.lobby.typing", { from: "ada" });
    await until(() => rooms.contexts.length === 1 && typing.contexts.length === 1);
    expect([rooms.channels(), typing.channels()]).toEqual([["chat.lobby"], ["chat.lobby.typing"]]);
  });

  test("[D15] where a name and patterns of one call fit, the handler runs once", async () => {
    const [here, there] = await openTwo();
    const prefix = lane.unique("p");
    const ear = createEar();
    await here.pubsub.subscribe([`${prefix}.*`, `${prefix}.a`, `${prefix}.{x}`, `${prefix}.[ab]`], ear.handler);
    const iteration = here.pubsub.listen([`${prefix}.a`, `${prefix}.*`]);
    await iteration.ready();
    await there.pubsub.publish(`${prefix}.a`, 1);
    await here.pubsub.publish(`${prefix}.a`, 2);
    await there.pubsub.publish(`${prefix}.b`, 3);
    await there.pubsub.publish(`${prefix}.end`, "end");
    await until(() => ear.data().includes("end"));
    expect(ear.data().toSorted(byText)).toEqual([1, 2, 3, "end"]);
    const got: unknown[] = [];
    for await (const { data } of iteration) {
      got.push(data);
      if (data === "end") break;
    }
    expect(got.toSorted(byText)).toEqual([1, 2, 3, "end"]);
  });

  test("[D15] across calls each subscription has its own copy, and with dedupe a handler runs once", async () => {
    const [here, there] = await openTwo();
    const prefix = lane.unique("p");
    const [twice, once] = [createEar(), createEar()];
    for (const name of [`${prefix}.a`, `${prefix}.*`]) {
      await here.pubsub.subscribe(name, twice.handler);
      await here.pubsub.subscribe(name, { dedupe: true }, once.handler);
    }
    for (const n of [1, 2, 3]) await (n === 2 ? here : there).pubsub.publish(`${prefix}.a`, n);
    await until(() => twice.contexts.length === 6 && once.contexts.length === 3);
    await there.pubsub.publish(`${prefix}.b`, "end");
    await until(() => twice.data().includes("end") && once.data().includes("end"));
    expect(twice.data().toSorted(byText)).toEqual([1, 1, 2, 2, 3, 3, "end"]);
    expect(once.data().toSorted(byText)).toEqual([1, 2, 3, "end"]);
  });

  test("[D32] a message sent along two paths keeps one id, and one who listens on both handles it once", async () => {
    const [here, there] = [await lane.open({ contract }), await lane.open({ contract })];
    const [own, everybody] = [createEar(), createEar()];
    await here.pubsub.subscribe(["user:7", "notifications"], { dedupe: true }, own.handler);
    await here.pubsub.subscribe("notifications", everybody.handler);
    const notifyUser = async (userId: number, kind: string): Promise<void> => {
      const { id } = await there.pubsub.publish(`user:${userId}`, { userId, kind });
      await there.pubsub.publish("notifications", { userId, kind }, { id });
    };
    await notifyUser(7, "for both");
    await notifyUser(8, "for everybody");
    await until(() => everybody.contexts.length === 2 && own.contexts.length === 2);
    expect(own.contexts.map(({ message }) => message.data)).toEqual([
      { userId: 7, kind: "for both" },
      { userId: 8, kind: "for everybody" },
    ]);
    expect(own.contexts[0]?.message.id).toBe(everybody.contexts[0]?.message.id);
  });

  test("[D33] chat: a message goes to its room, and to nobody in another", async () => {
    const [here, there] = [await lane.open({ contract }), await lane.open({ contract })];
    const rooms = channel("chat.{room}");
    const [lobby, kitchen] = [createEar(), createEar()];
    await here.pubsub.subscribe(rooms.name({ room: "lobby" }), lobby.handler);
    await here.pubsub.subscribe(rooms.name({ room: "kitchen" }), kitchen.handler);
    const sendMessage = (room: string, text: string): Promise<unknown> =>
      there.pubsub.publish(rooms.name({ room }), { from: "ada", text });
    await sendMessage("lobby", "hello");
    await sendMessage("kitchen", "tea?");
    await until(() => lobby.contexts.length === 1 && kitchen.contexts.length === 1);
    expect([lobby.data(), kitchen.data()]).toEqual([[{ from: "ada", text: "hello" }], [{ from: "ada", text: "tea?" }]]);
    // @ts-expect-error a message without its text
    await expect(there.pubsub.publish("chat.lobby", { from: "ada" })).rejects.toMatchObject({ code: "SCHEMA" });
  });

  test("[X6] whether a message is kept shows in its section of the contract: channels are told, events are stored", async () => {
    const broker = await lane.open({ contract });
    const early = createEar();
    const told = await broker.pubsub.publish("events.signup", { id: 1 });
    expect(told).toEqual({ id: told.id, receivers: 0 });
    await broker.pubsub.subscribe("events.signup", early.handler);
    const stored = await broker.events.publish("order.created", { total: 1 });
    expect(stored.durability).toBeTypeOf("string");
    const late: unknown[] = [];
    await broker.events.subscribe(
      "order.created",
      { group: lane.unique("g"), from: "beginning" },
      (data) => void late.push(data),
    );
    await until(() => late.length > 0);
    expect(early.contexts).toEqual([]);
    // @ts-expect-error an event
    await expect(broker.pubsub.publish("order.created", { total: 1 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    // @ts-expect-error a channel
    await expect(broker.events.publish("notifications", {})).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("sharded channels are heard by sharded subscriptions alone, and have no patterns", async () => {
    const [here, there] = await openTwo();
    const name = lane.unique("shard");
    const [sharded, plain] = [createEar(), createEar()];
    await here.pubsub.subscribe(name, { sharded: true }, sharded.handler);
    await here.pubsub.subscribe(`${name}*`, plain.handler);
    await there.pubsub.publishMany(name, [1, 2], { sharded: true });
    await until(() => sharded.contexts.length === 2);
    await there.pubsub.publish(name, 3);
    await until(() => plain.contexts.length === 1);
    expect([sharded.data(), plain.data()]).toEqual([[1, 2], [3]]);
    for (const pattern of ["a*", "a.{b}"]) {
      const subscribing = here.pubsub.subscribe(pattern, { sharded: true }, () => undefined);
      await expect(subscribing).rejects.toMatchObject({
        code: "UNSUPPORTED",
        message: expect.stringContaining(pattern),
      });
      expect(() => here.pubsub.listen(pattern, { sharded: true })).toThrow(/no patterns/);
    }
  });

  const noop = (): void => undefined;
  const bad: Readonly<
    Record<string, readonly [(pubsub: Broker["pubsub"]) => unknown, { code?: string; says?: RegExp }]>
  > = {
    "publishing to a pattern": [(pubsub) => pubsub.publish("a.*", 1), { says: /"a\.\*"/ }],
    "publishing to a template": [(pubsub) => pubsub.publish("a.{b}", 1), { says: /\{b\}/ }],
    "publishing to no name": [(pubsub) => pubsub.publish("", 1), {}],
    "an option of publish that there is none of": [
      (pubsub) => pubsub.publish("a", 1, { priority: 1 } as object),
      { says: /priority/ },
    ],
    "an id for many": [(pubsub) => pubsub.publishMany("a", [1], { id: "x" } as object), { says: /no id/ }],
    "sharded: false": [(pubsub) => pubsub.publish("a", 1, { sharded: false } as object), { says: /must be true/ }],
    "what JSON cannot hold": [(pubsub) => pubsub.publish("a", { at: 1n }), { code: "CODEC", says: /payload\.at/ }],
    "subscribing to nothing": [(pubsub) => pubsub.subscribe([], noop), { says: /not none/ }],
    "subscribing to what is no text": [(pubsub) => pubsub.subscribe([7 as unknown as string], noop), { says: /7/ }],
    "a handler that is none": [
      (pubsub) => pubsub.subscribe("a", {}, "handler" as unknown as () => void),
      { says: /function/ },
    ],
    "no handler": [(pubsub) => (pubsub.subscribe as (name: string) => unknown)("a"), { says: /function/ }],
    'overflow "block"': [
      (pubsub) => pubsub.subscribe("a", { overflow: "block" as "error" }, noop),
      { code: "CONFIG", says: /events or a queue/ },
    ],
    "a buffer below none": [
      (pubsub) => pubsub.subscribe("a", { buffer: -1 }, noop),
      { code: "CONFIG", says: /buffer/ },
    ],
    "an option of subscribe that there is none of": [
      (pubsub) => pubsub.subscribe("a", { group: "g" } as object, noop),
      { code: "CONFIG", says: /group/ },
    ],
    "concurrency for an iteration": [
      async (pubsub) => pubsub.listen("a", { concurrency: 2 } as object),
      { code: "CONFIG", says: /concurrency/ },
    ],
    "dead letters of no name": [async (pubsub) => await pubsub.purge(""), {}],
  };
  test.each(Object.entries(bad))(
    "%s is refused, and nothing is left behind",
    async (_, [call, { code = "INVALID_ARGUMENT", says = /./ }]) => {
      const broker = await lane.open();
      await expect(Promise.resolve(broker.pubsub).then(call)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(says),
      });
      expect((await broker.health()).details.consumers).toEqual([]);
    },
  );
});
