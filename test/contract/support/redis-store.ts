/** Stores on a real Redis or Valkey: cases share its servers and are kept apart by their namespaces. */

import { openRedis, type RedisOptions, type RedisTarget } from "../../../src/backends/redis/index.js";
import {
  type RedisCluster,
  type RedisServer,
  type SentinelSet,
  sentinelMasterName,
} from "../../support/redis-servers.js";
import { pause } from "../../support/wait.js";
import { type LaneStore, laneStore } from "./lane-store.js";

export interface RedisLane {
  readonly target: RedisTarget;
  readonly options?: Partial<RedisOptions>;
  /** Any of its servers: all of them are on this machine, and their clock is the store's. */
  readonly server: RedisServer;
}

const PLAIN = { tls: false, database: 0 } as const;

/** A single server. */
export function standalone(server: RedisServer | undefined): RedisLane {
  if (server === undefined) throw new Error("the server has not been started");
  return { target: { kind: "standalone", ...addressOf(server), ...PLAIN }, server };
}

/** A Cluster, of which some nodes are known. */
export function cluster(servers: RedisCluster | undefined): RedisLane {
  const [server, other] = servers?.nodes ?? [];
  if (server === undefined || other === undefined) throw new Error("the Cluster has not been started");
  return { target: { kind: "cluster", nodes: [server, other].map(addressOf), ...PLAIN }, server };
}

/** A primary that Sentinels know; each write has reached a replica when it is done. */
export function watched(servers: SentinelSet | undefined): RedisLane {
  const server = servers?.nodes[0];
  if (servers === undefined || server === undefined) throw new Error("the Sentinels have not been started");
  const sentinels = servers.sentinels.map(addressOf);
  const target: RedisTarget = { kind: "sentinel", sentinels, primary: sentinelMasterName, ...PLAIN };
  return { target, server, options: { durability: "replicated", replicas: 1 } };
}

function addressOf({ port }: RedisServer): { host: string; port: number } {
  return { host: "127.0.0.1", port };
}

export function openRedisStore({ target, options, server }: RedisLane): Promise<LaneStore> {
  const now = async (): Promise<number> => {
    const [seconds, microseconds] = (await server.cli("TIME")) as [string, string];
    return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000);
  };
  return laneStore({
    open: (context) => openRedis(target, { durability: "memory", replicas: 1, ...options }, context),
    now,
    elapse: async (ms) => {
      const end = (await now()) + ms;
      for (let left = ms; left > 0; left = end - (await now())) await pause(left);
    },
  });
}
