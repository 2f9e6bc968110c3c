/** Reads parked messages, for groups and inboxes alike. */

import type { DeadLetter, DeadLetters } from "../../core/backend.js";
import type { Session } from "./session.js";
import { toBytes } from "./stored.js";
import type { BuriedWork } from "./worklist.js";

/** @param letters the present letters, oldest first */
export function createDeadLetters(session: Session, letters: () => readonly BuriedWork[]): DeadLetters {
  return {
    async list({ max, cursor }) {
      session.assertOpen();
      const after = cursor === undefined ? 0 : Number(cursor);
      const rest = letters().filter(({ number }) => number > after);
      const page = rest.slice(0, max);
      const last = page.at(-1);
      const read = { letters: page.map(toLetter) };
      return rest.length > page.length && last !== undefined ? { ...read, cursor: String(last.number) } : read;
    },
  };
}

function toLetter({ number, work, consumer, reason, at }: BuriedWork): DeadLetter {
  const { position, header, data, attempts } = work;
  return { id: String(number), position, header, data: toBytes(data), attempts, consumer, reason, at };
}
