/** The stores that chaos is brought upon: one server, a primary watched by Sentinels, a Cluster. */

import { logKeys } from "../../../src/backends/redis/keys.js";
import {
  type Failover,
  type FailoverOptions,
  type RedisCluster,
  type RedisServer,
  type SentinelSet,
  startCluster,
  startRedis,
  startSentinelSet,
} from "../../support/redis-servers.js";
import { pause, withDeadline } from "../../support/wait.js";
import { STREAM } from "./chaos-load.js";
import { now } from "./history-log.js";
import { type Proxy, startProxy } from "./proxy.js";

export type Topology = "standalone" | "sentinel" | "cluster";
export const TOPOLOGIES: readonly Topology[] = ["standalone", "sentinel", "cluster"];

export interface Site {
  readonly topology: Topology;
  /** Where the processes connect to. */
  readonly url: string;
  /** The same store without what stands in between. */
  readonly directUrl: string;
  readonly durability: "fsync" | "replicated";
  readonly nodes: readonly RedisServer[];
  /** Between the processes and the server. */
  readonly proxy?: Proxy;
  readonly sentinels?: readonly RedisServer[];
  readonly cluster?: RedisCluster;
  /** Who accepts writes for the stream. */
  primary(): Promise<RedisServer>;
  replicas(): Promise<readonly RedisServer[]>;
  /** Takes the primary away and waits until all agree on another. */
  depose(by: NonNullable<FailoverOptions["by"]>): Promise<Deposed>;
  /** All nodes are there and in step. */
  awaitHealthy(): Promise<void>;
  stop(): Promise<void>;
}

export interface Deposed {
  /** Still gone, unless it was a command that deposed it. */
  readonly former: RedisServer;
  readonly killedAt: number;
  /** When another first accepted a write. */
  readonly writableAt: number;
}

/** A key beside the stream's, in its slot. */
export const STREAM_KEY: string = logKeys("default", STREAM).stream;
const PROBE_KEY = STREAM_KEY.replace(/\}.*$/, "}:probe");
const PROBE_EVERY_MS = 10;
const PROBE_ANSWER_MS = 500;
/** Of each server's log, where it matters. */
const LOG_TAIL = 1_000;

export async function startSite(topology: Topology, seed: number): Promise<Site> {
  switch (topology) {
    case "standalone":
      return await standalone(seed);
    case "sentinel":
      return sentinel(await startSentinelSet({ replicas: 2 }));
    case "cluster":
      return cluster(await startCluster({ masters: 3, replicas: 2 }));
  }
}

async function standalone(seed: number): Promise<Site> {
  const server = await startRedis({ appendonly: "always" });
  const proxy = await startProxy({ target: server.port, seed });
  return {
    topology: "standalone",
    url: `redis://127.0.0.1:${proxy.port}`,
    directUrl: server.url,
    durability: "fsync",
    nodes: [server],
    proxy,
    primary: async () => server,
    replicas: async () => [],
    async depose() {
      throw new Error("there is nobody to take over");
    },
    awaitHealthy: async () => undefined,
    async stop() {
      await proxy.close();
      await server.stop();
    },
  };
}

function sentinel(set: SentinelSet): Site {
  return {
    topology: "sentinel",
    url: set.url,
    directUrl: set.url,
    durability: "replicated",
    nodes: set.nodes,
    sentinels: set.sentinels,
    primary: () => set.currentMaster(),
    async replicas() {
      const master = await set.currentMaster();
      return set.nodes.filter((node) => node !== master);
    },
    depose: async (by) => deposed(set.nodes, await set.currentMaster(), () => set.failover({ by, ...PATIENCE })),
    awaitHealthy: () => set.awaitHealthy(60_000),
    stop: () => set.stop(),
  };
}

function cluster(nodes: RedisCluster): Site {
  return {
    topology: "cluster",
    url: nodes.url,
    directUrl: nodes.url,
    durability: "replicated",
    nodes: nodes.nodes,
    cluster: nodes,
    primary: () => nodes.masterOf(STREAM_KEY),
    replicas: async () => nodes.replicasOf(await nodes.masterOf(STREAM_KEY)),
    async depose(by) {
      const former = await nodes.masterOf(STREAM_KEY);
      return deposed(nodes.nodes, former, () => nodes.failover(STREAM_KEY, { by, ...PATIENCE }));
    },
    awaitHealthy: () => nodes.awaitHealthy(60_000),
    stop: () => nodes.stop(),
  };
}

const PATIENCE = { deadlineMs: 30_000 };

async function deposed(
  nodes: readonly RedisServer[],
  former: RedisServer,
  failover: () => Promise<Failover>,
): Promise<Deposed> {
  // Until one is promoted the others refuse, so that it does no harm to ask from the start.
  const writable = awaitWritable(nodes.filter((node) => node !== former));
  const { tookMs } = await failover();
  const killedAt = now() - tookMs * 1e6;
  return { former, killedAt, writableAt: await writable };
}

/** Resolves with when a node first took a write for the stream, from now on. */
export async function awaitWritable(nodes: readonly RedisServer[], deadlineMs = 60_000): Promise<number> {
  const start = performance.now();
  let writtenAt: number | undefined;
  let refusal: unknown = "nobody was asked";
  const refused = (error: unknown): void => void (refusal = error);
  await Promise.all(
    nodes.map(async (node) => {
      while (writtenAt === undefined && performance.now() - start < deadlineMs) {
        const ok = await withDeadline(() => node.cli("SET", PROBE_KEY, "1"), PROBE_ANSWER_MS).catch(refused);
        if (ok === "OK") writtenAt ??= now();
        else await pause(PROBE_EVERY_MS);
      }
    }),
  );
  if (writtenAt === undefined) {
    const logs = nodes.map(({ port, log }) => `${port}: ${log().slice(-LOG_TAIL)}`).join("\n");
    throw new Error(
      `no node accepted a write within ${deadlineMs} ms, the last answer was ${String(refusal)}\n${logs}`,
    );
  }
  return writtenAt;
}
