/** The part of MessagePack that payloads may use, checked before anything is built of it. Source: github.com/msgpack/msgpack/blob/master/spec.md */

import { MAX_DEPTH, MAX_VALUES } from "../core/codec.js";
import { CodecError } from "../core/errors.js";

/**
 * Goes through a whole payload without making anything of it. So a few hostile bytes can neither ask for gigabytes nor
 * bring a class, a record or an endless nesting to the decoder behind it.
 *
 * @throws {CodecError} for what ends early or goes on behind its end, extension types, keys that are no text, nesting
 *   beyond 64 levels and more than a million values
 */
export function assertMsgpack(bytes: Uint8Array): void {
  const reader = new Reader(bytes);
  reader.value(0);
  if (reader.at !== bytes.length) throw refusal(`goes on behind its end, at byte ${reader.at}`);
}

class Reader {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #values = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  value(depth: number): void {
    this.#values += 1;
    if (this.#values > MAX_VALUES) throw refusal(`holds more than ${MAX_VALUES} values`);
    if (depth > MAX_DEPTH) throw refusal(`is deeper than ${MAX_DEPTH} levels`);
    const token = this.#length(1);
    if (token <= 0x7f || token >= 0xe0) return; // A small number.
    if (token <= 0x8f) this.#map(token & 0x0f, depth);
    else if (token <= 0x9f) this.#list(token & 0x0f, depth);
    else if (token <= 0xbf) this.#skip(token & 0x1f);
    else this.#long(token, depth);
  }

  #long(token: number, depth: number): void {
    switch (token) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return;
      case 0xc4: // bytes
      case 0xd9: // text
        return this.#skip(this.#length(1));
      case 0xc5:
      case 0xda:
        return this.#skip(this.#length(2));
      case 0xc6:
      case 0xdb:
        return this.#skip(this.#length(4));
      case 0xcc: // numbers of one byte
      case 0xd0:
        return this.#skip(1);
      case 0xcd:
      case 0xd1:
        return this.#skip(2);
      case 0xca:
      case 0xce:
      case 0xd2:
        return this.#skip(4);
      case 0xcb:
      case 0xcf:
      case 0xd3:
        return this.#skip(8);
      case 0xdc: // list
        return this.#list(this.#length(2), depth);
      case 0xdd:
        return this.#list(this.#length(4), depth);
      case 0xde: // map
        return this.#map(this.#length(2), depth);
      case 0xdf:
        return this.#map(this.#length(4), depth);
      default:
        throw refusal(`holds an extension type or an unused code (0x${token.toString(16)}) at byte ${this.at - 1}`);
    }
  }

  #list(count: number, depth: number): void {
    // Each takes a byte at least: a length that cannot be true ends here, not after a million steps.
    this.#assertLeft(count);
    for (let index = 0; index < count; index += 1) this.value(depth + 1);
  }

  #map(count: number, depth: number): void {
    this.#assertLeft(2 * count);
    for (let index = 0; index < count; index += 1) {
      this.#assertText();
      this.value(depth + 1);
      this.value(depth + 1);
    }
  }

  #assertText(): void {
    const token = this.#bytes[this.at];
    // Without one the bytes end early, which whoever reads it says.
    if (token === undefined || (token >= 0xa0 && token <= 0xbf) || (token >= 0xd9 && token <= 0xdb)) return;
    throw refusal(`has a key that is no text, at byte ${this.at}`);
  }

  /** Reads a whole number of that many bytes. */
  #length(bytes: 1 | 2 | 4): number {
    const { at } = this;
    this.#skip(bytes);
    if (bytes === 1) return this.#view.getUint8(at);
    return bytes === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #skip(bytes: number): void {
    this.#assertLeft(bytes);
    this.at += bytes;
  }

  #assertLeft(bytes: number): void {
    if (this.at + bytes > this.#bytes.length) throw refusal(`ends early: byte ${this.at} promises ${bytes} more`);
  }
}

function refusal(problem: string): CodecError {
  return new CodecError(`the payload is no MessagePack that is read here: it ${problem}`);
}
