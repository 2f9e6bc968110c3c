/** Dead letters are a stream of their own, for each group of a log and each recipient of a queue. */

import type { DeadLetter, DeadLetters, DeadReason } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { bufferOf, fieldsOf, fromBlob, listOf, numberOf, textOf } from "./blob.js";
import type { Reply } from "./connection.js";
import type { Port } from "./port.js";
import { loadScript } from "./scripts.js";

const purge = loadScript("dead-purge");

/** As many as fit into one reply that comes quickly, or are done with quickly. */
const AT_ONCE = 1_000;

/** Where letters are kept, and where they came from. */
export interface LetterBox {
  /** The stream of letters. */
  readonly key: string;
  /** What a letter's `p` field stands for. */
  readonly positionOf: (stored: string) => string;
  /** Puts some of at most 1,000 letters back, from the first on: it may end before it has looked at all of them. */
  readonly redrive: (ids: readonly string[]) => Promise<Redriven>;
}

export interface Redriven {
  readonly looked: number;
  readonly moved: number;
}

export function createDeadLetters(
  port: Pick<Port, "assertOpen" | "repeating">,
  { key, positionOf, redrive }: LetterBox,
): DeadLetters {
  const entriesFrom = async (start: string, end: string, count: number): Promise<readonly Reply[]> =>
    listOf(await port.repeating(key).command(["XRANGE", key, start, end, "COUNT", String(count)]));

  return {
    async list({ max, cursor }) {
      port.assertOpen();
      if (cursor !== undefined && !isId(cursor)) throw new NotFoundError(`"${cursor}" is no cursor`);
      const count = Math.min(max, AT_ONCE);
      // One more than wanted tells whether this is the last page.
      const entries = await entriesFrom(cursor === undefined ? "-" : `(${cursor}`, "+", count + 1);
      const letters = entries.slice(0, count).map((entry) => toLetter(entry, positionOf));
      const last = letters.at(-1);
      return entries.length > count && last !== undefined ? { letters, cursor: last.id } : { letters };
    },

    async get(id) {
      port.assertOpen();
      if (!isId(id)) return undefined;
      const [entry] = await entriesFrom(id, id, 1);
      return entry === undefined ? undefined : toLetter(entry, positionOf);
    },

    async redrive(ids) {
      port.assertOpen();
      const letters = ids.filter(isId);
      let moved = 0;
      for (let from = 0; from < letters.length; ) {
        const redriven = await redrive(letters.slice(from, from + AT_ONCE));
        moved += redriven.moved;
        from += redriven.looked;
      }
      return moved;
    },

    async remove(ids) {
      port.assertOpen();
      const letters = ids.filter(isId);
      let removed = 0;
      for (let from = 0; from < letters.length; from += AT_ONCE) {
        const words = ["XDEL", key, ...letters.slice(from, from + AT_ONCE)];
        removed += numberOf(await port.repeating(key).command(words));
      }
      return removed;
    },

    async purge(olderThanMs) {
      port.assertOpen();
      for (let removed = 0; ; ) {
        const [freed, more] = listOf(await purge.run(port.repeating(key), [key], [String(olderThanMs)])).map(numberOf);
        removed += freed ?? 0;
        if (more !== 1) return removed;
      }
    },
  };
}

/** What no letter has as its id is no reason to fail. */
function isId(text: string): boolean {
  return /^\d{1,19}-\d{1,19}$/.test(text);
}

function toLetter(entry: Reply, positionOf: (stored: string) => string): DeadLetter {
  const [id, flat] = listOf(entry);
  const fields = fieldsOf(flat);
  const at = Number(textOf(id).split("-")[0]);
  const firstFailedAt = fields.get("f");
  return {
    id: textOf(id),
    position: positionOf(textOf(fields.get("p"))),
    ...fromBlob(bufferOf(fields.get("m"))),
    attempts: numberOf(fields.get("a")),
    consumer: textOf(fields.get("c")),
    // As the scripts or `JSON.stringify` wrote it.
    reason: JSON.parse(textOf(fields.get("r"))) as DeadReason,
    // Not written where the first attempt was the last.
    firstFailedAt: firstFailedAt === undefined ? at : numberOf(firstFailedAt),
    at,
  };
}
