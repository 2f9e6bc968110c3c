/** Broadcast: who hears what, in which order, from when and until when. */

import { deepEqual, equal, ok } from "node:assert/strict";
import { INTERNAL } from "../core/glob.js";
import type { ContractCase } from "./contract.js";
import { expectHeard, listen, say } from "./ears.js";
import { numbered } from "./fixtures.js";
import { eventually } from "./waiting.js";

const hearing: readonly ContractCase[] = [
  {
    title: "broadcast: a channel's subscribers hear what is published to it, and nothing else",
    run: async (store) => {
      const [one, other] = [store.name(), store.name()];
      const ears = [await listen(store.backend, { channel: one }), await listen(store.backend, { channel: other })];
      await say(store.backend, one, "a");
      await say(store.backend, other, "b");
      await say(store.backend, store.name(), "nobody listens");
      await say(store.backend, one, "c");
      await eventually(store, () => (ears[0]?.heard.length ?? 0) >= 2 && ears[1]?.heard.length === 1, "three messages");
      deepEqual(
        ears.map(({ heard }) => heard),
        [[`${one}: a`, `${one}: c`], [`${other}: b`]],
      );
    },
  },
  {
    title: "broadcast: every backend on the store hears it",
    run: async (store) => {
      const channel = store.name();
      const backends = [store.backend, await store.second(), await store.second()];
      const ears = await Promise.all(backends.map((backend) => listen(backend, { channel })));
      for (const [index, backend] of backends.entries()) await say(backend, channel, `from ${index}`);
      await eventually(store, () => ears.every(({ heard }) => heard.length >= 3), "nine messages");
      for (const { texts } of ears) deepEqual(texts.toSorted(), ["from 0", "from 1", "from 2"]);
    },
  },
  {
    title: "broadcast: one publisher's messages are heard in order on each channel",
    run: async (store) => {
      const [one, other] = [store.name(), store.name()];
      const second = await store.second();
      const ears = [await listen(second, { channel: one }), await listen(second, { pattern: `${other}*` })] as const;
      const texts = numbered("m", 200);
      const mixed = texts.flatMap((data) => [
        { channel: one, data },
        { channel: other, data },
      ]);
      await store.backend.broadcast.publish(mixed.slice(0, 200));
      // Calls that are not awaited keep their order too.
      const calls = mixed.slice(200).map((message) => store.backend.broadcast.publish([message]));
      await Promise.all(calls);
      await expectHeard(store, [
        [ears[0], texts],
        [ears[1], texts],
      ]);
    },
  },
  {
    title: "broadcast: each subscription hears a message once, however many there are to the same target",
    run: async (store) => {
      const channel = store.name();
      const targets = [{ channel }, { channel }, { pattern: `${channel}*` }, { pattern: `${channel}*` }, { channel }];
      const ears = await Promise.all(targets.map((target) => listen(store.backend, target)));
      const second = await store.second();
      await say(second, channel, "a", "b");
      await expectHeard(
        store,
        ears.map((ear) => [ear, ["a", "b"]]),
      );
    },
  },
  {
    title: "broadcast: what is published after subscribing resolved is heard, from any backend",
    run: async (store) => {
      const second = await store.second();
      for (const text of numbered("m", 10)) {
        const [channel, prefix] = [store.name(), store.name()];
        const exact = await listen(store.backend, { channel });
        await say(second, channel, text);
        const pattern = await listen(store.backend, { pattern: `${prefix}.*` });
        await say(second, `${prefix}.x`, text);
        await expectHeard(store, [
          [exact, [text]],
          [pattern, [text]],
        ]);
      }
    },
  },
  {
    title: "broadcast: nothing from before the subscription is heard",
    run: async (store) => {
      const channel = store.name();
      // A Cluster passes messages on in its own time: only what has arrived is surely from before.
      const witness = await listen(store.backend, { channel });
      await say(store.backend, channel, "before");
      await expectHeard(store, [[witness, ["before"]]]);
      const ear = await listen(store.backend, { channel });
      await say(store.backend, channel, "after");
      await expectHeard(store, [[ear, ["after"]]]);
    },
  },
  {
    title: "broadcast: publishing tells a count for each message",
    run: async (store) => {
      const channel = store.name();
      await listen(store.backend, { channel });
      const counts = await store.backend.broadcast.publish([
        { channel, data: "a" },
        { channel: store.name(), data: "b" },
        { channel, data: "c" },
      ]);
      equal(counts.length, 3);
      for (const count of counts) ok(Number.isInteger(count) && count >= 0, `a count: ${count}`);
      deepEqual(await store.backend.broadcast.publish([]), []);
    },
  },
];

