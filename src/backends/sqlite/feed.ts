/** Consuming: the same for the log and the queue. Knows how to wait, and nothing of what it waits for. */

import type { Feed, Outcome, Receipt, Taken, TakeRequest } from "../../core/backend.js";
import { ClosedError, OutOfMemoryError } from "../../core/errors.js";
import type { Timer } from "../../core/clock.js";
import type { Store } from "./store.js";
import type { Tx } from "./writer.js";

/** What a feed takes from: a consumer of a group, or of an inbox. */
export interface Source {
  /** What changes when there may be something to take: each of these. */
  readonly topics: readonly string[];
  /** For what happens in the background. */
  readonly name: string;
  take(tx: Tx, max: number, outcomes: readonly Outcome[]): Look;
  extend(tx: Tx, receipts: readonly Receipt[]): readonly Receipt[];
  /** Makes what the consumer holds available again, and wakes others. */
  giveBack(tx: Tx): void;
}

export interface Look {
  readonly taken: Taken;
  /** When something will be ready by the clock alone. */
  readonly readyAt: number;
}

/** However sure the wake-ups are, a waiting feed looks again after this long. */
const RECHECK_MS = 1_000;

const NOTHING: Taken = { deliveries: [], lost: [], gone: 0, expired: 0, poisoned: 0 };

/** @param onClose called once, when the feed closes */
export function createFeed(store: Store, source: Source, onClose: () => void): Feed {
  const { writer } = store;
  const waits = new Set<Wait>();
  let closing: Promise<void> | undefined;

  function assertOpen(): void {
    if (closing !== undefined) throw new ClosedError("the feed is closed");
    store.assertOpen();
  }

  async function giveBack(): Promise<void> {
    for (const wait of waits) wait.stop();
    onClose();
    try {
      await writer.run((tx) => source.giveBack(tx));
    } catch (error) {
      // Nothing is lost: the leases run out, and others take over then.
      store.report(error, `closing ${source.name}; its deliveries come back when their leases end`);
    }
  }

  return {
    async take(want, outcomes) {
      assertOpen();
      if (outcomes.length > 0 || want.max === 0 || want.waitMs <= 0 || want.signal?.aborted === true) {
        const { taken } = await look(store, source, want.max, outcomes, () => closing === undefined);
        return taken;
      }
      const wait = new Wait(store, source, want);
      waits.add(wait);
      return wait.taken.finally(() => waits.delete(wait));
    },
    async extend(receipts) {
      assertOpen();
      return writer.run((tx) => source.extend(tx, receipts));
    },
    close() {
      closing ??= giveBack();
      return closing;
    },
  };
}

/** Settles and takes what is there. @param mayTake asked when it is this call's turn, which may be some time later */
async function look(
  { writer }: Store,
  source: Source,
  max: number,
  outcomes: readonly Outcome[],
  mayTake: () => boolean,
): Promise<Look> {
  for (let most = max; ; most = Math.floor(most / 2)) {
    try {
      return await writer.run((tx) => source.take(tx, mayTake() ? most : 0, outcomes));
    } catch (error) {
      // A full disk may still have room to lease fewer, and acknowledging those makes room.
      if (!(error instanceof OutOfMemoryError) || most <= 1) throw error;
    }
  }
}

interface Settle {
  readonly resolve: (taken: Taken) => void;
  readonly reject: (error: unknown) => void;
}

/** A take that waits: looks again and again until there is something, the time is up, or it is stopped. */
class Wait {
  readonly taken: Promise<Taken>;
  readonly #store: Store;
  readonly #source: Source;
  readonly #want: TakeRequest;
  readonly #deadline: number;
  readonly #unlisten: readonly (() => void)[];
  #settle: Settle | undefined;
  #timer: Timer | undefined;
  #looking = false;
  #wokenMeanwhile = false;
  #stopped = false;

  constructor(store: Store, source: Source, want: TakeRequest) {
    this.#store = store;
    this.#source = source;
    this.#want = want;
    this.#deadline = store.clock.now() + want.waitMs;
    this.taken = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Listens before the first look, so that nothing falls between the two.
    this.#unlisten = source.topics.map((topic) => store.bell.listen(topic, this.#look));
    want.signal?.addEventListener("abort", this.stop);
    this.#look();
  }

  /** Nothing is taken from now on. */
  readonly stop = (): void => {
    this.#stopped = true;
    if (!this.#looking) this.#end()?.resolve(NOTHING);
  };

  /** Joins the running transaction where it is one that woke it, so that both are committed together. */
  readonly #look = (): void => {
    this.#wokenMeanwhile = this.#looking;
    if (this.#looking) return;
    this.#looking = true;
    this.#timer?.cancel();
    look(this.#store, this.#source, this.#want.max, [], () => !this.#stopped).then(this.#looked, (error: unknown) =>
      this.#end()?.reject(error),
    );
  };

  readonly #looked = ({ taken, readyAt }: Look): void => {
    const { clock } = this.#store;
    const now = clock.now();
    this.#looking = false;
    if (this.#stopped || now >= this.#deadline || !isEmpty(taken)) this.#end()?.resolve(taken);
    else if (this.#wokenMeanwhile) this.#look();
    else
      this.#timer = clock.setTimer(this.#look, Math.max(0, Math.min(this.#deadline, readyAt, now + RECHECK_MS) - now));
  };

  /** @returns how to settle the call; undefined when it is settled */
  #end(): Settle | undefined {
    this.#timer?.cancel();
    for (const unlisten of this.#unlisten) unlisten();
    this.#want.signal?.removeEventListener("abort", this.stop);
    const settle = this.#settle;
    this.#settle = undefined;
    return settle;
  }
}

function isEmpty({ deliveries, gone, expired, poisoned }: Taken): boolean {
  return deliveries.length === 0 && gone === 0 && expired === 0 && poisoned === 0;
}
