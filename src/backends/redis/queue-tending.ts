/** What is over in a queue by the clock alone, and what publishers have left to be handed out. */

import type { BackendContext } from "../../core/backend.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { Port } from "./port.js";
import type { KnownQueue } from "./queue-known.js";
import type { Recipients } from "./queue-recipients.js";
import { loadScript } from "./scripts.js";

const fanoutScript = loadScript("queue-fanout");
const tidyScript = loadScript("queue-tidy");

/** Recipients that have lapsed, and that one step forgets. */
const MAX_LAPSES = 20;
/** Steps in which somebody hands out what a dead publisher has left; a second later there may be more of them. */
const MAX_STEPS = 100;

/** The last number of an audience that got something, and the last there is. */
export type AudienceNumbers = readonly [after: string, upto: string];
const NO_NUMBERS: AudienceNumbers = ["0", "0"];

/** How far a push for an audience has come. */
export interface HandedOut {
  /** Recipients that have the items. */
  readonly count: number;
  /** What is to be gone on with; `""` when those are all. */
  readonly intent: string;
  readonly numbers: AudienceNumbers;
}

export interface Tending {
  /** Ends what has expired and nobody has found yet, and records that are too old. @returns whether any item was ended */
  endExpired(this: void, queue: KnownQueue): Promise<boolean>;
  /** The same, and forgets recipients that have lapsed. @returns whether there was any of either */
  tidy(this: void, queue: KnownQueue): Promise<boolean>;
  /** Hands the rest of a push out. @returns how many recipients it has had then */
  finish(this: void, queue: KnownQueue, handed: HandedOut): Promise<number>;
  /** Goes on with handing out what a publisher has left that is gone. */
  takeOver(this: void, queue: KnownQueue): Promise<void>;
  /** Does all that others have left undone. Never rejects: failures are reported. */
  lookAfter(this: void, queue: KnownQueue): Promise<void>;
}

export function createTending(
  port: Pick<Port, "repeating">,
  recipients: Pick<Recipients, "forgetLapsed">,
  context: BackendContext,
): Tending {
  const keysOf = ({ keys }: KnownQueue): readonly string[] => [keys.records, keys.state, keys.expiring, keys.none];

  async function tidy(queue: KnownQueue, maxLapses: number): Promise<boolean> {
    for (let isAny = false; ; ) {
      const connection = port.repeating(queue.keys.records);
      const [ended, more, ...lapsed] = listOf(await tidyScript.run(connection, keysOf(queue), [String(maxLapses)]));
      for (const recipient of lapsed) await recipients.forgetLapsed(queue, textOf(recipient), "some");
      isAny ||= numberOf(ended) > 0 || lapsed.length > 0;
      if (numberOf(more) === 0) return isAny;
    }
  }

  /** One step of handing out; of whatever was left alone, where `intent` is `""`. */
  async function handOut(queue: KnownQueue, intent: string, known: AudienceNumbers) {
    const connection = port.repeating(queue.keys.records);
    const reply = await fanoutScript.run(connection, keysOf(queue), [intent, ...known]);
    const [count, left, after = "0", upto = "0", name = ""] = listOf(reply).map(textOf);
    // Somebody else has finished it: all that were left then have it.
    if (Number(count) < 0) return { isOver: true, isAll: true, count: Number(left), name };
    return { isOver: false, isAll: left === "1", count: Number(count), numbers: [after, upto] as const, name };
  }

  async function takeOver(queue: KnownQueue): Promise<void> {
    let intent = "";
    for (let steps = 0; steps < MAX_STEPS; steps += 1) {
      const { isAll, name } = await handOut(queue, intent, NO_NUMBERS);
      if (isAll) return;
      intent = name;
    }
  }

  return {
    endExpired: (queue) => tidy(queue, 0),
    tidy: (queue) => tidy(queue, MAX_LAPSES),
    takeOver,

    async finish(queue, { count, intent, numbers }) {
      let [handed, known] = [count, numbers];
      for (let isAll = intent === ""; !isAll; ) {
        const step = await handOut(queue, intent, known);
        handed = step.isOver ? handed + step.count : step.count;
        known = step.numbers ?? known;
        isAll = step.isAll;
      }
      return handed;
    },

    async lookAfter(queue) {
      try {
        await tidy(queue, MAX_LAPSES);
        await takeOver(queue);
      } catch (error) {
        context.report(error, "looking after a queue");
      }
    },
  };
}
