/** Reads parked messages, puts them back or forgets them, for groups and inboxes alike. */

import type { DeadLetter, DeadLetters } from "../../core/backend.js";
import type { Clock } from "../../core/clock.js";
import type { Session } from "./session.js";
import { toBytes } from "./stored.js";
import type { BuriedWork, Work } from "./worklist.js";

/** The dead letters of one group or recipient, as they are stored. */
export interface Cemetery<W extends Work> {
  /** By id, oldest first. */
  readonly dead: Map<string, BuriedWork<W>>;
  /** @returns whether the message could be put back */
  redrive(work: W): boolean;
}

/** @param find looked up at each call; undefined while there is no such group or recipient */
export function createDeadLetters<W extends Work>(
  session: Session,
  clock: Clock,
  find: () => Cemetery<W> | undefined,
): DeadLetters {
  /** Forgets those of the letters that `isOver`. @returns how many */
  function forget(ids: Iterable<string>, isOver: (letter: BuriedWork<W>, cemetery: Cemetery<W>) => boolean): number {
    session.assertOpen();
    const cemetery = find();
    let count = 0;
    for (const id of cemetery === undefined ? [] : ids) {
      const letter = cemetery?.dead.get(id);
      if (cemetery === undefined || letter === undefined || !isOver(letter, cemetery)) continue;
      cemetery.dead.delete(id);
      count += 1;
    }
    return count;
  }

  return {
    async list({ max, cursor }) {
      session.assertOpen();
      const after = cursor === undefined ? 0 : Number(cursor);
      const rest = [...(find()?.dead.values() ?? [])].filter(({ number }) => number > after);
      const page = rest.slice(0, max);
      const last = page.at(-1);
      const read = { letters: page.map(toLetter) };
      return rest.length > page.length && last !== undefined ? { ...read, cursor: String(last.number) } : read;
    },
    async get(id) {
      session.assertOpen();
      const letter = find()?.dead.get(id);
      return letter && toLetter(letter);
    },
    redrive: async (ids) => forget(ids, ({ work }, cemetery) => cemetery.redrive(work)),
    remove: async (ids) => forget(ids, () => true),
    async purge(olderThanMs) {
      const end = clock.now() - olderThanMs;
      return forget(find()?.dead.keys() ?? [], ({ at }) => at <= end);
    },
  };
}

function toLetter<W extends Work>({ number, work, consumer, reason, at }: BuriedWork<W>): DeadLetter {
  const { position, header, data, attempts, firstFailedAt = at } = work;
  return { id: String(number), position, header, data: toBytes(data), attempts, consumer, reason, firstFailedAt, at };
}
