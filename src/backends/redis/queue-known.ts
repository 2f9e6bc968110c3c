/** What a client knows of the queues that it uses: their keys, and what is kept of their items as it last heard. */

import { NO_RECORDS, type RecordSettings } from "../../core/backend.js";
import { queueKeys, type QueueKeys, type RecipientKeys } from "./keys.js";
import { byName } from "./port.js";

export interface KnownQueue {
  readonly name: string;
  readonly keys: QueueKeys;
  /** As the store has it, `""` where nothing is kept. A push that is wrong about it is refused, and told. */
  settings: string;
  /** Fields by which items are found, by what is in `settings`. */
  indexed: ReadonlySet<string> | undefined;
}

/** Finds a queue by its name, the same one each time. */
export function knownQueues(namespace: string): (queue: string) => KnownQueue {
  return byName((name) => ({ name, keys: queueKeys(namespace, name), settings: "", indexed: undefined }));
}

/** @param stored as the store has it */
export function learn(queue: KnownQueue, stored: string): RecordSettings {
  const settings = readSettings(stored);
  queue.settings = stored;
  queue.indexed = settings.index === undefined ? undefined : new Set(settings.index);
  return settings;
}

/** As settings are stored: nothing where nothing is kept. */
export function writeSettings({ keepAckedMs, maxRecords, index }: RecordSettings): string {
  const isNothing = keepAckedMs === 0 && maxRecords === 0 && index === undefined;
  return isNothing ? "" : JSON.stringify({ keepAckedMs, maxRecords, index });
}

function readSettings(stored: string): RecordSettings {
  if (stored === "") return NO_RECORDS;
  const { keepAckedMs, maxRecords, index } = JSON.parse(stored) as RecordSettings; // As `writeSettings` wrote it.
  return { keepAckedMs, maxRecords, index };
}

/** The keys that scripts about one recipient begin with. */
export function inboxKeys(keys: QueueKeys, own: RecipientKeys): readonly string[] {
  const { waiting, leased, due, attempts, expiry, counters } = own;
  return [keys.records, keys.state, keys.expiring, keys.none, waiting, leased, due, attempts, expiry, counters];
}
