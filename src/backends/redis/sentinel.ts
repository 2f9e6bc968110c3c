/** Finds the primary by asking Sentinels. */

import { ConfigError, ConnectionError, SignalboxError } from "../../core/errors.js";
import type { Reply } from "./connection.js";
import { confirmPrimary } from "./info.js";
import { uptime } from "./ledger.js";
import { Link, type Opener } from "./link.js";
import { createScouts, gather, type Scouts } from "./scouts.js";
import { openSocket, type Socket, type SocketSettings } from "./socket.js";
import { type Address, addressName, type Login, type RedisTarget, type Server } from "./target.js";
import { type Poller, Servers, startPoller, type Topology } from "./topology.js";

/** What one Sentinel believes. */
interface Opinion {
  readonly of: Server;
  /** Undefined where it does not know the name. */
  readonly primary: Server | undefined;
  /** Grows with every failover, so that a Sentinel that missed one can be told. */
  readonly epoch: number;
  readonly isFailingOver: boolean;
}

/** A failover that has begun. */
interface Deposition {
  readonly primary: Server;
  readonly leader: Server;
  /** By `uptime`. */
  readonly until: number;
}

/** A primary that is still there by then is used again, whatever its Sentinels say. Promoting another takes a second or two. */
const DEPOSING_MS = 5_000;

type SentinelTarget = RedisTarget & { readonly kind: "sentinel" };

export class SentinelTopology implements Topology {
  problem: SignalboxError | undefined;
  readonly #target: SentinelTarget;
  readonly #settings: SocketSettings;
  readonly #servers = new Servers();
  readonly #sentinels: readonly Server[];
  readonly #scouts: Scouts;
  readonly #poller: Poller;
  readonly #watch: readonly Link[];
  readonly #listeners: (() => void)[] = [];
  readonly #questions: readonly (readonly string[])[];
  #primary: Server | undefined;
  #epoch = 0;
  #suspected = false;
  /** Until it is over, no primary is known. */
  #deposition: Deposition | undefined;

