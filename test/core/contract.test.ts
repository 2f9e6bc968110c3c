/** Contracts: what is no definition is refused, every problem at once, with or without TypeScript. */

import { type as arktype } from "arktype";
import * as v from "valibot";
import { expect, test } from "vitest";
import { z } from "zod";
import { defineContract } from "../../src/core/contract.js";
import { validatePayload } from "../../src/core/outgoing.js";
import { payloadOf } from "../../src/core/payload.js";

const text = z.string();

test.each([
  ["null", null, "must be an object"],
  ["an array", [], "must be an object"],
  ["a definition that inherits", Object.create({ events: { a: text } }), "plain"],
  ["a section that is null", { events: null }, "contract.events must be"],
  ["a section that is a list", { queues: [text] }, "contract.queues must be"],
  [
    "a schema that cannot validate",
    { events: { a: { "~standard": 1 } } },
    'contract.events["a"] is no Standard Schema',
  ],
  ["a schema of nothing", { events: { a: { "~standard": null } } }, 'contract.events["a"] is no Standard Schema'],
  ["a misspelt key of an agent", { agents: { coder: { recieves: text, replies: text } } }, 'did you mean "receives"'],
  ["an agent that says half", { agents: { coder: { receives: text } } }, 'contract.agents["coder"].replies is missing'],
  ["an agent that is a schema", { agents: { coder: text } }, 'contract.agents["coder"] must be'],
  ["a room that is a schema", { rooms: { "quakes.{region}": text } }, 'contract.rooms["quakes.{region}"] must be'],
  ["a room's message without a schema", { rooms: { lobby: { chat: 1 } } }, 'contract.rooms["lobby"]["chat"] is no'],
  ["an event's name that nobody may use", { events: { "order.*": text } }, 'contract.events["order.*"]'],
  ["a queue's name that nobody may use", { queues: { " tasks": text } }, 'contract.queues[" tasks"]'],
  ["a name that no lookup would find", { events: { "cafe\u0301": text } }, "normal form C"],
])("refuses %s", (_, definition, problem) => {
  expect(() => defineContract(definition as object)).toThrow(
    expect.objectContaining({ code: "CONFIG", message: expect.stringContaining(problem) }),
  );
});

test("takes what it documents, templates and schemas of several libraries included", () => {
  const definition = {
    channels: { "chat.{room}": text },
    events: { "order.created": arktype({ total: "number" }) },
    queues: { tasks: v.string() },
    agents: { coder: { receives: text, replies: text } },
    rooms: { "quakes.{region}": { quake: text } },
  };
  expect(defineContract(definition)).toBe(definition);
});

test("a schema may answer with any thenable, such as another library's promise", async () => {
  const validate = (value: unknown) => ({
    // oxlint-disable-next-line unicorn/no-thenable -- it is what is tested.
    then: (resolve: (result: object) => void) =>
      resolve(value === 1 ? { value: "one" } : { issues: [{ message: "is not 1" }] }),
  });
  const schema = { "~standard": { version: 1, vendor: "test", validate } } as unknown as typeof text;
  const { validate: check } = payloadOf({ events: { number: schema } }, "events", "number");
  expect(await check(1)).toBe("one");
  await expect(Promise.resolve(1).then(() => check(2))).rejects.toMatchObject({ code: "SCHEMA" });
  await expect(Promise.resolve(validatePayload(check, 2))).rejects.toMatchObject({ code: "SCHEMA" });
});
