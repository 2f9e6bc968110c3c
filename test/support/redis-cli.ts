/** A command line to one Redis process: plain RESP 2 replies, and a deadline for each. */

import { createClient, type RedisArgument } from "@redis/client";
import { withDeadline } from "./wait.js";

/** The name of the harness's own connections, so that a test can leave them out of CLIENT LIST. */
export const harnessClientName = "harness";

/** An all-powerful user on servers with passwords or users, so that the harness gets in whatever a test does to them. */
export const harnessUser = { name: "harness", password: "harness" } as const;

/** Commands and arguments; numbers are written in decimal. */
export type CliArgument = RedisArgument | number;

export interface Cli {
  /**
   * Sends one command; rejects when Redis answers with an error, is not there, or does not answer within 15 s.
   * Commands are sent at once, also while an earlier one blocks.
   */
  send(...args: CliArgument[]): Promise<unknown>;
  /** Drops the connection, and with it whatever is still unanswered. The next command opens a new one. */
  drop(): void;
}

interface Connection {
  sendCommand(args: RedisArgument[]): Promise<unknown>;
  destroy(): void;
}

/** A reply that should be an array; anything else is taken as an empty one. */
export function asArray(reply: unknown): readonly unknown[] {
  return Array.isArray(reply) ? reply : [];
}

const answerWithinMs = 15_000;

/** Connects on first use and again after each loss, but never sends a command twice. */
export function redisCli(port: number, login: { asHarness: boolean }): Cli {
  let connecting: Promise<Connection> | undefined;
  let drop = (): void => {};

  const connect = (): Promise<Connection> => {
    const client = createClient({
      RESP: 2,
      name: harnessClientName,
      ...(login.asHarness ? { username: harnessUser.name, password: harnessUser.password } : {}),
      socket: { host: "127.0.0.1", port, connectTimeout: 2_000, reconnectStrategy: false },
      commandOptions: { timeout: 0 },
      maintNotifications: "disabled",
      disableOfflineQueue: true,
    });
    const forget = (): void => {
      if (connecting === opened) connecting = undefined;
    };
    client.on("error", forget); // a failed command rejects by itself; here the connection is only given up
    client.on("end", forget);
    const opened: Promise<Connection> = client.connect().catch((error: unknown) => {
      forget();
      throw error;
    });
    drop = () => {
      forget();
      if (client.isOpen) client.destroy();
    };
    return opened;
  };

  return {
    async send(...args) {
      connecting ??= connect();
      const attempt = connecting;
      const words = args.map((arg) => (typeof arg === "number" ? String(arg) : arg));
      return withDeadline(
        async () => (await attempt).sendCommand(words),
        answerWithinMs,
        `${String(words[0])} on port ${port}`,
      );
    },
    drop: () => drop(),
  };
}
