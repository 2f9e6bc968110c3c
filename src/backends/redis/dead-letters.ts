/** Dead letters are a stream of their own, for each group of a log and each recipient of a queue. */

import type { DeadLetter, DeadLetters, DeadReason } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { bufferOf, fieldsOf, fromBlob, listOf, numberOf, textOf } from "./blob.js";
import type { Reply } from "./connection.js";
import type { Port } from "./port.js";

/** As many as fit into one reply that comes quickly. */
const MAX_PAGE = 1_000;

/**
 * @param key of the stream of letters
 * @param positionOf what the letter's `p` field stands for
 */
export function createDeadLetters(
  port: Pick<Port, "assertOpen" | "repeating">,
  key: string,
  positionOf: (stored: string) => string,
): DeadLetters {
  return {
    async list({ max, cursor }) {
      port.assertOpen();
      if (cursor !== undefined && !/^\d+-\d+$/.test(cursor)) throw new NotFoundError(`"${cursor}" is no cursor`);
      const count = Math.min(max, MAX_PAGE);
      const start = cursor === undefined ? "-" : `(${cursor}`;
      // One more than wanted tells whether this is the last page.
      const words = ["XRANGE", key, start, "+", "COUNT", String(count + 1)];
      const entries = listOf(await port.repeating(key).command(words));
      const letters = entries.slice(0, count).map((entry) => toLetter(entry, positionOf));
      const last = letters.at(-1);
      return entries.length > count && last !== undefined ? { letters, cursor: last.id } : { letters };
    },
  };
}

function toLetter(entry: Reply, positionOf: (stored: string) => string): DeadLetter {
  const [id, flat] = listOf(entry);
  const fields = fieldsOf(flat);
  return {
    id: textOf(id),
    position: positionOf(textOf(fields.get("p"))),
    ...fromBlob(bufferOf(fields.get("m"))),
    attempts: numberOf(fields.get("a")),
    consumer: textOf(fields.get("c")),
    // As the scripts or `JSON.stringify` wrote it.
    reason: JSON.parse(textOf(fields.get("r"))) as DeadReason,
    at: Number(textOf(id).split("-")[0]),
  };
}
