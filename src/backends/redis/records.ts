/** What stands in front of a queued item's header, so that its tickets can be made of it: `lua/lib/record.lua` says how. */

import type { Bytes } from "../../core/backend.js";
import { bufferOf, fromBlob, toBlob } from "./blob.js";
import type { Arg, Reply } from "./connection.js";

/** The place of an item within its push has three digits to this base. */
const BASE = 36;
/** Items that one push may have. */
export const MAX_PLACES: number = BASE ** 3;
/** Places in line that are given in a millisecond: `lua/lib/line.lua`. */
const LINES_PER_MS = 16;
/** Whom an item is for that several recipients may have. No encoded name is like it. */
const SEVERAL = "*";

/** Two bytes for the place in a push times this plus the priority, where both are small and the recipient is the shared one. */
const FEW_PRIORITIES = 16;
const FEW_PLACES = 1_024;
/** Two bytes that no such item has: the rest is spelled out. */
const SPELLED_OUT = "\x7f\x7f";

/** The first byte of a record that expires, in front of when it does. */
const EXPIRES = 1;
/** Bytes of the place in line. The first of them is in this range, like that of no text. */
const LINE_BYTES = 6;
const LINE_FROM = 0x80;
const LINE_TO = 0xbf;
const LINE_FEED = 10;

function digitsOf(index: number): string {
  return index.toString(BASE).padStart(3, "0");
}

/** Those of the first places, ready-made: as many as a facade sends at a time. */
const DIGITS: readonly string[] = Array.from({ length: 256 }, (_, index) => digitsOf(index));

/** A place within a batch, as text that sorts. */
export function placeDigits(index: number): string {
  return DIGITS[index] ?? digitsOf(index);
}

/** A ticket without its place in line, its expiry and its id. */
export function ticketTail(index: number, priority: number): string {
  return `${placeDigits(index)}|${priority}|`;
}

/**
 * A new item's record without its place in line and its expiry, which scripts put in front.
 *
 * @param index its place in the push
 * @param recipient as in keys; undefined where several may have it
 */
export function toRecord(
  { header, data, priority }: { readonly header: string; readonly data: Bytes; readonly priority: number },
  index: number,
  recipient: string | undefined,
): Arg {
  if (recipient === "" && index < FEW_PLACES && priority >= 0 && priority < FEW_PRIORITIES - 1) {
    const place = index * FEW_PRIORITIES + priority;
    return toBlob(String.fromCharCode(place >> 7, place & 127) + header, data);
  }
  return toBlob(`${SPELLED_OUT}${ticketTail(index, priority)}${recipient ?? SEVERAL}\n${header}`, data);
}

/** Where the line begins in a record; -1 in one of an earlier build, which has none. */
function lineStart(record: Buffer): number {
  let at = 0;
  if (record[0] === EXPIRES) {
    at = 1;
    while (at < record.length && (record[at] ?? 0) < LINE_FROM) at += 1;
  }
  const first = record[at] ?? 0;
  return first >= LINE_FROM && first <= LINE_TO ? at : -1;
}

function isSpelledOut(record: Buffer, at: number): boolean {
  return record[at] === 127 && record[at + 1] === 127;
}

/** The message in a record; its data is a view, not a copy. */
export function messageOf(reply: Reply | undefined): { readonly header: string; readonly data: Uint8Array } {
  const record = bufferOf(reply);
  const line = lineStart(record);
  if (line < 0) return fromBlob(record);
  const item = line + LINE_BYTES;
  return fromBlob(record.subarray(isSpelledOut(record, item) ? record.indexOf(LINE_FEED, item) + 1 : item + 2));
}

/** What a record tells besides its message. */
export interface RecordStart {
  /** As tickets have it. */
  readonly place: string;
  readonly at: number;
  readonly expiresAt: number | undefined;
  readonly priority: number;
  /** As in keys; undefined where several may have it. */
  readonly recipient: string | undefined;
}

/** Undefined for a record of an earlier build. */
export function startOf(reply: Reply | undefined): RecordStart | undefined {
  const record = bufferOf(reply);
  const from = lineStart(record);
  if (from < 0) return undefined;
  const line = record.readUIntBE(from, LINE_BYTES) - LINE_FROM * 2 ** 40;
  const item = from + LINE_BYTES;
  const common = { at: Math.floor(line / LINES_PER_MS), expiresAt: from === 0 ? undefined : numberIn(record, 1, from) };
  const place = line.toString(BASE).padStart(9, "0");
  if (!isSpelledOut(record, item)) {
    const number = (record[item] ?? 0) * 128 + (record[item + 1] ?? 0);
    const digits = digitsOf(Math.floor(number / FEW_PRIORITIES));
    return { ...common, place: place + digits, priority: number % FEW_PRIORITIES, recipient: "" };
  }
  const text = record.toString("latin1", item + 2, record.indexOf(LINE_FEED, item));
  const [digits = "", priority = "", whom = ""] = text.split("|");
  const [recipient = "", at] = whom.split("@");
  return {
    ...common,
    ...(at !== undefined && { at: Number(at) }),
    place: place + digits,
    priority: Number(priority),
    recipient: recipient === SEVERAL ? undefined : recipient,
  };
}

function numberIn(record: Buffer, start: number, end: number): number {
  return Number(record.toString("latin1", start, end));
}

/** What a ticket tells by itself. */
export interface Ticket {
  readonly place: string;
  /** Of those that earlier builds made, 0: their places do not tell. */
  readonly at: number;
  readonly expiresAt: number | undefined;
  readonly priority: number;
  /** As it is stored. */
  readonly id: string;
}

/** Characters of a ticket's place in line. */
const PLACE = 12;

/** The end of `<place><expiry>|<priority>|<id>`. */
export function idOf(ticket: string): string {
  return ticket.slice(ticket.indexOf("|", ticket.indexOf("|", PLACE) + 1) + 1);
}

export function readTicket(ticket: string): Ticket {
  const [head = "", priority = ""] = ticket.split("|", 2);
  const place = head.slice(0, PLACE);
  const expiry = head.slice(PLACE).replace("*", "");
  const at = Math.floor(Number.parseInt(place.slice(0, 9), BASE) / LINES_PER_MS);
  return {
    place,
    at: at < 1_000_000_000_000 ? 0 : at,
    expiresAt: expiry === "" ? undefined : Number(expiry),
    priority: Number(priority),
    id: idOf(ticket),
  };
}

/** The tickets by which recipients may have an item of several: one that was put back does not expire any more. */
export function ticketsOf({ place, expiresAt, priority }: RecordStart, storedId: string): readonly string[] {
  const tail = `|${priority}|${storedId}`;
  const plain = `${place}${SEVERAL}${tail}`;
  return expiresAt === undefined ? [plain] : [`${place}${SEVERAL}${expiresAt}${tail}`, plain];
}

/** A recipient as scripts are told of it. */
export function audienceName(audience: "registered" | "online"): string {
  return `${SEVERAL}${audience}`;
}
