/** A Redis Cluster of a test's own. */

import { asArray } from "./redis-cli.js";
import { deposed, type Failover, type FailoverOptions } from "./redis-failover.js";
import { quoted, type RedisServer, startAll } from "./redis-process.js";
import { type RedisOptions, startRedis } from "./redis-standalone.js";
import { until } from "./wait.js";

export interface ClusterOptions {
  readonly binary?: string;
  /** Default 3. */
  readonly masters?: number;
  /** Of each master; default 1. */
  readonly replicas?: number;
  /** How long a node may be silent before it is taken for dead; default 2,000. */
  readonly nodeTimeoutMs?: number;
  readonly appendonly?: "no" | "everysec" | "always";
  readonly password?: string;
  readonly config?: Readonly<Record<string, string>>;
}

export interface RedisCluster extends AsyncDisposable {
  /** At first the masters, in the order of their slots, then their replicas. */
  readonly nodes: readonly RedisServer[];
  /** Of all nodes, as `redis://`. */
  readonly urls: readonly string[];
  /** `redis-cluster://` with all nodes. */
  readonly url: string;
  /** The node that serves a key's slot, as its running nodes see it. */
  masterOf(key: string): Promise<RedisServer>;
  /** The replicas of a node, as its running nodes see it. */
  replicasOf(master: RedisServer): Promise<RedisServer[]>;
  /**
   * Takes the master of a key away and waits for the new one.
   *
   * When a replica that could take over was promoted less than four node timeouts ago, it first waits for that time to
   * pass: Redis 7.0 cannot promote it again any sooner (see `failovers`). A test that kills nodes itself has to keep to that too.
   */
  failover(key: string, options?: FailoverOptions): Promise<Failover>;
  /** Waits until another node has taken over from `former`, and all running nodes know. */
  awaitFailover(former: RedisServer, deadlineMs?: number): Promise<RedisServer>;
  /** Waits until every node runs, agrees that the cluster is well, and every replica is in sync. */
  awaitHealthy(deadlineMs?: number): Promise<void>;
  stop(): Promise<void>;
}

const slotCount = 16_384;

