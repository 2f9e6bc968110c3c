/** Which names of streams, groups, queues, channels and recipients are legal, and the one error for those that are not. */

import { InvalidArgumentError } from "./errors.js";

/** Longest name, in UTF-8 bytes after normalisation. */
export const MAX_NAME_BYTES = 200;

const CONTROL = /\p{Cc}/u;
/** Pattern and template characters: a name with one was meant as something else. */
const SPECIAL = /[*?[\]{}\\]/;

/**
 * Checks a name and returns it in Unicode's normal form C, so that two spellings of one name are one name.
 *
 * @param kind for the message: `stream`, `group`, `queue`, `channel`, `recipient` …
 * @throws {InvalidArgumentError}
 */
export function validName(kind: string, name: unknown): string {
  if (typeof name !== "string") {
    throw new InvalidArgumentError(`${kind} must be a string, not ${name === null ? "null" : typeof name}`);
  }
  const shown = JSON.stringify(name.slice(0, 64));
  if (name.trim() === "") throw new InvalidArgumentError(`${kind} ${shown} is empty: give it a name`);
  if (name !== name.trim())
    throw new InvalidArgumentError(`${kind} ${shown} begins or ends with white space: remove it`);
  if (CONTROL.test(name)) throw new InvalidArgumentError(`${kind} ${shown} holds a control character: remove it`);
  if (!name.isWellFormed())
    throw new InvalidArgumentError(`${kind} ${shown} holds half a surrogate pair: it is not valid text`);
  const special = SPECIAL.exec(name)?.[0];
  if (special !== undefined) {
    throw new InvalidArgumentError(
      `${kind} ${shown} holds "${special}", which stands for patterns and templates: names are exact`,
    );
  }
  const normal = name.normalize("NFC");
  const bytes = Buffer.byteLength(normal);
  if (bytes > MAX_NAME_BYTES) {
    throw new InvalidArgumentError(`${kind} ${shown}… is ${bytes} bytes long: at most ${MAX_NAME_BYTES} are allowed`);
  }
  return normal;
}

/** Keys, correlation ids and the like: any text of one line, within a limit. */
export function validText(kind: string, text: unknown, maxBytes: number = MAX_NAME_BYTES): string {
  if (typeof text !== "string" || text === "")
    throw new InvalidArgumentError(`${kind} must be a string that is not empty`);
  const shown = JSON.stringify(text.slice(0, 64));
  if (CONTROL.test(text) || !text.isWellFormed()) {
    throw new InvalidArgumentError(`${kind} ${shown} holds a control character or half a surrogate pair`);
  }
  if (Buffer.byteLength(text) > maxBytes)
    throw new InvalidArgumentError(`${kind} ${shown}… is longer than ${maxBytes} bytes`);
  return text;
}

/** More names than this and the cache starts anew: names should be few, but a caller may make them up. */
const MAX_CACHED = 10_000;

/** Remembers what was worked out for a name, so that a hot path checks each name once. */
export class NameCache<V> {
  readonly #values = new Map<string, V>();
  readonly #create: (name: string) => V;

  constructor(create: (name: string) => V) {
    this.#create = create;
  }

  get(name: string): V {
    let value = this.#values.get(name);
    if (value === undefined) {
      value = this.#create(name);
      if (this.#values.size >= MAX_CACHED) this.#values.clear();
      this.#values.set(name, value);
    }
    return value;
  }
}
