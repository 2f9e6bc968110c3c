/** The floor of presence on Redis: what a program writes by hand that keeps who is present and tells others, without leases. */

import type { Contender, Environment } from "../harness.js";
import { metaOf } from "../contenders/presence.js";
import { type BareClient, connectBare } from "../redis-probe.js";
import { assertEqual, CONCURRENT_PUBLISHES, pump } from "../workload.js";

const COMMON = { name: "floor redis", backend: "redis", role: "floor", warmUp: 5_000 } as const;
const MEMBERS = "members";
const ORDER = "order";
const CHANNEL = "changes";

async function open({ redis }: Environment): Promise<BareClient> {
  if (redis === undefined) throw new Error("no Redis was started for this run");
  return await connectBare(redis.url);
}

/** A record, its place in the order, and a message to whoever watches. */
async function enter(client: BareClient, n: number): Promise<void> {
  const [id, meta] = [`member-${n}`, JSON.stringify(metaOf(n))];
  await Promise.all([
    client.sendCommand(["HSET", MEMBERS, id, meta]),
    client.sendCommand(["ZADD", ORDER, String(n), id]),
    client.sendCommand(["PUBLISH", CHANNEL, JSON.stringify({ kind: "joined", id, meta })]),
  ]);
}

async function leave(client: BareClient, n: number): Promise<void> {
  const id = `member-${n}`;
  await Promise.all([
    client.sendCommand(["HDEL", MEMBERS, id]),
    client.sendCommand(["ZREM", ORDER, id]),
    client.sendCommand(["PUBLISH", CHANNEL, JSON.stringify({ kind: "left", id })]),
  ]);
}

export const redisPresenceEnter: Contender = {
  ...COMMON,
  is: "HSET, ZADD and PUBLISH for each member, on the bare client",
  async prepare(environment, count) {
    const client = await open(environment);
    return {
      run: () => pump(count, CONCURRENT_PUBLISHES, (n) => enter(client, n)),
      verify: async () => assertEqual("members present", await client.sendCommand(["HLEN", MEMBERS]), count),
      close: async () => client.destroy(),
    };
  },
};

export const redisPresenceLeave: Contender = {
  ...COMMON,
  is: "HDEL, ZREM and PUBLISH for each member, on the bare client",
  async prepare(environment, count) {
    const client = await open(environment);
    await pump(count, CONCURRENT_PUBLISHES, (n) => enter(client, n));
    return {
      run: () => pump(count, CONCURRENT_PUBLISHES, (n) => leave(client, n)),
      verify: async () => assertEqual("members left over", await client.sendCommand(["HLEN", MEMBERS]), 0),
      close: async () => client.destroy(),
    };
  },
};