/** Starts the nodes and joins them; resolves when the cluster is whole, after about 2.5 s. */
export async function startCluster(options: ClusterOptions = {}): Promise<RedisCluster> {
  const { masters = 3, replicas = 1, password } = options;
  const node = nodeOptions(options);
  const nodes = await startAll(masters * (1 + replicas), () => startRedis(node));
  const stop = async (): Promise<void> => void (await Promise.all(nodes.map((server) => server.stop())));
  const awaitHealthy = async (deadlineMs = 20_000): Promise<void> => {
    await until(() => isHealthy(nodes, replicas), { deadlineMs, everyMs: 20, what: "the cluster to be whole" });
    // Valkey 8.0 keeps what it learns of shards to itself, and refuses to start from a file that lacks it.
    await Promise.all(nodes.map((server) => server.cli("CLUSTER", "SAVECONFIG")));
  };
  try {
    await join(nodes, masters);
    await awaitHealthy();
  } catch (error) {
    await stop();
    throw error;
  }
  const credentials = password === undefined ? "" : `:${encodeURIComponent(password)}@`;
  return {
    nodes,
    urls: nodes.map((server) => server.url),
    url: `redis-cluster://${credentials}${nodes.map((server) => `127.0.0.1:${server.port}`).join(",")}`,
    ...failovers(nodes, options),
    awaitHealthy,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

const defaultNodeTimeoutMs = 2_000;

function nodeOptions(options: ClusterOptions): RedisOptions {
  const { binary, appendonly, password, nodeTimeoutMs = defaultNodeTimeoutMs } = options;
  return {
    ...(binary === undefined ? {} : { binary }),
    ...(appendonly === undefined ? {} : { appendonly }),
    ...(password === undefined ? {} : { password }),
    config: {
      "cluster-enabled": "yes",
      "cluster-node-timeout": String(nodeTimeoutMs),
      "cluster-allow-replica-migration": "no", // a node stays in its shard, so that tests can foresee what a fault does
      ...(password === undefined ? {} : { masterauth: quoted(password) }),
      ...options.config,
    },
  };
}

/** Who is master of what, and changing it. */
function failovers(
  nodes: readonly RedisServer[],
  options: ClusterOptions,
): Pick<RedisCluster, "masterOf" | "replicasOf" | "failover" | "awaitFailover"> {
  const { masters = 3, nodeTimeoutMs = defaultNodeTimeoutMs } = options;
  // A Redis 7.0 that won an election counts those votes again when it stands a second time soon after, without asking
  // anyone; its epoch is then not new, nobody believes it, and the slots stay without a master. Four timeouts clear it.
  const clearedAfterMs = 4 * Math.max(nodeTimeoutMs, 1_000);
  const wonAt = new Map<RedisServer, number>();
  const shardOf = (node: RedisServer): RedisServer[] =>
    nodes.filter((_, index) => index % masters === nodes.indexOf(node) % masters);
  const isCleared = (node: RedisServer): boolean =>
    performance.now() - (wonAt.get(node) ?? Number.NEGATIVE_INFINITY) > clearedAfterMs;
  const replicasOf = async (master: RedisServer): Promise<RedisServer[]> => {
    const views = await selves(shardOf(master));
    const ports = views.flatMap((self) => (self.flags.includes("slave") ? [self.port] : []));
    return nodes.filter((node) => ports.includes(node.port));
  };
  const awaitFailover = async (former: RedisServer, deadlineMs = 20_000): Promise<RedisServer> => {
    const what = `a successor of port ${former.port}`;
    const winner = await until(() => successor(nodes, shardOf(former), former), { deadlineMs, everyMs: 20, what });
    wonAt.set(winner, performance.now());
    return winner;
  };
  const masterOf = (key: string): Promise<RedisServer> => findMaster(nodes, key);
  return {
    masterOf,
    replicasOf,
    awaitFailover,
    failover: async (key, how = {}) => {
      const former = await masterOf(key);
      const candidates = await replicasOf(former);
      await until(() => candidates.every(isCleared), {
        deadlineMs: clearedAfterMs + 1_000,
        what: "old elections to be forgotten",
      });
      return deposed(former, how, {
        byCommand: async () => void (await candidates[0]?.cli("CLUSTER", "FAILOVER")),
        successor: () => awaitFailover(former, how.deadlineMs),
      });
    },
  };
}

/** Every node meets every other at once, as gossip alone would take seconds to introduce them. */
async function join(nodes: readonly RedisServer[], masters: number): Promise<void> {
  await Promise.all(
    nodes.map(async (node, index) => {
      await node.cli("CLUSTER", "SET-CONFIG-EPOCH", index + 1); // else they quarrel over epochs, one a second
      if (index >= masters) return;
      const first = Math.floor((index * slotCount) / masters);
      const last = Math.floor(((index + 1) * slotCount) / masters) - 1;
      await node.cli("CLUSTER", "ADDSLOTSRANGE", first, last);
    }),
  );
  await Promise.all(
    nodes.flatMap((node, index) =>
      nodes.slice(index + 1).map((other) => node.cli("CLUSTER", "MEET", "127.0.0.1", other.port)),
    ),
  );
  await Promise.all(
    nodes.slice(masters).map(async (replica, index) => {
      const master = await nodes[index % masters]?.cli("CLUSTER", "MYID");
      await until(async () => (await replica.cli("CLUSTER", "REPLICATE", String(master))) === "OK", {
        deadlineMs: 10_000,
        everyMs: 20,
        what: `the node on port ${replica.port} to know its master`,
      });
    }),
  );
}

/** One line of CLUSTER NODES: id, address, flags, master's id, …, config epoch, link state, slots. */
interface NodeView {
  readonly id: string;
  readonly port: number;
  readonly flags: readonly string[];
  readonly masterId: string;
  readonly epoch: number;
  readonly slots: readonly string[];
}

async function viewOf(node: RedisServer): Promise<NodeView[]> {
  const text = String(await node.cli("CLUSTER", "NODES"));
  return text
    .trim()
    .split("\n")
    .map((line) => {
      const [id = "", address = "", flags = "", masterId = "", , , epoch = "", , ...slots] = line.split(" ");
      const port = Number(/:(\d+)@/.exec(address)?.[1]);
      return { id, port, flags: flags.split(","), masterId, epoch: Number(epoch), slots };
    });
}

function running(nodes: readonly RedisServer[]): RedisServer[] {
  return nodes.filter((node) => node.state === "running");
}

/** What each running node says of itself; the highest epoch first, as that is who is right. */
async function selves(nodes: readonly RedisServer[]): Promise<NodeView[]> {
  const views = await Promise.all(running(nodes).map(viewOf));
  return views
    .flatMap((view) => view.filter((entry) => entry.flags.includes("myself")))
    .sort((one, other) => other.epoch - one.epoch);
}

async function findMaster(nodes: readonly RedisServer[], key: string): Promise<RedisServer> {
  const slot = Number(await running(nodes)[0]?.cli("CLUSTER", "KEYSLOT", key));
  const owner = (await selves(nodes)).find(
    (self) => self.flags.includes("master") && self.slots.some((range) => contains(range, slot)),
  );
  const found = nodes.find((node) => node.port === owner?.port);
  if (found === undefined) throw new Error(`no running node serves slot ${slot} of ${key}`);
  return found;
}

/** `range` is `"0-5460"` or `"7"`; entries of a migration in progress (`"[…"`) match nothing. */
function contains(range: string, slot: number): boolean {
  const [first, last = first] = range.split("-").map(Number);
  return first !== undefined && last !== undefined && first <= slot && slot <= last;
}

/** The node of the former master's shard that has its slots by the word of every running node, once they are served. */
async function successor(
  nodes: readonly RedisServer[],
  shard: RedisServer[],
  former: RedisServer,
): Promise<RedisServer | undefined> {
  const witnesses = running(nodes).filter((node) => node !== former);
  const infos = await Promise.all(witnesses.map((node) => node.cli("CLUSTER", "INFO")));
  if (!infos.every((info) => String(info).includes("cluster_state:ok"))) return undefined;
  const views = await Promise.all(witnesses.map(viewOf));
  const hasSlots = (view: NodeView[], port: number): boolean =>
    view.some((entry) => entry.port === port && entry.flags.includes("master") && entry.slots.length > 0);
  if (views.some((view) => hasSlots(view, former.port))) return undefined;
  return shard.find((node) => node !== former && views.every((view) => hasSlots(view, node.port)));
}

/** @throws naming the nodes that are not content */
async function isHealthy(nodes: readonly RedisServer[], replicas: number): Promise<boolean> {
  if (running(nodes).length < nodes.length) return false;
  const reports = await Promise.all(nodes.map((node) => reportOf(node)));
  const ill = reports.filter(({ info, role, view, shards }) => {
    const [kind, , third, link] = role;
    const synced = kind === "master" ? Array.isArray(third) && third.length >= replicas : link === "connected";
    const marks = view.flatMap((entry) => entry.flags);
    return !(
      synced &&
      info.includes("cluster_state:ok") &&
      info.includes(`cluster_slots_ok:${slotCount}`) &&
      view.length === nodes.length &&
      shards === nodes.length / (1 + replicas) &&
      marks.filter((mark) => mark === "slave").length === nodes.length - nodes.length / (1 + replicas) &&
      !marks.some((mark) => mark === "handshake" || mark === "fail" || mark === "fail?")
    );
  });
  if (ill.length > 0) throw new Error(ill.map(described).join("; "));
  return true;
}

function described({ role, view, shards }: Report): string {
  const others = view.map(({ port, flags, slots }) => `${port} ${flags.join(",")} ${slots.join(",")}`.trim());
  return `${JSON.stringify(role)} sees ${shards} shards: ${others.join(" | ")}`;
}

interface Report {
  readonly info: string;
  readonly role: readonly unknown[];
  readonly view: readonly NodeView[];
  /** How many shards the node sees; one too many while it does not know where a replica belongs. */
  readonly shards: number;
}

async function reportOf(node: RedisServer): Promise<Report> {
  const [info, role, shards] = await Promise.all([
    node.cli("CLUSTER", "INFO"),
    node.cli("ROLE"),
    node.cli("CLUSTER", "SHARDS"),
  ]);
  return { info: String(info), role: asArray(role), view: await viewOf(node), shards: asArray(shards).length };
}
