/** A connection for the blocking reads of one reader, whose wait can be ended. */

import { wait } from "../../core/clock.js";
import { ClosedError, ConnectionError } from "../../core/errors.js";
import type { Arg, CommandOptions, OwnConnection, Reply } from "./connection.js";
import { Lane, type LaneSettings } from "./lane.js";
import { uptime } from "./ledger.js";
import type { Socket } from "./socket.js";
import type { Server } from "./target.js";

export interface OwnSettings extends Omit<LaneSettings, "afterWaiting" | "keep" | "onLive"> {
  /** A socket to the same server that does not block, where there is one. */
  readonly socketTo: (server: Server) => Socket | undefined;
  readonly onClose: () => void;
}

const NO_REPLIES: readonly [Reply, Reply] = [null, null];
/** A blocked command that CLIENT UNBLOCK has not ended by then is ended with its socket. */
const UNBLOCK_MS = 250;

export class BlockingConnection implements OwnConnection {
  generation = 0;
  readonly #slot: number;
  readonly #settings: OwnSettings;
  readonly #lane: Lane;
  #clientId: string | undefined;
  #current: Socket | undefined;
  #underway = 0;
  #calls = 0;
  /** The last call whose socket was dropped to end it. */
  #droppedCall = 0;
  #closed = false;
  #dropping = false;

  constructor(slot: number, settings: OwnSettings) {
    this.#slot = slot;
    this.#settings = settings;
    this.#lane = new Lane({
      ...settings,
      afterWaiting: "whole",
      keep: () => (this.generation > 0 ? [slot] : []),
      onLive: (socket) => this.#opened(socket),
      // What it drops itself is no loss to report.
      onLost: (server, reason) => (this.#dropping ? undefined : settings.onLost?.(server, reason)),
    });
  }

  get isOpen(): boolean {
    return !this.#closed && this.#current !== undefined && this.#current.ended === undefined;
  }

  /** Its connection was lost or could not be made. */
  get broken(): boolean {
    return [...this.#lane.missing()].some(({ problem }) => problem !== undefined);
  }

  /** The present sockets: one at most. */
  sockets(): Iterable<Socket> {
    return this.#lane.sockets();
  }

  command(args: readonly Arg[], options?: CommandOptions): Promise<Reply> {
    return this.#run(() => this.#lane.command(this.#slot, args, options), null);
  }

  pair(first: readonly Arg[], second: readonly Arg[], options?: CommandOptions): Promise<readonly [Reply, Reply]> {
    return this.#run(() => this.#lane.pair(this.#slot, first, second, options), NO_REPLIES);
  }

  unblock(): void {
    if (this.#underway === 0 || this.#closed) return;
    this.#lane.abandon();
    void this.#unblock();
  }

  close(): void {
    this.shut(new ClosedError("the blocking connection was closed"));
  }

  /** Ends it, with this error for what is under way. */
  shut(error: ClosedError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#lane.close(error);
    this.#settings.onClose();
  }

  /** Follows a change of the topology. */
  update(): void {
    this.#lane.update();
  }

  #opened(socket: Socket): void {
    this.generation += 1;
    this.#current = socket;
    this.#clientId = undefined;
    socket.ask(["CLIENT", "ID"], this.#settings.commandTimeoutMs).then(
      (id) => {
        if (this.#current === socket) this.#clientId = String(id);
      },
      // Without its id (the ACL may forbid asking) a wait is ended by dropping the socket.
      () => {},
    );
  }

  /** @param ended what it resolves with when it was ended by dropping the socket */
  async #run<R>(send: () => Promise<R>, ended: R): Promise<R> {
    this.#calls += 1;
    const call = this.#calls;
    this.#underway += 1;
    try {
      // Null also where the lane gave it up unsent.
      return (await send()) ?? ended;
    } catch (error) {
      if (!this.#closed && call <= this.#droppedCall) return ended;
      throw error instanceof ConnectionError && error.cause instanceof ClosedError ? error.cause : error;
    } finally {
      this.#underway -= 1;
    }
  }

  async #unblock(): Promise<void> {
    const call = this.#calls;
    const stillBlocks = (): boolean => this.#underway > 0 && this.#calls === call && !this.#closed;
    const until = uptime() + UNBLOCK_MS;
    // The command may not have reached the server yet, which then has nothing to unblock: ask again.
    for (let pause = 1; stillBlocks() && uptime() < until; pause *= 2) {
      const patience = Math.max(1, until - uptime());
      if (await requestUnblock(this.#current, this.#clientId, this.#settings, patience)) return;
      await wait(this.#settings.clock, Math.min(pause, patience));
    }
    if (!stillBlocks()) return;
    this.#droppedCall = call;
    this.#dropping = true;
    this.#lane.drop("a blocking command was ended");
    this.#dropping = false;
  }
}

/** Whether the server has ended the wait. Gives up after `timeoutMs`. */
async function requestUnblock(
  blocked: Socket | undefined,
  clientId: string | undefined,
  settings: OwnSettings,
  timeoutMs: number,
): Promise<boolean> {
  const messenger = blocked === undefined ? undefined : settings.socketTo(blocked.server);
  if (messenger === undefined || clientId === undefined) return false;
  const answered = new AbortController();
  // The messenger is shared, so it is not to die of an impatient deadline.
  const asked = messenger.ask(["CLIENT", "UNBLOCK", clientId], settings.commandTimeoutMs).then(
    (count) => count === 1,
    // Refused or lost: the caller has another way.
    () => false,
  );
  const tooLate = wait(settings.clock, timeoutMs, answered.signal).then(() => false);
  const ended = await Promise.race([asked, tooLate]);
  answered.abort();
  return ended;
}
