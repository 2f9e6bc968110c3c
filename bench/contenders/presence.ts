/** Presence through its public API, with its defaults; renewals and lists through the port beneath it. */

import { openMemory } from "../../src/backends/memory/index.js";
import { openRedis } from "../../src/backends/redis/index.js";
import { openSqlite } from "../../src/backends/sqlite/index.js";
import type { Backend } from "../../src/core/backend.js";
import { systemClock } from "../../src/core/clock.js";
import { type Broker, connect, type Presence, type PresenceConnection } from "../../src/index.js";
import { until } from "../../test/support/wait.js";
import { databaseFile, removeDatabase } from "../database-files.js";
import type { Contender, Environment, Trial } from "../harness.js";
import type { BackendName } from "../options.js";
import { assertEqual, CONCURRENT_PUBLISHES, pump } from "../workload.js";

/** Members under way at once, in every rate. */
const CONCURRENT = CONCURRENT_PUBLISHES;
const WARM_UP: Readonly<Record<BackendName, number>> = { memory: 5_000, sqlite: 2_000, redis: 5_000 };
const OPTIONS = { maxMembers: 10_000_000 };
const LEASE_MS = 600_000;
const PAGE = 1_000;

/** About 60 bytes as JSON. */
export function metaOf(n: number): { readonly status: string; readonly name: string; readonly n: number } {
  return { status: "online", name: `somebody called ${n}`, n };
}

/** Enters `count` members, each with one connection. */
export function entering(backend: BackendName): Contender {
  return contender(`signalbox ${backend}`, backend, "presence.enter", async (open, count) => {
    const lobby = lobbyOf(await open());
    return {
      run: () => pump(count, CONCURRENT, (n) => lobby.enter(`member-${n}`, metaOf(n))),
      verify: async () => assertEqual("members present", await lobby.count(), count),
    };
  });
}

/** Lets them all leave again. */
export function leaving(backend: BackendName): Contender {
  return contender(`signalbox ${backend}`, backend, "connection.leave", async (open, count) => {
    const lobby = lobbyOf(await open());
    const connections: PresenceConnection[] = [];
    await pump(count, CONCURRENT, async (n) => connections.push(await lobby.enter(`member-${n}`, metaOf(n))));
    return {
      run: () => pump(count, CONCURRENT, async (n) => connections[n]?.leave()),
      verify: async () => assertEqual("members left over", await lobby.count(), 0),
    };
  });
}

/** Enters at one broker while another watches, until it has seen them all. */
export function watched(backend: BackendName): Contender {
  return contender(
    `signalbox ${backend}`,
    backend,
    "presence.enter, watched by another broker",
    async (open, count) => {
      const [lobby, other] = [lobbyOf(await open()), lobbyOf(await open())];
      const seen = new Set<string>();
      const watch = other.watch({ buffer: 1_000_000 });
      await watch.next();
      return {
        async run() {
          const watching = (async () => {
            for await (const change of watch) {
              if (change.kind === "joined") seen.add(change.member.id);
              if (seen.size === count) break;
            }
          })();
          await Promise.all([pump(count, CONCURRENT, (n) => lobby.enter(`member-${n}`, metaOf(n))), watching]);
        },
        verify: async () => assertEqual("members seen", seen.size, count),
      };
    },
  );
}

/** Lists a group of `count` members by pages of 1,000; a message is one member. */
export function listing(backend: BackendName): Contender {
  return portContender(
    `signalbox ${backend}`,
    backend,
    "membership.list, by pages of 1,000",
    async (backend, count) => {
      await fill(backend, count);
      let listed = 0;
      return {
        async run() {
          let cursor: string | undefined;
          do {
            const page = await backend.membership.list("lobby", { max: PAGE, cursor });
            listed += page.members.length;
            cursor = page.cursor;
          } while (cursor !== undefined);
        },
        verify: async () => assertEqual("members listed", listed, count),
      };
    },
  );
}

