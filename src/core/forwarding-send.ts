/** Storing what one log holds in another: verbatim, once by id, also where it may have been sent before. */

import type { Delivery, Log, NewEntry, Retention } from "./backend.js";
import type { Clock } from "./clock.js";
import { ConnectionError, LimitError, OutOfMemoryError } from "./errors.js";
import { fingerprint, findStored, type Identity, identityOf } from "./stored.js";

export interface SenderOptions {
  readonly source: Pick<Log, "read">;
  readonly target: Pick<Log, "append" | "read">;
  /** Of this name in both. */
  readonly stream: string;
  /** Of the target's stream, unless something else is stored there. */
  readonly retention: Retention;
  readonly clock: Clock;
  /** Reads what a source may add to its headers. Default: nothing is added, and nothing is in doubt. */
  readonly unmark?: Unmark;
}

/** Takes the mark off a header: one that is in doubt may stand in the target since about when the source stored it. */
export type Unmark = (header: string) => { readonly header: string; readonly inDoubt: boolean };

/** Clocks of two stores may differ by this much, and a store may take this long to decide on what it was sent. */
const SLACK_MS = 60_000;

interface Sending extends Identity {
  readonly entry: NewEntry;
  readonly position: string;
  readonly inDoubt: boolean;
}

export class Sender {
  readonly #options: SenderOptions;
  /** Since when what is sent now may have been stored, by whichever process; undefined: it was never sent. */
  #doubtfulSince: number | undefined;
  /** What is being sent, in order. */
  #batch: readonly Sending[] = [];
  /** Ids of the batch that were found in the target; undefined while they have to be looked for. */
  #found: ReadonlySet<string> | undefined;

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  /** What is sent next may have been sent before, at this time or later (ms since the epoch). */
  doubt(since: number): void {
    this.#doubtfulSince = Math.min(since, this.#doubtfulSince ?? since);
    this.#found = undefined;
  }

  /** What comes behind the batch was never sent before. */
  trust(): void {
    this.#doubtfulSince = undefined;
  }

  /** Takes the next batch, whose parts are then sent. */
  begin(deliveries: readonly Delivery[]): void {
    this.#batch = deliveries.map((delivery) => this.#prepare(delivery));
    this.#found = undefined;
  }

  /**
   * Stores a part of the batch, in order, all or nothing. The target's memory of ids ends after some minutes, so that
   * what is in doubt is looked for in its stream as well.
   *
   * @returns how many stood there already
   * @throws whatever the target throws; the same may then be sent again
   */
  async send(part: readonly Delivery[]): Promise<number> {
    const { target, stream, retention, clock } = this.#options;
    const found = (this.#found ??= await this.#findDoubtful());
    const positions = new Set(part.map(({ position }) => position));
    const missing = this.#batch.filter(
      ({ position, id }) => positions.has(position) && (id === undefined || !found.has(id)),
    );
    if (missing.length === 0) return part.length;
    const startedAt = clock.now();
    try {
      const entries = missing.map(({ entry }) => entry);
      const appended = await target.append(stream, entries, retention);
      return part.length - appended.filter(({ duplicate }) => !duplicate).length;
    } catch (error) {
      if (!isRefusal(error)) this.doubt(startedAt);
      throw error;
    }
  }

  #prepare({ position, header: stored, data }: Delivery): Sending {
    const { header, inDoubt } = this.#options.unmark?.(stored) ?? { header: stored, inDoubt: false };
    const { id, key } = identityOf(header);
    const dedupeId = id ?? fingerprint(this.#options.stream, position, header, data);
    return { id, key, position, inDoubt, entry: { header, data, dedupeId, ...(key !== undefined && { key }) } };
  }

  /** The ids that stand in the target already, of those that may. */
  async #findDoubtful(): Promise<ReadonlySet<string>> {
    const { target, stream } = this.#options;
    const marked = this.#batch.filter(({ inDoubt }) => inDoubt);
    const found = await this.#findMarked(marked);
    if (this.#doubtfulSince === undefined) return found;
    const since = this.#doubtfulSince - SLACK_MS;
    return new Set([...found, ...(await findStored(target, stream, idsOf(this.#batch), since))]);
  }

  async #findMarked(marked: readonly Sending[]): Promise<ReadonlySet<string>> {
    const { source, target, stream } = this.#options;
    const [first] = marked;
    if (first === undefined) return new Set();
    const { position } = first;
    const [entry] = await source.read(stream, { from: position, until: position, max: 1 });
    // Trimmed beneath us: then nothing says when it was stored.
    return entry === undefined ? new Set() : findStored(target, stream, idsOf(marked), entry.at - SLACK_MS);
  }
}

function idsOf(sending: readonly Sending[]): ReadonlySet<string> {
  return new Set(sending.flatMap(({ id }) => (id === undefined ? [] : [id])));
}

/** Whether nothing was stored for certain. */
function isRefusal(error: unknown): boolean {
  if (error instanceof ConnectionError) return !error.interrupted;
  return error instanceof LimitError || error instanceof OutOfMemoryError;
}
