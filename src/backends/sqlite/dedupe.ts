/** Where entries will stand that are appended, and which of them a stream holds already. */

import type { RememberedIds } from "./remembered-ids.js";
import type { BoundEntry, Stream } from "./streams.js";
import type { Tx } from "./writer.js";

/** Where an entry stands, or will stand. */
export interface Place {
  readonly number: number;
  readonly duplicate: boolean;
}

/** Where each entry will stand, and which are duplicates, of earlier ones or of each other. Writes nothing. */
export function placeEntries(
  ids: RememberedIds,
  tx: Tx,
  stream: Stream,
  entries: readonly BoundEntry[],
): readonly Place[] {
  const placed = new Map<string, number>();
  let last = stream.last;
  return entries.map(({ dedupeId }) => {
    const known = dedupeId === undefined ? undefined : (placed.get(dedupeId) ?? ids.find(tx, stream, dedupeId));
    if (known !== undefined) return { number: known, duplicate: true };
    last += 1;
    if (dedupeId !== undefined) placed.set(dedupeId, last);
    return { number: last, duplicate: false };
  });
}

/** Remembers the ids of entries that are stored. */
export function rememberEntries(
  ids: RememberedIds,
  tx: Tx,
  stream: Stream,
  entries: readonly BoundEntry[],
  places: readonly Place[],
): void {
  const added = entries.flatMap(({ dedupeId }, index) => {
    const place = places[index];
    return dedupeId === undefined || place === undefined || place.duplicate
      ? []
      : [{ id: dedupeId, number: place.number }];
  });
  ids.remember(tx, stream, added);
}
