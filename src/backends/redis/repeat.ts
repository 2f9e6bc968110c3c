/** Commands that may be sent again: what they do twice is what they do once. */

import { type Clock, wait } from "../../core/clock.js";
import { ConnectionError } from "../../core/errors.js";
import type { Connection, Connections } from "./connection.js";
import { uptime } from "./ledger.js";

/** How long an interrupted command is tried again; each try may take as long as the connection allows. */
const REPEAT_MS = 5_000;
const PAUSE_MS = 20;

/** The shared connection of `key`, for commands and scripts that read, or whose repetition changes nothing. */
export function repeating(connections: Connections, key: string, clock: Clock): Connection {
  const connection = connections.shared(key);
  async function repeat<T>(send: () => Promise<T>): Promise<T> {
    const until = uptime() + REPEAT_MS;
    for (;;) {
      try {
        return await send();
      } catch (error) {
        if (!(error instanceof ConnectionError && error.interrupted) || uptime() >= until) throw error;
        await wait(clock, PAUSE_MS);
      }
    }
  }
  return {
    command: (args, options) => repeat(() => connection.command(args, options)),
    pair: (first, second, options) => repeat(() => connection.pair(first, second, options)),
  };
}
