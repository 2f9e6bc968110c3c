/** A Redis master with replicas, watched by Sentinels, of a test's own. */

import { randomBytes } from "node:crypto";
import { ensureRedisServer } from "./install.js";
import { freePorts, tempDir } from "./process.js";
import { asArray } from "./redis-cli.js";
import { deposed, type Failover, type FailoverOptions } from "./redis-failover.js";
import { launchRedis, quoted, type RedisServer, startAll } from "./redis-process.js";
import { type RedisOptions, startRedis } from "./redis-standalone.js";
import { until } from "./wait.js";

export interface SentinelOptions {
  readonly binary?: string;
  /** Default 2. */
  readonly replicas?: number;
  /** Default 3; the quorum is their majority. */
  readonly sentinels?: number;
  /** How long a server may be silent before a Sentinel takes it for dead; default 1,000. */
  readonly downAfterMs?: number;
  /** A failover may take this long, and the next one starts no sooner than twice this after it; default 2,000. */
  readonly failoverTimeoutMs?: number;
  /**
   * `"brisk"` (default): Sentinels look at roles every second, so that a former master is made a replica within 5 s.
   * `"stock"`: every ten, as in production, and that takes 10 to 20 s. Restarted Sentinels are always stock.
   */
  readonly timing?: "brisk" | "stock";
  readonly appendonly?: "no" | "everysec" | "always";
  readonly password?: string;
  /** Of the master and the replicas. */
  readonly config?: Readonly<Record<string, string>>;
}

export interface SentinelSet extends AsyncDisposable {
  /** The first master, then its replicas. */
  readonly nodes: readonly RedisServer[];
  readonly sentinels: readonly RedisServer[];
  /** `redis-sentinel://` with all Sentinels, and the name of the master. */
  readonly url: string;
  /** As most of the running Sentinels see it. */
  currentMaster(): Promise<RedisServer>;
  /** Takes the master away and waits for the new one. */
  failover(options?: FailoverOptions): Promise<Failover>;
  /** Waits until another server is the master, by the word of all running Sentinels and by its own. */
  awaitFailover(former: RedisServer, deadlineMs?: number): Promise<RedisServer>;
  /** Waits until all run, all replicas are in sync, and all Sentinels know it. */
  awaitHealthy(deadlineMs?: number): Promise<void>;
  stop(): Promise<void>;
}

/** The name under which the Sentinels know the master. */
export const sentinelMasterName = "mymaster";

