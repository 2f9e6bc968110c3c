/** Moves slots of a Cluster from one master to another, as an operator's tool does. */

import { logKeys } from "../../../src/backends/redis/keys.js";
import { slotOfKey } from "../../../src/backends/redis/slots.js";
import type { RedisCluster, RedisServer } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";

/** Moves the slot of a key to the next master. */
export async function moveSlot(cluster: RedisCluster, key: string): Promise<void> {
  const slot = slotOfKey(key);
  const from = await cluster.masterOf(key);
  const to = await anotherMaster(cluster, from);
  const [fromId, toId] = await Promise.all([from.cli("CLUSTER", "MYID"), to.cli("CLUSTER", "MYID")]);
  await to.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", String(fromId));
  await from.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", String(toId));
  for (;;) {
    const keys = (await from.cli("CLUSTER", "GETKEYSINSLOT", slot, 100)) as string[];
    if (keys.length === 0) break;
    await from.cli("MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, "KEYS", ...keys);
  }
  for (const node of [to, from]) await node.cli("CLUSTER", "SETSLOT", slot, "NODE", String(toId));
  await until(async () => (await cluster.masterOf(key)) === to, { what: "the slot to be known at its new owner" });
}

async function anotherMaster(cluster: RedisCluster, owner: RedisServer): Promise<RedisServer> {
  for (let number = 0; ; number += 1) {
    const node = await cluster.masterOf(logKeys("default", `s${number}`).stream);
    if (node !== owner) return node;
  }
}
