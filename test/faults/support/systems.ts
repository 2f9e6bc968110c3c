/** The servers that faults are injected into: one Redis, Sentinels or a Cluster, behind one face. */

import { logKeys, queueKeys } from "../../../src/backends/redis/keys.js";
import { slotOfKey } from "../../../src/backends/redis/slots.js";
import {
  type ClusterOptions,
  type RedisCluster,
  type RedisOptions,
  type RedisServer,
  type SentinelOptions,
  type SentinelSet,
  startCluster,
  startRedis,
  startSentinelSet,
} from "../../support/redis-servers.js";

const MASTERS = 3;
const EVENTS = "load-events";

/** The load's stream and its queue, which share a master in a Cluster, so that one fault meets both. */
export const loadNames: { readonly events: string; readonly queue: string } = {
  events: EVENTS,
  queue: queueBeside(EVENTS),
};

/** A key of the load's stream, and by it the master that a fault is for. */
export const loadKey: string = logKeys("default", EVENTS).stream;

function queueBeside(stream: string): string {
  const masterOf = (key: string): number => Math.floor((slotOfKey(key) * MASTERS) / 16_384);
  const wanted = masterOf(logKeys("default", stream).stream);
  for (let number = 1; ; number += 1) {
    const name = `load-queue-${number}`;
    if (masterOf(queueKeys("default", name).records) === wanted) return name;
  }
}

export interface System {
  readonly url: string;
  /** All Redis servers, without Sentinels. */
  readonly nodes: readonly RedisServer[];
  readonly sentinels: readonly RedisServer[];
  /** The server that has the load's stream and queue now. */
  primary(): Promise<RedisServer>;
  stop(): Promise<void>;
}

export async function startStandalone(options: RedisOptions = {}): Promise<System & { readonly server: RedisServer }> {
  const server = await startRedis(options);
  return {
    url: server.url,
    nodes: [server],
    sentinels: [],
    server,
    primary: async () => server,
    stop: () => server.stop(),
  };
}

export async function startSentinels(options: SentinelOptions = {}): Promise<System & { readonly set: SentinelSet }> {
  const set = await startSentinelSet(options);
  const { url, nodes, sentinels } = set;
  return {
    url,
    nodes,
    sentinels,
    set,
    primary: () => set.currentMaster(),
    stop: () => set.stop(),
  };
}

export async function startMasters(options: ClusterOptions = {}): Promise<System & { readonly cluster: RedisCluster }> {
  const cluster = await startCluster({ masters: MASTERS, ...options });
  const { url, nodes } = cluster;
  return {
    url,
    nodes,
    sentinels: [],
    cluster,
    primary: () => cluster.masterOf(loadKey),
    stop: () => cluster.stop(),
  };
}
