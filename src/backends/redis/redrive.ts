/** Dead letters of a group and of a recipient: where they are kept, and the scripts that put them back. */

import type { DeadLetters, NewLetter } from "../../core/backend.js";
import { toBlob } from "./blob.js";
import type { Arg } from "./connection.js";
import { createDeadLetters, type Redriven } from "./dead-letters.js";
import { encodeName, fromStoredId, type LogKeys, type QueueKeys } from "./keys.js";
import type { Port } from "./port.js";
import { loadScript } from "./scripts.js";

const logRedrive = loadScript("log-redrive");
const queueRedrive = loadScript("queue-redrive");

export function logLetters(port: Port, keys: LogKeys, group: string): DeadLetters {
  const { dead } = keys.group(group);
  const scriptKeys = [keys.stream, dead, keys.limits, keys.publisher(port.publisherId)];
  return createDeadLetters(port, {
    key: dead,
    positionOf: (stored) => stored,
    async redrive(ids) {
      const reply = await port.publish(logRedrive, scriptKeys, [group, ...ids]);
      const [looked = 0, moved = 0] = reply.split(" ").map(Number);
      return { looked, moved };
    },
  });
}

/** The command that adds a letter, with the fields that the scripts give it. */
export function parkArgs(dead: string, letter: NewLetter, max: number): readonly Arg[] {
  const { position, header, data, attempts, consumer, reason } = letter;
  const about = ["p", position, "a", String(attempts), "c", consumer, "r", JSON.stringify(reason)];
  return ["XADD", dead, "MAXLEN", "=", String(max), "*", ...about, "m", toBlob(header, data)];
}

/** @param endExpired ends what has expired in the queue unnoticed, and resolves with whether there was any */
export function queueLetters(
  port: Port,
  keys: QueueKeys,
  recipient: string,
  endExpired: () => Promise<boolean>,
): DeadLetters {
  const { dead, waiting, leased, due, bell, attempts } = keys.recipient(recipient);
  const shared = [keys.records, keys.state, keys.none, keys.publisher(port.publisherId)];
  const scriptKeys = [...shared, dead, waiting, leased, due, bell, attempts];

  async function redrive(ids: readonly string[], mayBeExpired = true): Promise<Redriven> {
    const reply = await port.publish(queueRedrive, scriptKeys, [encodeName(recipient), ...ids]);
    const [looked = 0, moved = 0, held = 0] = reply.split(" ").map(Number);
    if (held === 0 || !mayBeExpired || !(await endExpired())) return { looked, moved };
    // The item that kept a letter back may have been one of those.
    const again = await redrive(ids.slice(0, looked), false);
    return { looked: again.looked, moved: moved + again.moved };
  }

  return createDeadLetters(port, { key: dead, positionOf: fromStoredId, redrive: (ids) => redrive(ids) });
}
