/** Broadcast: what is published together, what the publisher itself hears, and sharded channels. */

import { deepEqual, equal } from "node:assert/strict";
import type { Bytes } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import { expectHeard, hold, listen, say, saySharded } from "./ears.js";
import { numbered, textsOf } from "./fixtures.js";
import { eventually } from "./waiting.js";

/** Payloads as they may come: empty, of odd bytes, with what a store could take for its own marks, larger than a batch. */
function awkwardPayloads(): readonly (string | Uint8Array)[] {
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
  const texts = ["", "plain", "\u0001\u0002\u0003", "12:34", "\n\n", "ä😀\u0000", "x".repeat(70_000)];
  return [...texts, bytes, new Uint8Array(0), new Uint8Array(70_000).fill(1), ...numbered("m", 600)];
}

const many: readonly ContractCase[] = [
  {
    title: "broadcast: what is published together arrives as it was, in order, by channel and by pattern",
    run: async (store) => {
      const [one, other] = [store.name(), store.name()];
      const second = await store.second();
      const ears = [await hold(second, { channel: one }), await hold(second, { pattern: `${other}*` })];
      const payloads = awkwardPayloads();
      const published = payloads.flatMap((data) => [
        { channel: one, data },
        { channel: other, data },
      ]);
      const counts = await store.backend.broadcast.publish(published);
      equal(counts.length, published.length);
      await eventually(store, () => ears.every(({ length }) => length >= payloads.length), "all of it").catch(() => {});
      const expected = payloads.map((data) => Buffer.from(data as string).toString("base64")); // From bytes as well.
      for (const ear of ears) deepEqual(ear, expected);
    },
  },
  {
    title: "broadcast: the publisher's own subscribers have heard by the time that publishing has resolved",
    run: async (store) => {
      const channel = store.name();
      const ears = [await listen(store.backend, { channel }), await listen(store.backend, { pattern: `${channel}*` })];
      await say(store.backend, channel, "a", "b");
      for (const { texts } of ears) deepEqual(texts, ["a", "b"]);
      // And not again when it comes back from the store.
      const witness = await listen(await store.second(), { channel });
      await say(store.backend, channel, "c");
      await expectHeard(store, [[witness, ["c"]]]);
      for (const { texts } of ears) deepEqual(texts, ["a", "b", "c"]);
    },
  },
  {
    title: "broadcast: what its publisher does to the bytes afterwards changes nothing",
    run: async (store) => {
      const channel = store.name();
      const heard: Bytes[] = [];
      for (const backend of [store.backend, await store.second()])
        await backend.broadcast.subscribe({ channel }, { message: (_, data) => void heard.push(data), gap: () => {} });
      const data = Buffer.from("aaa");
      await store.backend.broadcast.publish([{ channel, data }]);
      data.fill(0x62);
      await eventually(store, () => heard.length >= 2, "two messages").catch(() => {});
      deepEqual(textsOf(heard.map((bytes) => ({ data: bytes }))), ["aaa", "aaa"]);
    },
  },
];

const sharded: readonly ContractCase[] = [
  {
    title: "broadcast: a sharded channel is heard by its own subscribers on every backend, in order and once",
    run: async (store) => {
      const channels = [store.name(), store.name(), store.name(), store.name()];
      const backends = [store.backend, await store.second()] as const;
      const ears = await Promise.all(
        channels.flatMap((channel) => backends.map((backend) => listen(backend, { channel, sharded: true }))),
      );
      const texts = numbered("m", 50);
      for (const channel of channels) await saySharded(backends[1], channel, ...texts);
      await expectHeard(
        store,
        ears.map((ear) => [ear, texts]),
      );
    },
  },
  {
    title: "broadcast: a sharded channel and the other one of its name hear nothing of each other, nor do patterns",
    run: async (store) => {
      const channel = store.name();
      const second = await store.second();
      const shard = await listen(second, { channel, sharded: true });
      const plain = await listen(second, { channel });
      const pattern = await listen(second, { pattern: `${channel}*` });
      const own = await listen(store.backend, { pattern: `${channel}*` });
      await saySharded(store.backend, channel, "sharded");
      await expectHeard(store, [[shard, ["sharded"]]]);
      await say(store.backend, channel, "plain");
      await expectHeard(store, [
        [plain, ["plain"]],
        [pattern, ["plain"]],
        [own, ["plain"]],
        [shard, ["sharded"]],
      ]);
    },
  },
  {
    title: "broadcast: ending a sharded subscription ends that one alone",
    run: async (store) => {
      const channel = store.name();
      const second = await store.second();
      const [ended, kept] = [
        await listen(second, { channel, sharded: true }),
        await listen(second, { channel, sharded: true }),
      ];
      await ended.unsubscribe();
      await saySharded(store.backend, channel, "a");
      await expectHeard(store, [[kept, ["a"]]]);
      await kept.unsubscribe();
      const again = await listen(second, { channel, sharded: true });
      await saySharded(store.backend, channel, "b");
      await expectHeard(store, [[again, ["b"]]]);
      deepEqual([ended.texts, kept.texts], [[], ["a"]]);
    },
  },
];

export const broadcastPayloadCases: readonly ContractCase[] = [...many, ...sharded];
