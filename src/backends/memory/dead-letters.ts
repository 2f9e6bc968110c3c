/** Reads parked messages, for groups and inboxes alike. */

import type { DeadLetter, DeadLetters } from "../../core/backend.js";
import type { Session } from "./session.js";

/** @param letters the present letters, oldest first; their ids are growing numbers */
export function createDeadLetters(session: Session, letters: () => readonly DeadLetter[]): DeadLetters {
  return {
    async list({ max, cursor }) {
      session.assertOpen();
      const after = cursor === undefined ? 0 : Number(cursor);
      const rest = letters().filter(({ id }) => Number(id) > after);
      const page = rest.slice(0, max);
      const last = page.at(-1);
      return rest.length > page.length && last !== undefined ? { letters: page, cursor: last.id } : { letters: page };
    },
  };
}
