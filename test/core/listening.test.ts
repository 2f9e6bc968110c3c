/** Iterations over channels whose schemas hang: neither the next message nor the end waits for them. */

import { expect, test } from "vitest";
import { z } from "zod";
import { defineContract, type MessageStream } from "../../src/index.js";
import { until, withDeadline } from "../support/wait.js";
import { openPubSub, type Opened } from "./pubsub-support.js";

/** An iteration over a channel whose schema never answers for the text "hang". */
async function openHanging(): Promise<{ opened: Opened; heard: MessageStream<unknown>; seen: unknown[] }> {
  const seen: unknown[] = [];
  const schema = z.string().refine(async (text) => {
    seen.push(text);
    if (text === "hang") await new Promise(() => undefined);
    return true;
  });
  const opened = await openPubSub(defineContract({ channels: { news: schema } }));
  const heard = opened.broker.pubsub.listen("news" as never);
  await heard.ready();
  return { opened, heard, seen };
}

test.each(["the iteration", "the broker"])("closing %s ends a next() whose schema hangs", async (what) => {
  const { opened, heard, seen } = await openHanging();
  await opened.raw("news", '"hang"');
  const next = heard.next();
  await until(() => seen.length > 0);
  await withDeadline(() => (what === "the broker" ? opened.broker.close() : heard.close()), 2_000);
  expect(await withDeadline(() => next, 2_000)).toEqual({ done: true, value: undefined });
  expect(opened.told).toEqual([]);
  expect(heard.stats()).toMatchObject({ handled: 0, failed: 1 });
  expect(opened.clock.pending()).toBe(0);
  await opened.broker.close();
});

test("a message that its schema has not answered for in 30 s is reported as one that cannot be read", async () => {
  const { opened, heard, seen } = await openHanging();
  await using _ = opened;
  await opened.raw("news", '"hang"');
  await opened.raw("news", '"plain"');
  const next = heard.next();
  await until(() => seen.length > 0);
  await opened.clock.advance(29_999);
  expect(opened.told).toEqual([]);
  await opened.clock.advance(1);
  expect((await withDeadline(() => next, 2_000)).value?.data).toBe("plain");
  expect(opened.told).toMatchObject([{ error: { code: "CODEC" }, where: "iteration over news" }]);
});
