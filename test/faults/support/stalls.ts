/** A server that does not answer for a while, in all the ways that it may come to that. */

import type { RedisServer } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";

export interface Stall {
  readonly row: number;
  readonly title: string;
  /** What no longer answers: everything, or only what writes. */
  readonly stops: "all" | "writes";
  /** Begins it; resolves once it is over. `meanwhile` runs while it lasts. */
  run(server: RedisServer, ms: number, meanwhile: () => Promise<unknown>): Promise<unknown>;
}

export const STALLS: readonly Stall[] = [
  {
    row: 4,
    title: "SIGSTOP",
    stops: "all",
    async run(server, ms, meanwhile) {
      server.pause();
      try {
        await Promise.all([pause(ms), meanwhile()]);
      } finally {
        server.resume();
      }
      await until(async () => (await server.cli("PING")) === "PONG", { what: "the server to answer" });
    },
  },
  {
    row: 6,
    title: "CLIENT PAUSE WRITE",
    stops: "writes",
    async run(server, ms, meanwhile) {
      await server.cli("CLIENT", "PAUSE", ms, "WRITE");
      await Promise.all([meanwhile(), server.cli("SET", "written", "after it")]);
    },
  },
  {
    row: 6,
    title: "CLIENT PAUSE ALL",
    stops: "all",
    async run(server, ms, meanwhile) {
      await server.cli("CLIENT", "PAUSE", ms, "ALL");
      await Promise.all([meanwhile(), server.cli("PING")]);
    },
  },
  {
    row: 7,
    title: "DEBUG SLEEP",
    stops: "all",
    async run(server, ms, meanwhile) {
      const asleep = server.cli("DEBUG", "SLEEP", ms / 1_000);
      await pause(100); // for it to get there
      await Promise.all([asleep, meanwhile()]);
    },
  },
];
