/** What a stored message is known by in another store, and finding it there. */

import { createHash } from "node:crypto";
import type { Log } from "./backend.js";
import { decodeHeader } from "./message.js";

export interface Identity {
  /** The message's own id; undefined where its header cannot be read, or holds none. */
  readonly id: string | undefined;
  readonly key: string | undefined;
}

/** Reads from a header what its message is known by. Never throws: what cannot be read is forwarded all the same. */
export function identityOf(header: string): Identity {
  try {
    const { id, key } = decodeHeader(header, "", "");
    return { id: id === "" ? undefined : id, key };
  } catch {
    // Somebody else's message, or a newer layout's: a reader will say so.
    return { id: undefined, key: undefined };
  }
}

/** Stands in for the id of a message that has none to be read: the same for the same entry of a stream, whoever sends it. */
export function fingerprint(stream: string, position: string, header: string, data: Uint8Array): string {
  const hash = createHash("sha256");
  for (const part of [stream, position, header]) hash.update(part).update("\n");
  return `forwarded-${hash.update(data).digest("hex")}`;
}

const PAGE = 1_000;
/** Entries looked through at most. */
const MAX_LOOKED_THROUGH = 250_000;

/**
 * Which of these ids are those of messages that were stored at that time or later, by the store's clock (ms since the
 * epoch). Looks through a bounded number of them, oldest first.
 */
export async function findStored(
  log: Pick<Log, "read">,
  stream: string,
  ids: ReadonlySet<string>,
  since: number,
): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  let looked = 0;
  let page = await log.read(stream, { since: Math.max(0, since), max: PAGE });
  for (let last = page.at(-1); last !== undefined; last = page.at(-1)) {
    for (const { header } of page) {
      const { id } = identityOf(header);
      if (id !== undefined && ids.has(id)) found.add(id);
    }
    looked += page.length;
    if (found.size === ids.size || looked >= MAX_LOOKED_THROUGH) break;
    page = await log.read(stream, { after: last.position, max: PAGE });
  }
  return found;
}
