/** A stored item as its reader sees it. */

import type { ItemPage, OpenState, RecipientState, RecordState, StoredItem } from "../core/backend.js";
import { SchemaError } from "../core/errors.js";
import { createDecoder, type Decoding, Foreign, toMessage } from "../core/handler.js";
import type { Message } from "../core/message.js";
import { ANY_PAYLOAD } from "../core/payload.js";

/** A message of a queue that is unfinished, or kept as a record. Times are the store's (ms since the epoch). */
export interface QueuedMessage<T = unknown> {
  readonly id: string;
  /** The envelope with its data; undefined where the stored bytes cannot be decoded: then `raw` is what there is. */
  readonly message: Message<T> | undefined;
  /** What the contract makes of it, or as it was published where the contract refuses it. */
  readonly data: T | undefined;
  /** The payload as it is stored. */
  readonly raw: Uint8Array;
  readonly priority: number;
  /**
   * In what was asked of one recipient, how it stands with that one: `waiting`, `delayed` or `leased`. Otherwise `open`
   * where somebody has to finish it, else `dead` where somebody parked it, `expired` where it expired for somebody, or
   * `acked`.
   */
  readonly state: RecordState | OpenState;
  /** Those that have it to finish, and of kept records those that have finished it; at most 1,000. */
  readonly recipients: readonly RecipientState[];
  /** The most attempts that a recipient has begun. */
  readonly attempts: number;
  /** Every recipient has finished it, and all by acknowledging. */
  readonly acknowledged: boolean;
  readonly createdAt: number;
  /** When it was last put back for a retry, or finished by a recipient. */
  readonly updatedAt: number;
  readonly expiresAt: number | undefined;
}

export interface QueuePage<T = unknown> {
  /** May be fewer than asked for, also where there are more. */
  readonly items: readonly QueuedMessage<T>[];
  /** Pass it to go on; absent on the last page. */
  readonly cursor?: string;
}

/** Shows a stored item. Never rejects for what it holds. */
export type Viewer<T> = (item: StoredItem) => Promise<QueuedMessage<T>>;

export function createViewer<T>(decoding: Decoding): Viewer<T> {
  const read = createDecoder<T>(decoding);
  const readUnchecked = createDecoder<T>({ ...decoding, readerFor: () => ANY_PAYLOAD.read });
  const decode = async (stored: StoredItem & { readonly position: string }): Promise<Message<T> | undefined> => {
    let data: T | Foreign;
    try {
      data = await read(stored);
    } catch (error) {
      if (!(error instanceof SchemaError)) return undefined;
      data = await readUnchecked(stored);
    }
    return data instanceof Foreign ? undefined : toMessage(decoding.channel, stored, data);
  };
  return async (item) => {
    const { id, data: raw, priority, at, updatedAt, expiresAt, state, recipients } = item;
    const message = await decode({ ...item, position: id }).catch(() => undefined);
    return {
      id,
      message,
      data: message?.data,
      raw,
      priority,
      state,
      recipients,
      attempts: Math.max(0, ...recipients.map(({ attempts }) => attempts)),
      acknowledged: state === "acked",
      createdAt: at,
      updatedAt,
      expiresAt,
    };
  };
}

/** One after the other, since a schema may be asynchronous. */
export async function showPage<T>(page: ItemPage, show: Viewer<T>): Promise<QueuePage<T>> {
  const items: QueuedMessage<T>[] = [];
  for (const item of page.items) items.push(await show(item));
  return page.cursor === undefined ? { items } : { items, cursor: page.cursor };
}

/** The same of what was asked of one recipient. */
export function asSeenByOne<T>({ items, ...page }: QueuePage<T>): QueuePage<T> {
  return { ...page, items: items.map((item) => ({ ...item, state: openStateOf(item) })) };
}

function openStateOf({ recipients, state }: QueuedMessage): QueuedMessage["state"] {
  return recipients[0]?.state ?? state;
}
