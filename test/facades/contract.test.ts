/** Contracts at work: whatever the validator, wrong data is refused where it is published, and parked where it arrives. */

import { type as arktype } from "arktype";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { type Broker, type DeadLetter, defineContract, type Schema } from "../../src/index.js";
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
});