const unsubscribing: readonly ContractCase[] = [
  {
    title: "broadcast: ending a subscription ends that one alone, for good, and may be done twice",
    run: async (store) => {
      const channel = store.name();
      const second = await store.second();
      const targets = [{ channel }, { channel }, { pattern: `${channel}*` }];
      const ears = await Promise.all(targets.map((target) => listen(store.backend, target)));
      const [ended, kept, pattern] = ears;
      ok(ended && kept && pattern);
      await say(second, channel, "a");
      await expectHeard(
        store,
        ears.map((ear) => [ear, ["a"]]),
      );
      await Promise.all([ended.unsubscribe(), ended.unsubscribe()]);
      await ended.unsubscribe();
      await say(second, channel, "b");
      await expectHeard(store, [
        [kept, ["a", "b"]],
        [pattern, ["a", "b"]],
      ]);
      await pattern.unsubscribe();
      await say(second, channel, "c");
      await expectHeard(store, [[kept, ["a", "b", "c"]]]);
      deepEqual([ended.texts, pattern.texts], [["a"], ["a", "b"]]);
    },
  },
  {
    title: "broadcast: subscribing again right after ending is in force again",
    run: async (store) => {
      const channel = store.name();
      const second = await store.second();
      for (const text of numbered("m", 5)) {
        const ear = await listen(store.backend, { channel });
        await say(second, channel, text);
        await expectHeard(store, [[ear, [text]]]);
        // The next subscription does not wait for this one to have ended.
        const ended = ear.unsubscribe();
        const next = await listen(store.backend, { channel });
        await ended;
        await say(second, channel, `${text} again`);
        await expectHeard(store, [[next, [`${text} again`]]]);
        await next.unsubscribe();
        deepEqual(ear.texts, [text]);
      }
    },
  },
  {
    title: "broadcast: a listener that throws harms nobody else",
    run: async (store) => {
      const channel = store.name();
      await store.backend.broadcast.subscribe(
        { channel },
        {
          message: () => {
            throw new Error("a listener's own failure");
          },
          gap: () => {},
        },
      );
      const ear = await listen(store.backend, { channel });
      await say(store.backend, channel, "a", "b");
      await expectHeard(store, [[ear, ["a", "b"]]]);
    },
  },
];

/** A pattern with the names that it matches and some that it does not, all behind a prefix of their own. */
const GLOBS: readonly (readonly [pattern: string, matches: readonly string[], others: readonly string[]])[] = [
  ["*", ["a", "a.b", "a:b/c", "ü😀"], []],
  ["a*", ["a", "ab", "a.b.c", "a*"], ["b", "ba"]],
  ["*.b", [".b", "a.b", "a.a.b"], ["a.bc", "b"]],
  ["a.*.c", ["a.b.c", "a..c", "a.x.y.c"], ["a.c", "a.b.d"]],
  ["h?llo", ["hello", "hallo", "h?llo"], ["hllo", "heello"]],
  ["h[ae]llo", ["hello", "hallo"], ["hillo", "h[ae]llo"]],
  ["h[^e]llo", ["hallo", "hbllo"], ["hello"]],
  ["h[a-c]llo", ["hallo", "hbllo", "hcllo"], ["hdllo", "h-llo"]],
  ["a\\*b", ["a*b"], ["axb", "a\\*b"]],
  ["a\\?\\[b\\]", ["a?[b]"], ["ax[b]", "a?b"]],
  ["a\\\\b", ["a\\b"], ["a\\\\b", "ab"]],
  ["[\\]x]y", ["]y", "xy"], ["\\y", "y"]],
  ["h[\\a-z]llo", ["hallo", "h-llo", "hzllo"], ["hmllo", "h\\llo"]],
  ["h[\\]-a]llo", ["h]llo", "h-llo", "hallo"], ["h^llo"]],
  ["h[a-\\]llo]", ["h^llo]", "h\\llo]"], ["hzllo]", "hallo"]],
  ["{a,b}", ["{a,b}"], ["a", "b"]],
];

