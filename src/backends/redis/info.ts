/** What INFO says: its fields, and whether a server is a primary. */

import { ConnectionError } from "../../core/errors.js";
import type { Reply } from "./connection.js";
import type { Socket } from "./socket.js";

/** The `name:value` lines of an INFO reply. */
export function parseInfo(reply: Reply): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of String(reply).split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0 && !line.startsWith("#")) fields.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return fields;
}

/**
 * INFO rather than ROLE, because applications' ACLs usually grant it.
 *
 * @throws {ConnectionError} when the server is a replica
 */
export async function confirmPrimary(socket: Socket, timeoutMs: number): Promise<void> {
  const info = parseInfo(await socket.ask(["INFO", "replication"], timeoutMs));
  if (info.get("role") !== "master")
    throw new ConnectionError(`Redis at ${socket.server.name} is a replica, not the primary`);
}
