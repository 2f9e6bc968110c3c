/** Faults of stores that have more than one server: who is the primary, and where a slot lies. */

import type { RedisServer } from "../../support/redis-servers.js";
import { pause } from "../../support/wait.js";
import { type Fault, lasting, REPLICATED } from "./chaos-fault.js";
import { awaitWritable, type Site, STREAM_KEY } from "./chaos-sites.js";
import { now } from "./history-log.js";

/** Longer than any lease, and than it takes to elect another. */
const DEPOSED_MS = 6_000;

export const failovers: readonly Fault[] = [
  {
    kind: "primary-killed",
    topologies: REPLICATED,
    copies: 3,
    stalls: true,
    rollsBack: true,
    failsOver: true,
    mayBeQuiet: true,
    async strike({ site }) {
      const { former, ...times } = await site.depose("kill");
      return { ...times, tidy: () => former.restart() };
    },
  },
  {
    kind: "primary-deposed",
    topologies: REPLICATED,
    copies: 1,
    stalls: true,
    rollsBack: true,
    failsOver: true,
    mayBeQuiet: true,
    async strike({ site }) {
      const { former, ...times } = await site.depose("pause");
      const tidy = async (): Promise<void> => {
        await pause(Math.max(0, DEPOSED_MS - (now() - times.killedAt) / 1e6));
        former.resume(); // believes that it still is the primary
      };
      return { ...times, tidy };
    },
  },
  {
    kind: "replica-killed",
    topologies: REPLICATED,
    copies: 1,
    stalls: false,
    rollsBack: false,
    mayBeQuiet: false,
    async strike({ site, random }) {
      const replica = random.pick(await site.replicas());
      await replica.kill();
      return { writableAt: now(), tidy: () => replica.restart() };
    },
  },
  {
    kind: "sentinels-frozen",
    topologies: ["sentinel"],
    copies: 1,
    stalls: false,
    rollsBack: false,
    mayBeQuiet: false,
    async strike(field) {
      const { sentinels = [] } = field.site;
      for (const one of sentinels) one.pause();
      // Standing still for two seconds would make them distrust their clocks, and do nothing for thirty.
      await pause(lasting(field, 300, 1_000));
      for (const one of sentinels) one.resume();
      return { writableAt: now() };
    },
  },
  {
    kind: "slot-moved",
    topologies: ["cluster"],
    copies: 2,
    stalls: true,
    rollsBack: false,
    failsOver: true,
    mayBeQuiet: true,
    async strike({ site, random }) {
      const from = await site.primary();
      const masters = await mastersOf(site);
      const to = random.pick(masters.filter((node) => node !== from));
      await moveSlot(from, to, masters);
      return { writableAt: await awaitWritable(site.nodes) };
    },
  },
];

async function mastersOf(site: Site): Promise<RedisServer[]> {
  const roles = await Promise.all(site.nodes.map(async (node) => String(await node.cli("ROLE"))));
  return site.nodes.filter((_, index) => roles[index]?.startsWith("master"));
}

/** As `redis-cli --cluster reshard` does it, while the slot is in use. */
async function moveSlot(from: RedisServer, to: RedisServer, masters: readonly RedisServer[]): Promise<void> {
  const slot = String(await from.cli("CLUSTER", "KEYSLOT", STREAM_KEY));
  const [fromId, toId] = (await Promise.all([from, to].map((node) => node.cli("CLUSTER", "MYID")))).map(String);
  await to.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", fromId ?? "");
  await from.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", toId ?? "");
  for (;;) {
    const keys = ((await from.cli("CLUSTER", "GETKEYSINSLOT", slot, 10)) as unknown[]).map(String);
    if (keys.length === 0) break;
    await from.cli("MIGRATE", "127.0.0.1", to.port, "", 0, 10_000, "KEYS", ...keys);
  }
  const others = masters.filter((node) => node !== to && node !== from);
  for (const node of [to, from, ...others]) await node.cli("CLUSTER", "SETSLOT", slot, "NODE", toId ?? "");
}
