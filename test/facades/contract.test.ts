/** Contracts at work: whatever the validator, wrong data is refused where it is published, and parked where it arrives. */

import { type as arktype } from "arktype";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import {
  type Broker,
  channel,
  type DeadLetter,
  deadLetter,
  defineContract,
  SchemaError,
  type Schema,
  when,
} from "../../src/index.js";
import { until } from "../support/wait.js";
import { collect, onEveryBackend } from "./support/lanes.js";

/** One and the same schema in several libraries: a total, and a date that travels as text. */
const SCHEMAS: Readonly<Record<string, Schema>> = {
  zod: z.object({ total: z.number(), at: z.string().transform((text) => new Date(text)) }),
  "zod, asynchronously": z.object({
    total: z.number().refine(async (total) => (await Promise.resolve(total)) >= 0),
    at: z.string().transform(async (text) => new Date(await Promise.resolve(text))),
  }),
  valibot: v.object({
    total: v.number(),
    at: v.pipe(
      v.string(),
      v.transform((text) => new Date(text)),
    ),
  }),
  "valibot, asynchronously": v.objectAsync({
    total: v.pipeAsync(
      v.number(),
      v.checkAsync(async (total) => (await Promise.resolve(total)) >= 0),
    ),
    at: v.pipe(
      v.string(),
      v.transform((text) => new Date(text)),
    ),
  }),
  arktype: arktype({ total: "number", at: "string.date.parse" }),
};
const GOOD = { total: 5, at: "2026-01-02T03:04:05.000Z" };
const READ = { total: 5, at: new Date(GOOD.at) };

interface Calls {
  publish(broker: Broker, name: string, data: unknown): Promise<unknown>;
  consume(broker: Broker, name: string, handler: (data: unknown) => void): Promise<unknown>;
  letters(broker: Broker, name: string): Promise<readonly DeadLetter[]>;
}

const FACADES: Readonly<Record<"events" | "queues", Calls>> = {
  events: {
    publish: (broker, name, data) => broker.events.publish(name, data),
    consume: (broker, name, handler) => broker.events.subscribe(name, { group: "g", from: "beginning" }, handler),
    letters: (broker, name) => collect(broker.events.group(name, "g").deadLetters()),
  },
  queues: {
    publish: async (broker, name, data) => await broker.queue(name).publish(data),
    consume: (broker, name, handler) => broker.queue(name).subscribe({}, handler),
    letters: (broker, name) => collect(broker.queue(name).deadLetters()),
  },
};

