/** What a server says of the library's connections to it. */

import type { RedisServer } from "../../support/redis-servers.js";

/** Lines of CLIENT LIST: not those of the harness, of replicas or of Sentinels. */
export async function clientsOf(server: RedisServer): Promise<readonly string[]> {
  const lines = String(await server.cli("CLIENT", "LIST")).split("\n");
  return lines.filter((line) => line.includes(" name=signalbox "));
}

/** Connections that the server has accepted since it runs. */
export async function connectionsSoFar(server: RedisServer): Promise<number> {
  const stats = String(await server.cli("INFO", "stats"));
  return Number(/total_connections_received:(\d+)/.exec(stats)?.[1]);
}
