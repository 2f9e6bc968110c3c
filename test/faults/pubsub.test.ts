/** Pub/sub through faults: subscriptions come back by themselves, whoever missed something is told, nothing comes twice. */

import dns from "node:dns";
import { afterEach, describe, expect, test, vi } from "vitest";
import { connect } from "../../src/index.js";
import { channelKey } from "../../src/backends/redis/keys.js";
import { silentLogger } from "../facades/support/lanes.js";
import type { RedisServer } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { clientsOf } from "./support/clients.js";
import { startProxy } from "./support/proxy.js";
import type { Flaw } from "./support/proxy-flaws.js";
import { moveSlot } from "./support/slots.js";
import { startMasters, startSentinels, startStandalone, type System } from "./support/systems.js";
import { HEARING_MS, Talk, TALK } from "./support/talk.js";

/** From the death of a primary until the new one is known and heard. */
const FAILOVER_MS = 10_000;
const KEY = channelKey("default", TALK);

/** What Redis counts as subscribed, over all servers. */
async function subscriptionsOf(
  nodes: readonly RedisServer[],
): Promise<{ exact: number; sharded: number; patterns: number }> {
  const ask = async (node: RedisServer, ...args: readonly string[]): Promise<unknown> =>
    node.state === "running" ? await node.cli("PUBSUB", ...args) : [];
  const counts = await Promise.all(
    nodes.map(async (node) => ({
      exact: Number(((await ask(node, "NUMSUB", KEY)) as unknown[])[1] ?? 0),
      sharded: Number(((await ask(node, "SHARDNUMSUB", KEY)) as unknown[])[1] ?? 0),
      patterns: Number(await ask(node, "NUMPAT")) || 0,
    })),
  );
  const sum = (of: keyof (typeof counts)[number]): number => counts.reduce((total, count) => total + count[of], 0);
  return { exact: sum("exact"), sharded: sum("sharded"), patterns: sum("patterns") };
}

/** However many listen here, Redis has one subscription for each name. */
async function expectOneEach(nodes: readonly RedisServer[]): Promise<void> {
  const one = { exact: 1, sharded: 1, patterns: 1 };
  const isOne = async (): Promise<boolean> => JSON.stringify(await subscriptionsOf(nodes)) === JSON.stringify(one);
  // Those of a dead socket may linger for a moment.
  await until(isOne, { deadlineMs: HEARING_MS, everyMs: 50, what: "one subscription for each name" }).catch(() => {});
  expect(await subscriptionsOf(nodes)).toEqual(one);
}

const SYSTEMS: Readonly<Record<string, () => Promise<System>>> = {
  "a single Redis": () => startStandalone(),
  "Sentinel's primary": () => startSentinels(),
  "a Cluster": () => startMasters({ replicas: 0 }),
};

