/** Finds the primary of each hash slot by asking the nodes of a Cluster. */

import { ConfigError, ConnectionError, SignalboxError } from "../../core/errors.js";
import type { Reply } from "./connection.js";
import { confirmPrimary } from "./info.js";
import { createScouts, gather, type Scouts } from "./scouts.js";
import { type SlotRange, SlotTable, slotOfKey } from "./slots.js";
import type { Socket, SocketSettings } from "./socket.js";
import { type Address, addressName, type RedisTarget, type Server } from "./target.js";
import { type Poller, Servers, startPoller, type Topology } from "./topology.js";

/** One node's answer to CLUSTER SLOTS. */
interface View {
  readonly from: Server;
  readonly ranges: readonly SlotRange<Server>[];
  /** Primaries and replicas: all that can be asked. */
  readonly nodes: ReadonlySet<Server>;
}

type ClusterTarget = RedisTarget & { readonly kind: "cluster" };

const SLOTS = [["CLUSTER", "SLOTS"]];
/** Nodes asked at a time while something is wrong. */
const ASKED_IN_TROUBLE = 3;

export class ClusterTopology implements Topology {
  problem: SignalboxError | undefined;
  readonly #target: ClusterTarget;
  readonly #settings: SocketSettings;
  readonly #servers = new Servers();
  readonly #seeds: readonly Server[];
  readonly #scouts: Scouts;
  readonly #poller: Poller;
  readonly #listeners: (() => void)[] = [];
  readonly #table = new SlotTable<Server>();
  readonly #suspects = new Set<Server>();
  #nodes: Set<Server>;
  /** Who answered last time. */
  #favourite: Server | undefined;

  constructor(target: ClusterTarget, settings: SocketSettings) {
    this.#target = target;
    this.#settings = settings;
    this.#seeds = target.nodes.map((address) => this.#servers.at(address));
    this.#nodes = new Set(this.#seeds);
    this.#scouts = createScouts(settings);
    this.#poller = startPoller(settings.clock, () => this.#ask());
  }

  slotOf(key: string): number {
    return slotOfKey(key);
  }

  ownerOf(slot: number): Server | undefined {
    return this.#table.ownerOf(slot);
  }

  primarySlots(): readonly number[] {
    return [...this.#table.owners.values()];
  }

  isPrimary(server: Server): boolean {
    return this.#table.owners.has(server);
  }

  moved(slot: number, to: Address, via: Server): void {
    const server = this.#servers.named(to, via);
    this.#nodes.add(server);
    if (this.#table.assign(slot, server)) this.#tell();
    this.#poller.hurry();
  }

  serverAt(to: Address, via: Server): Server {
    return this.#servers.named(to, via);
  }

  suspect(server: Server | undefined): void {
    if (server !== undefined && this.isPrimary(server)) this.#suspects.add(server);
    this.#poller.hurry();
  }

  trust(server: Server): void {
    this.#suspects.delete(server);
  }

  /** Whose primary it is, it says to every command. */
  confirm(socket: Socket, timeoutMs: number): Promise<void> {
    return confirmPrimary(socket, timeoutMs);
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    this.#poller.close();
    this.#scouts.close();
  }

  get #troubled(): boolean {
    return this.#suspects.size > 0 || !this.#table.complete;
  }

  /** Asks one node after the other, or several at a time in trouble, until one knows. */
  async #ask(): Promise<boolean> {
    const errors: unknown[] = [];
    const order = askingOrder(this.#nodes, this.#suspects, this.#favourite);
    while (order.length > 0) {
      const asked = order.splice(0, this.#troubled || errors.length > 0 ? ASKED_IN_TROUBLE : 1);
      const gathered = await gather(
        this.#settings.clock,
        asked.map(async (server) => viewOf(server, await this.#scouts.ask(server, SLOTS), this.#servers)),
      );
      errors.push(...gathered.errors);
      const view = freshest(gathered.answers, this.#suspects);
      if (view === undefined) continue;
      this.#adopt(view);
      this.#scouts.keep(new Set(asked));
      return this.#troubled;
    }
    const before = this.problem;
    this.problem = whyUnknown(this.#target, errors);
    if (before?.message !== this.problem.message) this.#tell();
    return true;
  }

  #adopt(view: View): void {
    this.#nodes = new Set([...view.nodes, ...this.#seeds]);
    this.#favourite = view.from;
    this.problem = undefined;
    const changed = this.#table.replace(view.ranges);
    for (const server of this.#suspects) if (!this.isPrimary(server)) this.#suspects.delete(server);
    if (changed) this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** The node that answered last time, then the others in any order, then those that something is wrong with. */
function askingOrder(
  nodes: ReadonlySet<Server>,
  suspects: ReadonlySet<Server>,
  favourite: Server | undefined,
): Server[] {
  const rank = (server: Server): number => (suspects.has(server) ? 3 : server === favourite ? 0 : 1 + Math.random());
  return [...nodes]
    .map((server) => ({ server, rank: rank(server) }))
    .toSorted((one, other) => one.rank - other.rank)
    .map(({ server }) => server);
}

/** Of several views the one that has moved on most from the servers in question; empty ones know nothing. */
function freshest(views: readonly View[], suspects: ReadonlySet<Server>): View | undefined {
  const left = ({ ranges }: View): number =>
    ranges.reduce((sum, { first, last, primary }) => sum + (suspects.has(primary) ? last - first + 1 : 0), 0);
  return views.filter(({ ranges }) => ranges.length > 0).toSorted((one, other) => left(one) - left(other))[0];
}

/** Entries of CLUSTER SLOTS: first slot, last slot, primary, replicas; a node is its host, its port, its id and more. */
function viewOf(from: Server, [reply]: readonly Reply[], servers: Servers): View {
  const nodes = new Set<Server>();
  const nodeIn = (entry: Reply | undefined): Server | undefined => {
    if (!Array.isArray(entry)) return undefined;
    const host = entry[0] === null ? "" : String(entry[0]);
    // "?" stands for a host name that has not become known yet.
    if (host === "?") return undefined;
    const server = servers.named({ host, port: Number(entry[1]) }, from);
    nodes.add(server);
    return server;
  };
  const ranges = (Array.isArray(reply) ? reply : []).flatMap((entry: Reply) => {
    if (!Array.isArray(entry)) return [];
    const [first, last, ...members] = entry as readonly Reply[];
    const [primary] = members.map(nodeIn);
    return primary === undefined ? [] : [{ first: Number(first), last: Number(last), primary }];
  });
  return { from, ranges, nodes };
}

function whyUnknown(target: ClusterTarget, errors: readonly unknown[]): SignalboxError {
  const asked = target.nodes.map(addressName).join(", ");
  const typed = errors.filter((error) => error instanceof SignalboxError);
  if (typed.some(({ message }) => message.includes("cluster support disabled")))
    return new ConfigError([`Redis at ${asked} is no Cluster: connect with redis:// instead of redis-cluster://`]);
  const first = typed.find(({ retryable }) => !retryable) ?? typed[0];
  if (first !== undefined && !first.retryable) return first;
  const why = first?.message ?? "they serve no slots yet";
  return new ConnectionError(`no node of the Cluster at ${asked} knows where the slots are: ${why}`, { cause: first });
}
