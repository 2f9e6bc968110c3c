/** Payload encryption as middleware: AES-256-GCM with keys that have names, so that they can be changed one after the other. */

import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomFillSync } from "node:crypto";
import type { PayloadPlace } from "./codecs.js";
import { CodecError, ConfigError } from "./errors.js";
import type { Middleware } from "./middleware.js";
import { type Checks, findProblems, isPlainObject, oneOf, show } from "./options.js";

export interface EncryptionOptions {
  /**
   * 32 random bytes each, by the id that travels with what they encrypt: 1 to 64 characters of letters, digits, `.`, `_`
   * and `-`. All of them decrypt.
   */
  readonly keys: Readonly<Record<string, Uint8Array>>;
  /** Id of the key that encrypts. */
  readonly current: string;
  /**
   * What becomes of messages that are not encrypted: `refuse`, the default, makes dead letters of them; `accept` is for the
   * time in which publishers are switched over.
   */
  readonly plain?: "refuse" | "accept";
}

const ALGORITHM = "aes-256-gcm";
const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** Of what follows: `[layout][length of the key's id][the id][iv][ciphertext][tag]`. */
const LAYOUT = 1;
const KEY_ID = /^[A-Za-z0-9._-]{1,64}$/;
/** No name, id or type holds it: the parts cannot be read as others. */
const SEPARATOR = "\u001f";

/**
 * Encrypts payloads with the current key and decrypts them with the key that they name. What is around a payload stays
 * readable. Bound to it are namespace, channel, type, id, target, request or answer, and content type: with others of these it
 * does not decrypt.
 *
 * What cannot be decrypted becomes a dead letter as it is, still encrypted.
 *
 * @throws {ConfigError} with every problem; never with a key in it
 */
export function encryption(options: EncryptionOptions): Middleware {
  const { keys, current, plain = "refuse" } = checked(options);
  const secrets = new Map(Object.entries(keys).map(([id, key]) => [id, createSecretKey(key)]));
  const currentKey = keyOf(secrets, current);
  const prefix = Buffer.concat([Buffer.from([LAYOUT, current.length]), Buffer.from(current, "latin1")]);
  return {
    name: "encryption",
    payload: {
      tag: "encrypted",
      untagged: plain,
      encode: (payload, place) => encrypt(payload, currentKey, prefix, place),
      decode(payload, place) {
        const { id, rest } = readPrefix(payload);
        return decrypt(rest, keyOf(secrets, id), payload.subarray(0, payload.length - rest.length), place);
      },
    },
  };
}

function encrypt(payload: Uint8Array, key: KeyObject, prefix: Uint8Array, place: PayloadPlace): Uint8Array {
  const iv = nextIv();
  const cipher = createCipheriv(ALGORITHM, key, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(boundTo(prefix, place));
  return Buffer.concat([prefix, iv, cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
}

function decrypt(bytes: Uint8Array, key: KeyObject, prefix: Uint8Array, place: PayloadPlace): Uint8Array {
  const tagAt = bytes.length - TAG_BYTES;
  const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(boundTo(prefix, place));
  decipher.setAuthTag(bytes.subarray(tagAt));
  const payload = decipher.update(bytes.subarray(IV_BYTES, tagAt));
  try {
    return Buffer.concat([payload, decipher.final()]);
  } catch (cause) {
    throw new CodecError(
      "the payload does not decrypt: it was changed, or moved to another namespace, channel, type, id, target or request",
      { cause },
    );
  }
}

/** @throws {CodecError} for what is too short, or of a layout that this version does not know */
function readPrefix(payload: Uint8Array): { readonly id: string; readonly rest: Uint8Array } {
  const end = 2 + (payload[1] ?? 0);
  if (payload[0] !== LAYOUT || payload.length < end + IV_BYTES + TAG_BYTES)
    throw new CodecError("the payload is tagged as encrypted, and is nothing that this version has encrypted");
  return { id: Buffer.from(payload.subarray(2, end)).toString("latin1"), rest: payload.subarray(end) };
}

function keyOf(secrets: ReadonlyMap<string, KeyObject>, id: string): KeyObject {
  const key = secrets.get(id);
  if (key === undefined)
    throw new CodecError(`no key ${show(id)}: add it to the keys of encryption, then redrive the dead letters`);
  return key;
}

function boundTo(prefix: Uint8Array, place: PayloadPlace): Uint8Array {
  const { namespace, channel, type, id, contentType, target, causationId, replyTo } = place;
  const parts = [namespace, channel, type, id, contentType];
  // A letter before each tells one from another where some are absent.
  if (target !== undefined) parts.push(`g${target}`);
  if (causationId !== undefined) parts.push(`a${causationId}`);
  if (replyTo !== undefined) parts.push(`r${replyTo}`);
  return Buffer.concat([prefix, Buffer.from(parts.join(SEPARATOR))]);
}

/** Random bytes are drawn for many messages at once: one draw costs as much as encrypting. */
const pool = new Uint8Array(IV_BYTES * 256);
let drawn: number = pool.length;

function nextIv(): Uint8Array {
  if (drawn === pool.length) {
    randomFillSync(pool);
    drawn = 0;
  }
  drawn += IV_BYTES;
  // A copy: the pool is filled anew, and the cipher may look later.
  return pool.slice(drawn - IV_BYTES, drawn);
}

const CHECKS: Checks<EncryptionOptions> = {
  keys: () => undefined, // Checked one by one.
  current: () => undefined,
  plain: oneOf("refuse", "accept"),
};

function checked(options: EncryptionOptions): EncryptionOptions {
  const problems = findProblems("encryption", options ?? null, CHECKS);
  if (problems.length === 0) problems.push(...findKeyProblems(options));
  if (problems.length > 0) throw new ConfigError(problems);
  return options;
}

function findKeyProblems({ keys, current }: EncryptionOptions): string[] {
  if (!isPlainObject(keys) || Object.keys(keys).length === 0)
    return ["encryption: keys must be a plain object that has a key of 32 bytes for each id"];
  const problems = Object.entries(keys).flatMap(([id, key]) => {
    if (!KEY_ID.test(id))
      return [`encryption: the key id ${show(id)} must be 1 to 64 letters, digits, ".", "_" or "-"`];
    if (key instanceof Uint8Array && key.length === KEY_BYTES) return [];
    const is = key instanceof Uint8Array ? `${key.length} bytes` : `a ${typeof key}`;
    return [`encryption: the key "${id}" must be a Uint8Array of ${KEY_BYTES} bytes, and is ${is}`];
  });
  if (typeof current !== "string" || !Object.hasOwn(keys, current))
    problems.push(`encryption: current must be the id of one of the keys, not ${show(current)}`);
  return problems;
}
