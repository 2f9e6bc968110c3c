/** Contracts as AsyncAPI documents, read by AsyncAPI's own parser. */

import { Parser } from "@asyncapi/parser";
import { type as arktype } from "arktype";
import * as v from "valibot";
import { expect, test } from "vitest";
import { z } from "zod";
import { defineContract, toAsyncApi } from "../../src/index.js";

const INFO = { title: "Shop", version: "1.2.0" };

interface Tree {
  readonly name: string;
  readonly children: readonly Tree[];
}
const tree: z.ZodType<Tree> = z.object({ name: z.string(), children: z.array(z.lazy(() => tree)) });

const contract = defineContract({
  channels: {
    notifications: z.object({ userId: z.number().int(), notification: z.string(), timestamp: z.iso.datetime() }),
    "user:{id}/{device}": z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("text"), text: z.string() }),
      z.object({ kind: z.literal("typing") }),
    ]),
    "chat.{room}": { schema: arktype({ text: "string", "at?": "number" }), version: 3, upgrade: (data) => data },
    "100% ~/done": z.boolean(),
  },
  events: {
    "order.created": z.object({ total: z.number().positive().default(1), when: z.coerce.date() }),
    forest: tree,
  },
  queues: { tasks: v.object({ task: v.string() }) },
  agents: { coder: { receives: z.object({ code: z.string() }), replies: z.object({ patch: z.string() }) } },
  rooms: { "quakes.{region}": { quake: z.object({ magnitude: z.number() }), chat: z.string() } },
});

/** Errors and warnings. That there is a newer version of AsyncAPI is information. */
const SERIOUS: readonly number[] = [0, 1];

async function parse(document: unknown) {
  const { document: parsed, diagnostics } = await new Parser().parse(JSON.stringify(document));
  return {
    parsed,
    errors: diagnostics
      .filter(({ severity }) => SERIOUS.includes(severity))
      .map(({ message, path }) => [path, message]),
  };
}

test("a contract of every section is a document that AsyncAPI's parser accepts, and finds everything in", async () => {
  const { parsed, errors } = await parse(toAsyncApi(contract, { ...INFO, description: "What it says." }));
  expect(errors).toEqual([]);
  expect(parsed?.version()).toBe("3.0.0");
  expect(parsed?.info().title()).toBe("Shop");
  const addresses = parsed
    ?.channels()
    .all()
    .map((each) => each.address());
  expect(addresses).toEqual(
    expect.arrayContaining(["notifications", "user:{id}/{device}", "chat.{room}", "order.created", "tasks", "coder"]),
  );
  const user = parsed?.channels().get("channels.user:{id}/{device}");
  expect(
    user
      ?.parameters()
      .all()
      .map((each) => each.id()),
  ).toEqual(["id", "device"]);
  expect(
    user
      ?.operations()
      .all()
      .map((each) => each.action()),
  ).toEqual(["send", "receive"]);
  const room = parsed?.channels().get("rooms.quakes.{region}");
  expect(
    room
      ?.messages()
      .all()
      .map((each) => each.name()),
  ).toEqual(["quake", "chat"]);
  const asked = parsed?.operations().get("send.agents.coder");
  expect(asked?.reply()?.channel()?.id()).toBe("replies.coder");
});

test("payloads are what their schemas take, where the validator can say so", async () => {
  const { parsed } = await parse(toAsyncApi(contract, INFO));
  const messageOf = (id: string) => parsed?.channels().get(id)?.messages().all()[0];
  const payloadOf = (id: string): unknown => messageOf(id)?.payload()?.json();
  expect(payloadOf("channels.notifications")).toMatchObject({
    type: "object",
    properties: { userId: { type: "integer" }, notification: { type: "string" } },
    required: ["userId", "notification", "timestamp"],
  });
  expect(payloadOf("channels.user:{id}/{device}")).toMatchObject({ oneOf: [{ type: "object" }, { type: "object" }] });
  expect(payloadOf("channels.chat.{room}")).toMatchObject({ properties: { text: { type: "string" } } });
  expect(messageOf("channels.chat.{room}")?.json()).toMatchObject({ "x-schema-version": 3 });
  expect(payloadOf("events.order.created")).toMatchObject({ properties: { total: { exclusiveMinimum: 0 }, when: {} } });
  expect(messageOf("queues.tasks")?.description()).toContain("does not say as JSON Schema");
  expect(messageOf("queues.tasks")?.payload()).toBeUndefined();
  // A schema that holds itself is a reference within the document.
  const children = messageOf("events.forest")?.payload()?.properties()?.["children"]?.items();
  const [child] = [children].flat();
  expect((child?.allOf()?.[0] ?? child)?.properties()).toHaveProperty("name");
});

test("the document is plain data of this contract alone, and a smaller contract makes a smaller one", async () => {
  const small = toAsyncApi(defineContract({ events: { "order.paid": z.string() } }), {
    ...INFO,
    contentType: "application/msgpack",
  });
  expect(JSON.parse(JSON.stringify(small))).toEqual(small);
  expect(small).toEqual({
    asyncapi: "3.0.0",
    info: INFO,
    defaultContentType: "application/msgpack",
    channels: {
      "events.order.paid": {
        address: "order.paid",
        description: "At least once: to every consumer group, in the order in which it was stored.",
        messages: { message: { name: "order.paid", payload: { type: "string" } } },
        tags: [{ name: "events" }],
      },
    },
    operations: {
      "send.events.order.paid": { action: "send", channel: { $ref: "#/channels/events.order.paid" } },
      "receive.events.order.paid": { action: "receive", channel: { $ref: "#/channels/events.order.paid" } },
    },
  });
  expect((await parse(toAsyncApi(defineContract({}), INFO))).errors).toEqual([]);
});

test.each([
  [undefined, "must be a plain object"],
  [{ title: "Shop" }, "version is missing"],
  [{ title: "", version: "1" }, "title must be"],
  [{ ...INFO, verison: "2" }, 'did you mean "version"?'],
])("an info that is none is refused: %#", (info, problem) => {
  expect(() => toAsyncApi(contract, info as typeof INFO)).toThrow(
    expect.objectContaining({ code: "CONFIG", message: expect.stringContaining(problem) }),
  );
});