onEveryBackend("contracts", (lane) => {
  describe.each(["events", "queues"] as const)("of %s", (section) => {
    const calls = FACADES[section];

    test.each(Object.entries(SCHEMAS))("check at both ends, with %s", async (_, schema) => {
      const name = lane.unique("order");
      const contract = defineContract({ [section]: { [name]: schema } });
      // The compiler does not know a name that is made up here.
      const checked = (await lane.open({ contract })) as Broker;
      await expect(calls.publish(checked, name, { ...GOOD, total: "5" })).rejects.toMatchObject({
        code: "SCHEMA",
        issues: [{ path: "total" }],
      });
      await expect(calls.publish(checked, `${name}s`, GOOD)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
      const unchecked = await lane.open();
      await calls.publish(unchecked, name, { total: "forged" });
      await calls.publish(checked, name, GOOD);
      const heard: unknown[] = [];
      await calls.consume(checked, name, (data) => void heard.push(data));
      await until(() => heard.length === 1);
      expect(heard).toEqual([READ]);
      await until(async () => (await calls.letters(checked, name)).length === 1);
      const [letter] = await calls.letters(checked, name);
      expect(letter?.reason).toMatchObject({ kind: "undecodable", message: expect.stringContaining("total") });
      expect(letter?.message?.data).toEqual({ total: "forged" });
    });
  });

  test.each(Object.entries(SCHEMAS))("of channels check at both ends, with %s", async (_, schema) => {
    const template = `${lane.unique("order")}.{id}` as "order.{id}";
    const contract = defineContract({ channels: { [template]: schema } });
    const checked = (await lane.open({ contract })) as Broker;
    const name = channel(template).name({ id: "a/b" });
    await expect(checked.pubsub.publish(name, { ...GOOD, total: "5" })).rejects.toMatchObject({
      code: "SCHEMA",
      issues: [{ path: "total" }],
    });
    await expect(checked.pubsub.publish(`no-${name}`, GOOD)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const heard: unknown[] = [];
    checked.pubsub.onError(when(SchemaError), (error) => deadLetter(error.message));
    await checked.pubsub.subscribe(template, (data, { params }) => void heard.push([data, params]));
    const unchecked = await lane.open();
    await unchecked.pubsub.publish(name, { total: "forged" });
    await checked.pubsub.publish(name, GOOD);
    await until(() => heard.length === 1);
    expect(heard).toEqual([[READ, { id: "a/b" }]]);
    await until(async () => (await collect(checked.pubsub.deadLetters(template))).length === 1);
    const [letter] = await collect(checked.pubsub.deadLetters(template));
    expect(letter?.reason.message).toContain("total");
    expect(letter).toMatchObject({ channel: name, message: { data: { total: "forged" } } });
  });

  test("[D9][D10] what is published to a channel is typed and checked by it: a notification has the shape of its schema", async () => {
    const contract = defineContract({
      channels: {
        notifications: z.object({ userId: z.number(), notification: z.string(), timestamp: z.iso.datetime() }),
      },
    });
    const broker = await lane.open({ contract });
    const heard: string[] = [];
    await broker.pubsub.subscribe(
      "notifications",
      ({ userId, notification }) => void heard.push(`${userId}: ${notification}`),
    );
    await broker.pubsub.publish("notifications", {
      userId: 7,
      notification: "hello",
      timestamp: "2026-01-01T00:00:00Z",
    });
    // @ts-expect-error the compiler refuses what the schema refuses
    const wrong = broker.pubsub.publish("notifications", { userId: "7", notification: "hello", timestamp: "now" });
    await expect(wrong).rejects.toMatchObject({ code: "SCHEMA", issues: [{ path: "userId" }, { path: "timestamp" }] });
    // @ts-expect-error nor is there such a channel
    await expect(broker.pubsub.publish("notification", {})).rejects.toThrow('did you mean "notifications"?');
    await until(() => heard.length === 1);
    expect(heard).toEqual(["7: hello"]);
  });

  test("[D24] messages of several kinds are checked on both sides, and one of no known kind has its reason", async () => {
    const message = z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("notification"), userId: z.number(), data: z.record(z.string(), z.unknown()) }),
      z.object({ kind: z.literal("presence"), userId: z.number(), status: z.enum(["online", "away"]) }),
    ]);
    const contract = defineContract({ channels: { "user.{id}": message }, events: { "user.said": message } });
    const broker = await lane.open({ contract });
    const heard: string[] = [];
    broker.pubsub.onError(when(SchemaError), (error) => deadLetter(error.message));
    const handler = (said: z.infer<typeof message>): void => {
      if (said.kind === "presence") heard.push(said.status);
      else heard.push(...Object.keys(said.data));
    };
    const sub = await broker.pubsub.subscribe("user.{id}", handler);
    await broker.events.subscribe("user.said", { group: "g", from: "new" }, handler);
    await broker.pubsub.publish("user.7", { kind: "presence", userId: 7, status: "away" });
    await broker.events.publish("user.said", { kind: "notification", userId: 7, data: { invoice: 1 } });
    // @ts-expect-error the fields of one kind under the name of another
    await expect(broker.pubsub.publish("user.7", { kind: "presence", userId: 7, data: {} })).rejects.toBeInstanceOf(
      SchemaError,
    );
    const other = await lane.open();
    await other.pubsub.publish("user.7", { kind: "typing", userId: 7 });
    await other.events.publish("user.said", { kind: "typing", userId: 7 });
    await until(async () => (await collect(broker.pubsub.deadLetters("user.{id}"))).length === 1);
    await until(async () => (await collect(broker.events.group("user.said", "g").deadLetters())).length === 1);
    const letters: readonly DeadLetter[] = [
      ...(await collect(broker.pubsub.deadLetters("user.{id}"))),
      ...(await collect(broker.events.group("user.said", "g").deadLetters())),
    ];
    for (const { reason, message: parked } of letters) {
      expect(reason.message).toContain("kind");
      expect(parked?.data).toEqual({ kind: "typing", userId: 7 });
    }
    expect(heard.toSorted()).toEqual(["away", "invoice"]);
    await broker.pubsub.purge("user.{id}");
    await sub.close();
  });

  test("a name belongs to the most specific template, for publishers, for templates and for patterns", async () => {
    const contract = defineContract({
      channels: { "chat.{room}": z.string(), "chat.{room}.typing": z.boolean(), "chat.lobby": z.number() },
    });
    const broker = await lane.open({ contract });
    const heard: unknown[] = [];
    await broker.pubsub.subscribe("chat.{room}", (text, { params }) => void heard.push(["template", text, params]));
    await broker.pubsub.subscribe("chat.*", (text, { params }) => void heard.push(["pattern", text, params]));
    await broker.pubsub.subscribe("chat.{room}.typing", (typing, { params }) => void heard.push([typing, params]));
    await broker.pubsub.subscribe("chat.kitchen", (text, { params }) => void heard.push(["name", text, params]));
    await broker.pubsub.publish("chat.kitchen.typing", true);
    await broker.pubsub.publish("chat.lobby", 7);
    await broker.pubsub.publish("chat.kitchen", "hello");
    await until(() => heard.length === 4);
    expect(heard).toEqual(
      expect.arrayContaining([
        [true, { room: "kitchen" }],
        ["template", "hello", { room: "kitchen" }],
        ["pattern", "hello", { "0": "kitchen" }],
        ["name", "hello", { room: "kitchen" }],
      ]),
    );
  });
});