  /** @param login of the Sentinels, which have users of their own */
  constructor(target: SentinelTarget, settings: SocketSettings, login: Login) {
    this.#target = target;
    this.#settings = settings;
    this.#sentinels = target.sentinels.map((address) => this.#servers.at(address));
    this.#questions = [
      ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", target.primary],
      ["SENTINEL", "MASTER", target.primary],
    ];
    this.#scouts = createScouts({ ...settings, login });
    this.#poller = startPoller(settings.clock, () => this.#ask());
    this.#watch = watchSentinels(
      this.#sentinels,
      { ...settings, login },
      {
        changed: () => this.#poller.hurry(),
        deposing: (leader, name) => {
          if (name === target.primary) this.#depose(leader);
        },
      },
    );
  }

  slotOf(): number {
    return 0;
  }

  ownerOf(): Server | undefined {
    return this.#primary;
  }

  primarySlots(): readonly number[] {
    return this.#primary === undefined ? [] : [0];
  }

  isPrimary(server: Server): boolean {
    return server === this.#primary;
  }

  /** Only a Cluster says such things. */
  moved(): void {}

  serverAt(to: Address, via: Server): Server {
    return this.#servers.named(to, via);
  }

  suspect(server: Server | undefined): void {
    if (server !== undefined && server === this.#primary) this.#suspected = true;
    this.#poller.hurry();
  }

  trust(server: Server): void {
    if (server === this.#primary) this.#suspected = false;
  }

  async confirm(socket: Socket, timeoutMs: number): Promise<void> {
    await confirmPrimary(socket, timeoutMs);
    // A primary that was paused and deposed still takes itself for one.
    await this.#poller.fresh();
    if (socket.server !== this.#primary)
      throw new ConnectionError(`Redis at ${socket.server.name} is no longer the primary`);
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    this.#poller.close();
    this.#scouts.close();
    for (const link of this.#watch) link.close("closed");
  }

  async #ask(): Promise<boolean> {
    const opinions = this.#sentinels.map((sentinel) => this.#opinionOf(sentinel));
    const { answers, errors } = await gather(this.#settings.clock, opinions);
    const chosen = choose(answers, this.#epoch, this.#suspected || this.#primary === undefined);
    if (chosen?.primary === undefined) {
      // While no Sentinel knows better, the primary of old is kept.
      if (this.#primary === undefined) this.#unknown(whyUnknown(this.#target, answers, errors));
    } else if (!this.#isBeingDeposed(chosen.primary, answers)) {
      this.problem = undefined;
      this.#deposition = undefined;
      this.#epoch = chosen.epoch;
      if (chosen.primary !== this.#primary) {
        this.#primary = chosen.primary;
        this.#suspected = false;
        this.#tell();
      }
    }
    return this.#suspected || this.#primary === undefined;
  }

  async #opinionOf(sentinel: Server): Promise<Opinion> {
    const [address, details] = await this.#scouts.ask(sentinel, this.#questions).catch((error: unknown) => {
      // The second question is refused where the first was answered with nothing.
      if (error instanceof SignalboxError && /No such master/i.test(error.message)) return [null, null];
      throw error;
    });
    return {
      of: sentinel,
      primary: addressIn(address, this.#servers),
      epoch: Number(fieldIn(details, "config-epoch") ?? 0),
      isFailingOver: fieldIn(details, "flags")?.includes("failover_in_progress") ?? false,
    };
  }

  /**
   * From the moment that another is promoted, what the primary of old takes is lost, also what a replica has confirmed: one
   * that was not chosen goes on confirming until it is told. So nothing is sent there once there is a leader, who chooses next.
   */
  #depose(leader: Server): void {
    const primary = this.#primary;
    if (primary !== undefined) {
      this.#deposition = { primary, leader, until: uptime() + DEPOSING_MS };
      this.#primary = undefined;
      this.problem = new ConnectionError(`the Sentinels are putting another Redis in the place of ${primary.name}`);
      this.#tell();
    }
    this.#poller.hurry();
  }

  #isBeingDeposed(primary: Server, answers: readonly Opinion[]): boolean {
    const deposition = this.#deposition;
    if (deposition?.primary !== primary || uptime() >= deposition.until) return false;
    return answers.find((opinion) => opinion.of === deposition.leader)?.isFailingOver ?? true;
  }

  #unknown(problem: SignalboxError): void {
    const before = this.problem;
    this.problem = problem;
    if (before?.message !== problem.message) this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

/**
 * Listens for failovers, as a primary that is well when it is deposed goes on taking writes, which are lost, until it is
 * told. That another has been promoted, asking now and then finds out too; that it is about to be, nobody says but here.
 */
function watchSentinels(
  sentinels: readonly Server[],
  settings: SocketSettings,
  { changed, deposing }: { changed: () => void; deposing: (leader: Server, name: string) => void },
): Link[] {
  const open: Opener = async (sentinel, signal) => {
    const socket = await openSocket(sentinel, settings, signal);
    try {
      const events = [
        // The leader says these two: before it has chosen a replica, and once that has been promoted. The first is about
        // "master", the name, and the address.
        ["+failover-state-select-slave", (text: Buffer) => deposing(sentinel, text.toString().split(" ")[1] ?? "")],
        ["+promoted-slave", changed],
        // The others say this when they learn of it.
        ["+switch-master", changed],
      ] as const;
      await socket.subscribe("channel", events, settings.connectTimeoutMs);
      return socket;
    } catch (error) {
      const typed = socket.typed(["SUBSCRIBE"], error);
      socket.destroy("it is of no use");
      throw typed;
    }
  };
  const ignored = (): void => {};
  return sentinels.map((sentinel) => {
    const link = new Link(sentinel, open, settings.clock, {
      live: changed,
      resumed: ignored,
      lost: ignored,
      // Where the ACL forbids listening, asking must do.
      failed: (_, reason) => (reason.retryable ? undefined : link.close(reason)),
    });
    link.start();
    return link;
  });
}

/** The newest opinion, then the one most share. Older ones than `epoch` count only where there is `need`. */
function choose(answers: readonly Opinion[], epoch: number, need: boolean): Opinion | undefined {
  const known = answers.filter(({ primary }) => primary !== undefined);
  const recent = known.filter((opinion) => opinion.epoch >= epoch);
  const votes = ({ primary }: Opinion): number => known.filter((other) => other.primary === primary).length;
  return (recent.length === 0 && need ? known : recent).toSorted(
    (one, other) => other.epoch - one.epoch || votes(other) - votes(one),
  )[0];
}

function addressIn(reply: Reply | undefined, servers: Servers): Server | undefined {
  if (!Array.isArray(reply)) return undefined;
  return servers.at({ host: String(reply[0]), port: Number(reply[1]) });
}

/** A value of names and values, one after the other. */
function fieldIn(reply: Reply | undefined, name: string): string | undefined {
  if (!Array.isArray(reply)) return undefined;
  const at = reply.findIndex((word, index) => index % 2 === 0 && String(word) === name);
  return at < 0 ? undefined : String(reply[at + 1]);
}

function whyUnknown(target: SentinelTarget, answers: readonly Opinion[], errors: readonly unknown[]): SignalboxError {
  const asked = target.sentinels.map(addressName).join(", ");
  if (answers.length > 0)
    return new ConfigError([`the Sentinels at ${asked} know no primary "${target.primary}": check its name`]);
  const typed = errors.filter((error) => error instanceof SignalboxError);
  const first = typed.find(({ retryable }) => !retryable) ?? typed[0];
  if (first !== undefined && !first.retryable) return first;
  return new ConnectionError(`no Sentinel of ${asked} answers: ${first?.message ?? "none was asked"}`, {
    cause: first,
  });
}