/** Renews the lease of a holder of so many members, again and again. */
export function renewing(backend: BackendName, members: number): Contender {
  const name = `signalbox ${backend} of ${members.toLocaleString("en")}`;
  return portContender(name, backend, "membership.renew, for a holder of so many members", async (backend, count) => {
    const holder = await fill(backend, members);
    let held = 0;
    return {
      async run() {
        for (let n = 0; n < count; n += 1) if ((await backend.membership.renew(holder, LEASE_MS)) === "held") held += 1;
      },
      verify: async () => assertEqual("renewals", held, count),
    };
  });
}

async function fill({ membership }: Backend, count: number): Promise<string> {
  await membership.begin("holder", LEASE_MS);
  for (let from = 0; from < count; from += PAGE) {
    const members = Array.from({ length: Math.min(PAGE, count - from) }, (_, index) => {
      return { id: `member-${from + index}`, meta: JSON.stringify(metaOf(from + index)), connections: 1 };
    });
    await membership.join("lobby", "holder", members, OPTIONS);
  }
  await until(async () => (await membership.list("lobby", { max: 0 })).count === count);
  return "holder";
}

function lobbyOf(broker: Broker): Presence {
  return broker.presence("lobby", OPTIONS);
}

type Prepare = Omit<Trial, "close">;

function contender(
  name: string,
  backend: BackendName,
  is: string,
  prepare: (open: () => Promise<Broker>, count: number) => Promise<Prepare>,
): Contender {
  return {
    name,
    backend,
    role: "signalbox",
    is,
    warmUp: WARM_UP[backend],
    async prepare(environment, count) {
      const { url, cleanUp } = storeOf(environment, backend);
      const brokers: Broker[] = [];
      const open = async (): Promise<Broker> => {
        const broker = await connect(url);
        brokers.push(broker);
        return broker;
      };
      const close = async (): Promise<void> => {
        await Promise.all(brokers.map((broker) => broker.close({ drainMs: 30_000 })));
        cleanUp();
      };
      return closedWhenItFails(() => prepare(open, count), close);
    },
  };
}

function portContender(
  name: string,
  backend: BackendName,
  is: string,
  prepare: (backend: Backend, count: number) => Promise<Prepare>,
): Contender {
  return {
    name,
    backend,
    role: "signalbox",
    is,
    warmUp: 1_000,
    async prepare(environment, count) {
      const { url, cleanUp } = storeOf(environment, backend);
      const opened = await openBackend(backend, url);
      const close = async (): Promise<void> => {
        await opened.close();
        cleanUp();
      };
      return closedWhenItFails(() => prepare(opened, count), close);
    },
  };
}

async function closedWhenItFails(prepare: () => Promise<Prepare>, close: () => Promise<void>): Promise<Trial> {
  try {
    return { ...(await prepare()), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function storeOf(environment: Environment, backend: BackendName): { readonly url: string; cleanUp(): void } {
  if (backend === "memory") return { url: `memory:${environment.unique("presence")}`, cleanUp: () => undefined };
  if (backend === "redis") {
    const { redis } = environment;
    if (redis === undefined) throw new Error("no Redis was started for this run");
    return { url: redis.url, cleanUp: () => undefined };
  }
  const file = databaseFile(environment, "presence");
  return { url: `sqlite:${file}`, cleanUp: () => removeDatabase(file) };
}

function openBackend(backend: BackendName, url: string): Promise<Backend> {
  const report = (error: unknown): void => void process.stderr.write(`bench: ${String(error)}\n`);
  const context = { namespace: "default", clock: systemClock, report };
  if (backend === "memory") return openMemory({}, context);
  if (backend === "sqlite") return openSqlite({ path: url.slice("sqlite:".length) }, context);
  const { hostname: host, port } = new URL(url);
  const target = { kind: "standalone", host, port: Number(port), tls: false, database: 0 } as const;
  return openRedis(target, { durability: "memory", replicas: 1 }, context);
}