/** Starts master, replicas and Sentinels; resolves when all know each other and the replicas are in sync. Takes about 1 s. */
export async function startSentinelSet(options: SentinelOptions = {}): Promise<SentinelSet> {
  const { replicas = 2, sentinels: sentinelCount = 3, password } = options;
  const nodes = await startReplicated(options, replicas);
  const sentinels: RedisServer[] = [];
  const stop = async (): Promise<void> =>
    void (await Promise.all([...sentinels, ...nodes].map((server) => server.stop())));
  const awaitHealthy = async (deadlineMs = 30_000): Promise<void> => {
    await until(() => isHealthy(nodes, sentinels), { deadlineMs, everyMs: 20, what: "the Sentinels to be content" });
  };
  try {
    await until(() => inSync(nodes), { deadlineMs: 15_000, what: "the replicas to be in sync" });
    sentinels.push(...(await startSentinels(options, nodes, sentinelCount)));
    await awaitHealthy();
  } catch (error) {
    await stop();
    throw error;
  }
  const currentMaster = async (): Promise<RedisServer> => majority(await opinions(nodes, sentinels));
  const awaitFailover = (former: RedisServer, deadlineMs = 20_000): Promise<RedisServer> =>
    until(() => successor(nodes, sentinels, former), {
      deadlineMs,
      everyMs: 20,
      what: `a successor of port ${former.port}`,
    });
  const credentials = password === undefined ? "" : `:${encodeURIComponent(password)}@`;
  const hosts = sentinels.map((sentinel) => `127.0.0.1:${sentinel.port}`).join(",");
  return {
    nodes,
    sentinels,
    url: `redis-sentinel://${credentials}${hosts}/${sentinelMasterName}`,
    currentMaster,
    awaitFailover,
    failover: async (how = {}) => {
      const former = await currentMaster();
      return deposed(former, how, {
        byCommand: async () => void (await running(sentinels)[0]?.cli("SENTINEL", "FAILOVER", sentinelMasterName)),
        successor: () => awaitFailover(former, how.deadlineMs),
      });
    },
    awaitHealthy,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function startReplicated(options: SentinelOptions, replicas: number): Promise<RedisServer[]> {
  const { binary, appendonly, password } = options;
  const server = (config: Record<string, string>): RedisOptions => ({
    ...(binary === undefined ? {} : { binary }),
    ...(appendonly === undefined ? {} : { appendonly }),
    ...(password === undefined ? {} : { password }),
    config: { ...(password === undefined ? {} : { masterauth: quoted(password) }), ...config, ...options.config },
  });
  const master = await startRedis(server({}));
  try {
    const replica = server({ replicaof: `127.0.0.1 ${master.port}` });
    return [master, ...(await startAll(replicas, () => startRedis(replica)))];
  } catch (error) {
    await master.stop();
    throw error;
  }
}

/** Each is told of all the others from the start, as they would otherwise meet through announcements, 2 s apart. */
async function startSentinels(
  options: SentinelOptions,
  nodes: readonly RedisServer[],
  count: number,
): Promise<RedisServer[]> {
  const { downAfterMs = 1_000, failoverTimeoutMs = 2_000, password } = options;
  const binary = options.binary ?? (await ensureRedisServer());
  const identities = (await freePorts(count)).map((port) => ({ port, id: randomBytes(20).toString("hex") }));
  const [master, ...replicas] = nodes.map((node) => node.port);
  const name = sentinelMasterName;
  const shared = [
    `sentinel monitor ${name} 127.0.0.1 ${master} ${Math.floor(count / 2) + 1}`,
    `sentinel down-after-milliseconds ${name} ${downAfterMs}`,
    `sentinel failover-timeout ${name} ${failoverTimeoutMs}`,
    `sentinel parallel-syncs ${name} ${Math.max(1, replicas.length)}`,
    ...(password === undefined ? [] : [`sentinel auth-pass ${name} ${quoted(password)}`]),
    ...replicas.map((port) => `sentinel known-replica ${name} 127.0.0.1 ${port}`),
  ];
  const sentinels = await startAll(count, async (index) => {
    const own = identities[index];
    if (own === undefined) throw new Error("more Sentinels than identities");
    const others = identities.filter((other) => other !== own);
    return launchRedis({
      binary,
      mode: "sentinel",
      port: own.port,
      dir: await tempDir(),
      dirIsOurs: true,
      guarded: false,
      lines: [
        `sentinel myid ${own.id}`,
        ...shared,
        ...others.map((other) => `sentinel known-sentinel ${name} 127.0.0.1 ${other.port} ${other.id}`),
      ],
    });
  });
  if (options.timing !== "stock") {
    await Promise.all(sentinels.map((s) => s.cli("SENTINEL", "DEBUG", "INFO-PERIOD", 1_000, "PUBLISH-PERIOD", 500)));
  }
  return sentinels;
}

function running(servers: readonly RedisServer[]): RedisServer[] {
  return servers.filter((server) => server.state === "running");
}

/** The master as each running Sentinel names it; undefined for one that is none of ours. */
async function opinions(
  nodes: readonly RedisServer[],
  sentinels: readonly RedisServer[],
): Promise<(RedisServer | undefined)[]> {
  return Promise.all(
    running(sentinels).map(async (sentinel) => {
      const address = await sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinelMasterName);
      const port = Number(asArray(address)[1]);
      return nodes.find((node) => node.port === port);
    }),
  );
}

function majority(named: readonly (RedisServer | undefined)[]): RedisServer {
  const winner = named.find((one) => one && named.filter((other) => other === one).length * 2 > named.length);
  if (winner === undefined) throw new Error("no majority of the running Sentinels agrees on a master");
  return winner;
}

async function successor(
  nodes: readonly RedisServer[],
  sentinels: readonly RedisServer[],
  former: RedisServer,
): Promise<RedisServer | undefined> {
  const [first, ...others] = await opinions(nodes, sentinels);
  if (first === undefined || first === former || others.some((other) => other !== first)) return undefined;
  return (await roleOf(first))[0] === "master" ? first : undefined;
}

async function roleOf(node: RedisServer): Promise<readonly unknown[]> {
  return asArray(await node.cli("ROLE"));
}

/** One master, and every other server connected to a master. */
async function inSync(nodes: readonly RedisServer[]): Promise<boolean> {
  const roles = await Promise.all(nodes.map(roleOf));
  const masters = roles.filter((role) => role[0] === "master");
  return masters.length === 1 && roles.every((role) => role[0] === "master" || role[3] === "connected");
}

/** One master, and every Sentinel knows it, all replicas as following it, and all other Sentinels as present. */
async function isHealthy(nodes: readonly RedisServer[], sentinels: readonly RedisServer[]): Promise<boolean> {
  if (running([...nodes, ...sentinels]).length < nodes.length + sentinels.length) return false;
  if (!(await inSync(nodes))) return false;
  const master = majority(await opinions(nodes, sentinels));
  if ((await roleOf(master))[0] !== "master") return false;
  const views = await Promise.all(sentinels.map(viewOf));
  return views.every(
    (view) =>
      view.master["flags"] === "master" &&
      view.master["port"] === String(master.port) &&
      view.replicas.length === nodes.length - 1 &&
      // What a replica says of itself counts: one that still calls itself a master is about to be converted.
      view.replicas.every(
        (replica) =>
          replica["flags"] === "slave" &&
          replica["role-reported"] === "slave" &&
          replica["master-port"] === String(master.port) &&
          replica["master-link-status"] === "ok",
      ) &&
      view.others.length === sentinels.length - 1 &&
      view.others.every((other) => other["flags"] === "sentinel"),
  );
}

type Fields = Readonly<Record<string, string>>;

/** What a Sentinel knows of the servers and of the other Sentinels. */
async function viewOf(sentinel: RedisServer): Promise<{ master: Fields; replicas: Fields[]; others: Fields[] }> {
  const ask = (what: string): Promise<unknown> => sentinel.cli("SENTINEL", what, sentinelMasterName);
  const [master, replicas, others] = await Promise.all([ask("MASTER"), ask("REPLICAS"), ask("SENTINELS")]);
  return { master: fieldsOf(master), replicas: asArray(replicas).map(fieldsOf), others: asArray(others).map(fieldsOf) };
}

/** From name, value, name, value … as RESP 2 writes a map. */
function fieldsOf(reply: unknown): Fields {
  const flat = asArray(reply).map(String);
  return Object.fromEntries(flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? ""]] : [])));
}
