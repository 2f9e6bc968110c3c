/** Gaps of subscriptions: whoever may have missed something hears of it, whatever becomes of single messages. */

import { expect, test } from "vitest";
import { z } from "zod";
import { defineContract, type ListenOptions } from "../../src/index.js";
import { until } from "../support/wait.js";
import { openPubSub } from "./pubsub-support.js";

test("onGap may be asynchronous: what it rejects with is reported, as what it throws is", async () => {
  await using opened = await openPubSub();
  const { broker, told } = opened;
  const refetch = (text: string): never => {
    throw new Error(text);
  };
  await broker.pubsub.subscribe("a", { onGap: () => refetch("at once") }, () => undefined);
  await broker.pubsub.subscribe("b", { onGap: async () => refetch("later") }, () => undefined);
  opened.gap("reconnected");
  await until(() => told.length === 2);
  expect(told).toEqual([
    { error: new Error("at once"), where: "onGap of a" },
    { error: new Error("later"), where: "onGap of b" },
  ]);
});

const overflows: readonly (readonly [ListenOptions, readonly (readonly [unknown, string | undefined])[]])[] = [
  [
    { buffer: 2, overflow: "drop-oldest" },
    [
      [4, "lost"],
      [5, undefined],
      [6, undefined],
    ],
  ],
  [
    { buffer: 1, overflow: "drop-newest" },
    [
      ["before", undefined],
      [6, "lost"],
    ],
  ],
];

for (const [options, expected] of overflows) {
  test(`with ${options.overflow} the mark of a message that found no room is the next one's`, async () => {
    await using opened = await openPubSub();
    const { broker } = opened;
    await using heard = broker.pubsub.listen("news", options);
    await heard.ready();
    await broker.pubsub.publish("news", "before");
    opened.gap("lost");
    await broker.pubsub.publishMany("news", [1, 2, 3, 4, 5]);
    await until(() => heard.stats().waiting === options.buffer);
    const got: unknown[] = [];
    while (heard.stats().waiting > 0) got.push(await next());
    await broker.pubsub.publish("news", 6);
    got.push(await next());
    expect(got).toEqual(expected);

    async function next(): Promise<readonly unknown[]> {
      const { value } = await heard.next();
      return [value?.data, value?.gap];
    }
  });
}

test("the mark of a message that is passed over as repeated, or cannot be read, is the next one's", async () => {
  await using opened = await openPubSub(defineContract({ channels: { news: z.number() } }));
  const { broker } = opened;
  await using heard = broker.pubsub.listen("news" as never, { dedupe: true });
  await heard.ready();
  const publish = (data: number, id: string) => broker.pubsub.publish("news" as never, data, { id });
  await publish(1, "one");
  expect((await heard.next()).value).toMatchObject({ data: 1, gap: undefined });
  opened.gap("lost");
  await publish(1, "one");
  await opened.raw("news", '"no number"');
  await publish(2, "two");
  await publish(3, "three");
  expect((await heard.next()).value).toMatchObject({ data: 2, gap: "lost" });
  expect((await heard.next()).value).toMatchObject({ data: 3, gap: undefined });
});