// Mostly it is the servers who take their time.
describe.concurrent("pub/sub", { timeout: 90_000 }, () => {
  for (const [title, start] of Object.entries(SYSTEMS)) {
    test(`fault 5: CLIENT KILL of subscribers and of everybody, again and again, on ${title}`, async () => {
      const { url, nodes, stop } = await start();
      try {
        await using talk = await Talk.start(url);
        const count = async (): Promise<number> => (await Promise.all(nodes.map(clientsOf))).flat().length;
        const before = await count();
        for (const how of [
          ["TYPE", "pubsub"],
          ["SKIPME", "yes"],
          ["TYPE", "pubsub"],
          ["TYPE", "normal"],
        ]) {
          await Promise.all(nodes.map((node) => node.cli("CLIENT", "KILL", ...how)));
          await talk.untilHeard();
        }
        expect(Math.min(...talk.gaps())).toBeGreaterThanOrEqual(3);
        await expectOneEach(nodes);
        await until(async () => (await count()) === before, { what: "as many connections as before" });
        await talk.verify(title === "a Cluster" ? "Cluster" : "one server");
      } finally {
        await stop();
      }
    });
  }

  const partitions: Readonly<Record<string, Flaw>> = {
    "from both sides": { kind: "hole", direction: "both", afterwards: "flow" },
    "from the client's side": { kind: "hole", direction: "up", afterwards: "flow" },
    "from the server's side": { kind: "hole", direction: "down", afterwards: "flow" },
  };
  for (const [title, flaw] of Object.entries(partitions)) {
    test(`fault 8: a partition of three seconds, nothing coming through ${title}`, async () => {
      const { url, server, stop } = await startStandalone();
      await using proxy = await startProxy({ target: server.port });
      try {
        await using talk = await Talk.start(url, { listenerUrl: `redis://127.0.0.1:${proxy.port}` });
        proxy.impose(flaw);
        await pause(3_000);
        proxy.heal();
        await talk.untilHeard();
        await talk.verify();
        await expectOneEach([server]);
      } finally {
        await stop();
      }
    });
  }

  test("fault 8: a subscriber's connection that a router has forgotten is found out while nobody says a word", async () => {
    const { url, server, stop } = await startStandalone();
    await using proxy = await startProxy({ target: server.port });
    try {
      const [gaps, heard]: [string[], unknown[]] = [[], []];
      const quiet = { logger: silentLogger, onError: () => undefined, commandTimeoutMs: 1_000 };
      await using listener = await connect(`redis://127.0.0.1:${proxy.port}`, quiet);
      await using speaker = await connect(url, quiet);
      const onGap = ({ reason }: { readonly reason: string }): void => void gaps.push(reason);
      await listener.pubsub.subscribe("quiet", { onGap }, (data) => void heard.push(data));
      proxy.impose({ kind: "hole", direction: "both", afterwards: "silence" });
      proxy.heal();
      await speaker.pubsub.publish("quiet", "lost");
      // What is heard is tested every half a minute, where nothing else has shown it.
      await until(() => gaps.length > 0, { deadlineMs: 70_000, everyMs: 100, what: "the gap to be told" });
      await speaker.pubsub.publish("quiet", "heard");
      await until(() => heard.length > 0);
      expect({ heard, gaps: gaps.length }).toEqual({ heard: ["heard"], gaps: 1 });
    } finally {
      await stop();
    }
  });

  const flaws: Readonly<Record<string, Flaw>> = {
    "reset at once": { kind: "cut" },
    "closed half by the client": { kind: "half-close", direction: "up" },
    "closed half by the server": { kind: "half-close", direction: "down" },
    "cut in the middle of a command": { kind: "truncate", direction: "up", afterBytes: 33 },
    "cut in the middle of a message": { kind: "truncate", direction: "down", afterBytes: 333 },
    "late by 300 ms": { kind: "delay", ms: 300 },
    "down to one byte a second": { kind: "trickle" },
    "taken apart into a few bytes each": { kind: "split" },
    "merged into large pieces": { kind: "merge", ms: 100 },
  };
  for (const [title, flaw] of Object.entries(flaws)) {
    test(`fault 9: what is heard through bytes that are ${title}`, async () => {
      const { url, server, stop } = await startStandalone();
      await using proxy = await startProxy({ target: server.port });
      try {
        await using talk = await Talk.start(url, { listenerUrl: `redis://127.0.0.1:${proxy.port}` });
        for (let times = 0; times < 3; times += 1) {
          proxy.impose(flaw);
          await pause(600);
          proxy.heal();
          await talk.untilHeard();
        }
        await talk.verify();
        await expectOneEach([server]);
      } finally {
        await stop();
      }
    });
  }

  for (const by of ["kill", "pause"] as const) {
    test(`fault 11: subscriptions follow a failover by Sentinels, the former primary having been stopped by ${by}`, async () => {
      const { url, set, nodes, stop } = await startSentinels();
      try {
        await using talk = await Talk.start(url);
        const { former } = await set.failover({ by });
        await talk.untilHeard(FAILOVER_MS);
        if (by === "pause") former.resume();
        await talk.untilHeard();
        expect(Math.min(...talk.gaps())).toBeGreaterThan(0);
        await expectOneEach(nodes);
        await talk.verify();
      } finally {
        await stop();
      }
    });
  }

  test("faults 15 and 18: subscriptions outlive the death of their Cluster's masters; a sharded channel is subscribed to once", async () => {
    const { url, nodes, stop } = await startMasters();
    try {
      await using talk = await Talk.start(url);
      for (const node of nodes.slice(0, 3)) {
        await node.kill();
        await talk.untilHeard(2 * FAILOVER_MS);
        await expectOneEach(nodes);
        await node.restart();
        await until(async () => String(await node.cli("CLUSTER", "INFO")).includes("cluster_state:ok"), {
          deadlineMs: 20_000,
          what: "the node to be back",
        });
        await talk.untilHeard();
      }
      expect(Math.max(...talk.gaps())).toBeGreaterThan(0);
      await expectOneEach(nodes);
      await talk.verify("Cluster");
    } finally {
      await stop();
    }
  });

  test("fault 16: a sharded channel whose slot moves is heard at its new master, and whoever listens is told of the gap", async () => {
    const { url, cluster, nodes, stop } = await startMasters({ replicas: 0 });
    try {
      await using talk = await Talk.start(url);
      for (let times = 0; times < 3; times += 1) {
        await moveSlot(cluster, KEY);
        await talk.untilHeard();
        await expectOneEach(nodes);
      }
      const gaps = Object.fromEntries(talk.ears.map(({ title }, index) => [title, talk.gaps()[index]]));
      expect(gaps).toMatchObject({ "a channel": 0, "a pattern": 0, "a sharded channel": 3 });
      await talk.verify("Cluster");
    } finally {
      await stop();
    }
  });
});

describe("pub/sub, where names lead", { timeout: 60_000 }, () => {
  const HOST = "redis.signalbox.test";
  afterEach(() => vi.restoreAllMocks());

  test("fault 51: a name that begins to lead elsewhere is looked up for each connection, whichever family comes first", async () => {
    const [first, second] = [await startStandalone(), await startStandalone()];
    // The same port at another address.
    await using proxy = await startProxy({ target: second.server.port, port: first.server.port, host: "127.0.0.2" });
    let address = "127.0.0.1";
    const resolve = dns.lookup;
    vi.spyOn(dns, "lookup").mockImplementation(((name: string, options: dns.LookupOptions, done: Resolved) => {
      // Nobody listens at the first of them.
      const both = [
        { address: "::1", family: 6 },
        { address, family: 4 },
      ];
      if (name !== HOST) Reflect.apply(resolve, dns, [name, options, done]);
      else if (options.all) done(null, both);
      else done(null, address, 4);
    }) as typeof dns.lookup);
    try {
      const url = `redis://${HOST}:${first.server.port}`;
      await using talk = await Talk.start(url);
      address = "127.0.0.2";
      await first.server.kill();
      await talk.untilHeard();
      await expectOneEach([second.server]);
      expect(proxy.connections).toBeGreaterThan(0);
      await talk.verify();
    } finally {
      await Promise.all([first.stop(), second.stop()]);
    }
  });
});

type Resolved = (error: null, address: string | readonly dns.LookupAddress[], family?: number) => void;
