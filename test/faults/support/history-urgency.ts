/**
 * Priority, proven from outside: a message may be handed out only when nothing more urgent waits, and nothing older of
 * the same priority. Nobody sees what the store looked like; but when a take begins after one message was waiting for
 * sure, ends before that is asked for by whoever gets it, and brings another, then that one was preferred.
 */

/** One handing-out. */
export interface HandedOut {
  readonly p: number;
  readonly n: number;
  readonly priority: number;
  /** When it was published. */
  readonly invokedAt: number;
  /** Of the take. */
  readonly from: number;
  readonly until: number;
}

/** A message that is handed out now. */
export interface Waited {
  readonly priority: number;
  /** By when it was stored. */
  readonly storedAt: number;
  /** Since when it was waiting for sure. */
  readonly since: number;
  /** When the take began that has brought it. */
  readonly from: number;
}

/** What is remembered of each priority; and of that, how much is looked at. */
const KEPT = 1_024;
const LOOKED_AT = 64;

export class Urgency {
  /** Messages that had to wait while others were handed out: those by which it would have shown. */
  compared = 0;
  /** By priority, as they came. */
  readonly #handedOut = new Map<number, HandedOut[]>();

  note(handedOut: HandedOut): void {
    const { priority } = handedOut;
    const level = this.#handedOut.get(priority);
    if (level === undefined) this.#handedOut.set(priority, [handedOut]);
    else if (level.push(handedOut) > 2 * KEPT) level.splice(0, KEPT);
  }

  /** What was handed out in its place, if anything. */
  preferredTo(waited: Waited): HandedOut | undefined {
    let hasWaited = false;
    for (const [priority, level] of this.#handedOut) {
      const meanwhile = handedOutWhile(level, waited);
      hasWaited ||= meanwhile.length > 0;
      const found = meanwhile.find((other) => priority < waited.priority || other.invokedAt > waited.storedAt);
      if (priority <= waited.priority && found !== undefined) return found;
    }
    if (hasWaited) this.compared += 1;
    return undefined;
  }
}

/** Of the latest of one priority, those of a take that began when it was waiting, and ended before its own began. */
function handedOutWhile(level: readonly HandedOut[], { since, from }: Waited): readonly HandedOut[] {
  const found: HandedOut[] = [];
  let left = LOOKED_AT;
  for (let index = level.length - 1; index >= 0 && left > 0; index -= 1) {
    const other = level[index];
    if (other === undefined || other.until > from) continue;
    left -= 1;
    if (other.from >= since) found.push(other);
  }
  return found;
}