const patterns: readonly ContractCase[] = [
  {
    title: "broadcast: a pattern hears the channels that match it as a Redis glob, and names the channel",
    run: async (store) => {
      const second = await store.second();
      for (const [glob, matches, others] of GLOBS) {
        const prefix = `${store.name()}/`;
        const ear = await listen(store.backend, { pattern: prefix + glob });
        for (const name of [...others, ...matches]) await say(second, prefix + name, name);
        await eventually(store, () => ear.heard.length >= matches.length, `all that match ${glob}`).catch(() => {});
        // Channels keep their order each, and have none among each other.
        const expected = matches.map((name) => `${prefix}${name}: ${name}`);
        deepEqual(ear.heard.toSorted(), expected.toSorted(), glob);
        await ear.unsubscribe();
      }
    },
  },
  {
    title: "broadcast: a pattern counts characters, not bytes",
    run: async (store) => {
      const prefix = `${store.name()}/`;
      const ears = [
        await listen(store.backend, { pattern: `${prefix}h?llo` }),
        await listen(store.backend, { pattern: `${prefix}h[é-ë]llo` }),
        await listen(store.backend, { pattern: `${prefix}h[^e]llo` }),
      ];
      for (const name of ["héllo", "h😀llo", "hééllo", "h--llo"]) await say(store.backend, prefix + name, name);
      const expected = [["héllo", "h😀llo"], ["héllo"], ["héllo", "h😀llo"]];
      const enough = (): boolean => ears.every(({ texts }, index) => texts.length >= (expected[index]?.length ?? 0));
      await eventually(store, enough, "what matches").catch(() => {});
      deepEqual(
        ears.map(({ texts }) => texts.toSorted()),
        expected,
      );
    },
  },
  {
    title: "broadcast: a channel's own stars and brackets are no pattern",
    run: async (store) => {
      const prefix = `${store.name()}/`;
      const ear = await listen(store.backend, { channel: `${prefix}a*` });
      const set = await listen(store.backend, { channel: `${prefix}[ab]` });
      await say(store.backend, `${prefix}ax`, "no");
      await say(store.backend, `${prefix}a`, "no");
      await say(store.backend, `${prefix}a*`, "yes");
      await say(store.backend, `${prefix}[ab]`, "yes");
      await expectHeard(store, [
        [ear, ["yes"]],
        [set, ["yes"]],
      ]);
    },
  },
  {
    title: "broadcast: channels of signalbox's own are heard by their name, and match no pattern",
    run: async (store) => {
      const [own, channel] = [INTERNAL + store.name(), store.name()];
      const second = await store.second();
      const exact = await listen(store.backend, { channel: own });
      const others = [await listen(store.backend, { pattern: "*" }), await listen(second, { pattern: "?*" })];
      await say(second, own, "own");
      await say(second, channel, "end");
      const everybody = others.map((ear) => [ear, ["end"]] as const);
      await expectHeard(store, [[exact, ["own"]], ...everybody]);
    },
  },
];

export const broadcastCases: readonly ContractCase[] = [...hearing, ...unsubscribing, ...patterns];
