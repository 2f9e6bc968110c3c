/** A connection for the blocking reads of one reader, whose wait can be ended. */

import { wait } from "../../core/clock.js";
import { ClosedError } from "../../core/errors.js";
import type { Arg, CommandOptions, OwnConnection, Reply } from "./connection.js";
import { Lane, type LaneSettings } from "./lane.js";
import type { Socket } from "./socket.js";
import type { Server } from "./target.js";

export interface OwnSettings extends Omit<LaneSettings, "keep" | "onLive"> {
  /** A socket to the same server that does not block, where there is one. */
  readonly socketTo: (server: Server) => Socket | undefined;
  readonly onClose: () => void;
}

/** A blocked command that CLIENT UNBLOCK has not ended by then is ended with its socket. */
const UNBLOCK_MS = 250;

export interface BlockingConnection extends OwnConnection {
  readonly connected: boolean;
  /** Follows a change of the topology. */
  update(): void;
  /** Ends it together with the backend. */
  shut(): void;
}

export function openOwn(slot: number, settings: OwnSettings): BlockingConnection {
  const { clock } = settings;
  let generation = 0;
  let clientId: string | undefined;
  let current: Socket | undefined;
  let underway = 0;
  let calls = 0;
  /** The last call whose socket was dropped to end it. */
  let droppedCall = 0;
  let closed = false;

  const lane = new Lane({
    ...settings,
    keep: () => (generation > 0 ? [slot] : []),
    onLive(socket) {
      generation += 1;
      current = socket;
      clientId = undefined;
      socket.ask(["CLIENT", "ID"], settings.commandTimeoutMs).then(
        (id) => {
          if (current === socket) clientId = String(id);
        },
        // Without its id (the ACL may forbid asking) a wait is ended by dropping the socket.
        () => {},
      );
    },
  });

  const run = async <R extends Reply | readonly [Reply, Reply]>(send: () => Promise<R>): Promise<R | null> => {
    calls += 1;
    const call = calls;
    underway += 1;
    try {
      return await send();
    } catch (error) {
      if (!closed && call <= droppedCall) return null;
      throw error;
    } finally {
      underway -= 1;
    }
  };

  const unblock = async (): Promise<void> => {
    const call = calls;
    const stillBlocks = (): boolean => underway > 0 && calls === call && !closed;
    let patience = UNBLOCK_MS;
    // The command may not have reached the server yet, which then has nothing to unblock: ask again.
    for (let pause = 1; stillBlocks() && patience > 0; pause *= 2) {
      if (await requestUnblock(current, clientId, settings, patience)) return;
      await wait(clock, pause);
      patience -= pause;
    }
    if (!stillBlocks()) return;
    droppedCall = call;
    lane.drop("a blocking command was ended");
  };

  const shut = (underwayError?: ClosedError): void => {
    if (closed) return;
    closed = true;
    lane.close(underwayError);
    settings.onClose();
  };

  return {
    get generation() {
      return generation;
    },
    get connected() {
      return current !== undefined && current.ended === undefined;
    },
    command: (args: readonly Arg[], options?: CommandOptions) => run(() => lane.command(slot, args, options)),
    async pair(first, second, options) {
      return (await run(() => lane.pair(slot, first, second, options))) ?? [null, null];
    },
    unblock() {
      if (underway === 0 || closed) return;
      lane.abandon();
      void unblock();
    },
    close: () => shut(new ClosedError("the blocking connection was closed")),
    update: () => lane.update(),
    shut: () => shut(new ClosedError("the backend was closed")),
  };
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
