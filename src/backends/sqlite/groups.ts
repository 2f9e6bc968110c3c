/** The groups of a stream: how they are made, changed and removed. What their consumers take is in `group-source.ts`. */

import type { GroupChanges, GroupSettings, GroupStart } from "../../core/backend.js";
import { ConfigError, NotFoundError } from "../../core/errors.js";
import type { Deliveries } from "./deliveries.js";
import { groupTopic } from "./group-source.js";
import { type Reader, type Readers, settingsOf } from "./readers.js";
import { numberOf, type Stream, type Streams } from "./streams.js";
import type { Turns } from "./turns.js";
import type { Tx } from "./writer.js";

export class Groups {
  readonly #streams: Streams;
  readonly #readers: Readers;
  readonly #deliveries: Deliveries;
  readonly #turns: Turns;

  constructor(streams: Streams, readers: Readers, deliveries: Deliveries, turns: Turns) {
    this.#streams = streams;
    this.#readers = readers;
    this.#deliveries = deliveries;
    this.#turns = turns;
  }

  /** Makes the group where it does not exist. @returns the settings stored with it */
  create(tx: Tx, streamName: string, group: string, settings: GroupSettings): GroupSettings {
    const known = this.#get(tx, streamName, group);
    if (known !== undefined) return settingsOf(known.reader);
    const startOf = createStart(this.#streams, settings.from);
    const stream = this.#streams.getOrCreate(tx, streamName);
    const reader = this.#readers.insert(tx, "group", stream.id, group, JSON.stringify(settings));
    Object.assign(reader, startOf(stream), { changed: true });
    return settings;
  }

  /** The group's reader, as it was last committed. */
  find(streamName: string, group: string): number | undefined {
    const stream = this.#streams.find(streamName);
    return stream && this.#readers.find("group", stream.id, group);
  }

  /** @throws {NotFoundError} when there is no such group */
  existing(streamName: string, group: string): number {
    const reader = this.find(streamName, group);
    if (reader === undefined) throw noGroup(streamName, group);
    return reader;
  }

  /** As the transaction has it. @throws {NotFoundError} when there is no such group */
  reader(tx: Tx, streamName: string, group: string): Reader {
    return this.#existing(tx, streamName, group).reader;
  }

  /** @throws {NotFoundError | ConfigError} {@link Log.configureGroup} */
  configure(tx: Tx, streamName: string, group: string, changes: GroupChanges): GroupSettings {
    const { reader } = this.#existing(tx, streamName, group);
    const before = settingsOf(reader);
    // Consumers ask so what is stored, once a second: that is no reason to wake others.
    if (Object.keys(changes).length === 0) return before;
    const after: GroupSettings = { ...before, ...changes };
    if (after.order !== before.order && this.#isBusy(reader)) {
      throw new ConfigError([
        `the order of group "${group}" of stream "${streamName}" can change only while nothing is leased, waits for its retry ` +
          "or is held back: pause the group and let its consumers finish, or seek",
      ]);
    }
    this.#readers.saveSettings(reader, JSON.stringify(after));
    tx.changed(groupTopic(reader.id));
    return after;
  }

  /** @throws {NotFoundError} when there is no such group, or it is to stand at what is no position */
  seek(tx: Tx, streamName: string, group: string, to: GroupStart): void {
    const startOf = createStart(this.#streams, to);
    const { reader, stream } = this.#existing(tx, streamName, group);
    this.#deliveries.clear(reader);
    this.#turns.clear(reader);
    // The fence goes on, so that no receipt from before is ever valid again.
    Object.assign(reader, startOf(stream), { changed: true });
    tx.changed(groupTopic(reader.id));
  }

  /** @throws {NotFoundError} when there is no such group */
  pause(tx: Tx, streamName: string, group: string): void {
    const { reader } = this.#existing(tx, streamName, group);
    if (reader.paused) return;
    reader.paused = true;
    reader.changed = true;
  }

  /** @throws {NotFoundError} when there is no such group */
  resume(tx: Tx, streamName: string, group: string): void {
    const { reader } = this.#existing(tx, streamName, group);
    if (!reader.paused) return;
    reader.paused = false;
    reader.changed = true;
    tx.changed(groupTopic(reader.id));
  }

  /** @returns whether there was one */
  remove(tx: Tx, streamName: string, group: string): boolean {
    const known = this.#get(tx, streamName, group);
    if (known === undefined) return false;
    const { reader } = known;
    this.#deliveries.clear(reader);
    this.#turns.clear(reader);
    // Entries that were redriven for it stay: they are for nobody now, and go when the stream is trimmed.
    this.#readers.remove(tx, reader);
    tx.changed(groupTopic(reader.id));
    return true;
  }

  /** Puts a dead letter's message back, for its group alone. */
  putBack(tx: Tx, streamName: string, reader: Reader, letter: number): boolean {
    const stream = this.#streams.get(tx, streamName);
    if (stream === undefined) return false;
    this.#streams.appendLetter(stream, letter, reader, tx.now);
    tx.changed(groupTopic(reader.id));
    return true;
  }

  #get(tx: Tx, streamName: string, group: string): { reader: Reader; stream: Stream } | undefined {
    const stream = this.#streams.get(tx, streamName);
    const id = stream && this.#readers.find("group", stream.id, group);
    const reader = id === undefined ? undefined : this.#readers.get(tx, id);
    return stream && reader && { reader, stream };
  }

  #existing(tx: Tx, streamName: string, group: string): { reader: Reader; stream: Stream } {
    const known = this.#get(tx, streamName, group);
    if (known === undefined) throw noGroup(streamName, group);
    return known;
  }

  #isBusy(reader: Reader): boolean {
    return this.#deliveries.anyLeased(reader) || this.#deliveries.anyParked(reader) || this.#turns.any(reader);
  }
}

function noGroup(stream: string, group: string): NotFoundError {
  return new NotFoundError(`stream "${stream}" has no group "${group}": create it first`);
}

/**
 * Where a group's cursor is to stand, once the stream is known.
 *
 * @throws {NotFoundError} when that is no position
 */
function createStart(streams: Streams, from: GroupStart): (stream: Stream) => Pick<Reader, "cursor" | "notBefore"> {
  if (from === "beginning") return ({ first }) => ({ cursor: first - 1, notBefore: 0 });
  if (from === "new") return ({ last }) => ({ cursor: last, notBefore: 0 });
  if ("time" in from) {
    return (stream) => {
      const start = streams.firstAt(stream, stream.first, from.time);
      return { cursor: start - 1, notBefore: start > stream.last ? from.time : 0 };
    };
  }
  const cursor = "after" in from ? numberOf(from.after) : numberOf(from.at) - 1;
  return ({ first, last }) => ({ cursor: Math.min(last, Math.max(first - 1, cursor)), notBefore: 0 });
}
