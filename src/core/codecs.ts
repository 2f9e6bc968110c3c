/** The codecs that a broker knows, and what stands between them and the store: from payload to stored bytes and back. */

import type { Bytes } from "./backend.js";
import { bytesOf, textOf } from "./bytes.js";
import { BYTES_CONTENT, type Codec, decodeJson, jsonCodec } from "./codec.js";
import { CodecError, toError } from "./errors.js";
import { type HeaderFields, type HeaderRead, JSON_CONTENT } from "./message.js";
import { anObjectWith, type Check, show } from "./options.js";

/** What is known of a payload besides its bytes: all of it is the same on the way back. */
export interface PayloadPlace {
  readonly namespace: string;
  readonly channel: string;
  readonly type: string;
  readonly id: string;
  /** Whom it is for, where it is for one. */
  readonly target?: string;
  /** What it is about: of an answer, the id of its request. */
  readonly causationId?: string;
  /** Of a request: the inbox for its answer. */
  readonly replyTo?: string;
  /** Of the bytes before `encode` and after `decode`: `json`, `bytes` or a codec's, behind the tags of earlier transforms. */
  readonly contentType: string;
}

/** A way to write payloads that can be undone. Synchronous, as codecs are. */
export interface PayloadTransform {
  /** Stands in front of the content type, so that readers know: `encrypted` makes `encrypted+json` of `json`. */
  readonly tag: string;
  /** What becomes of messages without the tag. */
  readonly untagged: "accept" | "refuse";
  encode(payload: Uint8Array, place: PayloadPlace): Uint8Array;
  /** @throws {CodecError} for what `encode` cannot have made: such a message becomes a dead letter as it is */
  decode(payload: Uint8Array, place: PayloadPlace): Uint8Array;
}

/** For options. */
export const aTransform: Check = (value) => {
  const problem = anObjectWith("encode", "decode")(value);
  if (problem !== undefined) return problem;
  const { tag, untagged } = value as { tag?: unknown; untagged?: unknown }; // An object: checked above.
  if (typeof tag !== "string" || !/^[a-z0-9.-]{1,16}$/.test(tag))
    return 'must have a tag of 1 to 16 characters of a-z, 0-9, "." and "-"';
  return untagged === "accept" || untagged === "refuse" ? undefined : 'must have untagged: "accept" or "refuse"';
};

/** Where a message is, as a transform is told. */
type Place = Pick<HeaderFields, "id" | "type" | "channel" | "target" | "causationId" | "replyTo">;

export interface CodecsOptions {
  readonly namespace: string;
  /** Besides JSON, which is always understood. */
  readonly codec: Codec;
  /** The first is applied first. */
  readonly transforms: readonly PayloadTransform[];
}

/** One for all that a broker publishes and receives. */
export class Codecs {
  /** Whether anything stands between the codec and the store. */
  readonly isTransforming: boolean;
  readonly #namespace: string;
  readonly #known: ReadonlyMap<string, Codec>;
  readonly #transforms: readonly PayloadTransform[];
  readonly #required: readonly PayloadTransform[];

  constructor({ namespace, codec, transforms }: CodecsOptions) {
    this.isTransforming = transforms.length > 0;
    this.#namespace = namespace;
    this.#known = new Map([jsonCodec, codec].map((known) => [known.contentType, known]));
    this.#transforms = transforms;
    this.#required = transforms.filter(({ untagged }) => untagged === "refuse");
  }

  /**
   * Applies the transforms to what a codec has made.
   *
   * @throws {CodecError}
   */
  transform(
    data: Bytes,
    contentType: string,
    place: Place,
  ): { readonly data: Uint8Array; readonly contentType: string } {
    let bytes = bytesOf(data);
    let content = contentType;
    for (const transform of this.#transforms) {
      bytes = run(transform, "encode", bytes, this.#placeOf(place, content));
      content = `${transform.tag}+${content}`;
    }
    return { data: bytes, contentType: content };
  }

  /**
   * Reads what is stored.
   *
   * @param envelope undefined for a bare header, which says that it is JSON and nothing else
   * @throws {CodecError}
   */
  decode(data: Bytes, envelope: HeaderRead | undefined): unknown {
    if (this.isTransforming) return this.#restore(bytesOf(data), envelope);
    const contentType = envelope === undefined ? JSON_CONTENT : envelope.contentType;
    return this.#decodeAs(contentType, data);
  }

  #restore(data: Uint8Array, envelope: HeaderRead | undefined): unknown {
    let bytes = data;
    let content = envelope?.contentType ?? JSON_CONTENT;
    const left = new Set(this.#transforms);
    for (;;) {
      const next = [...left].find(({ tag }) => content.startsWith(`${tag}+`));
      if (next === undefined || envelope === undefined) break;
      // Each once: a long row of tags is nobody's to work through.
      left.delete(next);
      content = content.slice(next.tag.length + 1);
      bytes = run(next, "decode", bytes, this.#placeOf(envelope, content));
    }
    const missing = this.#required.find((transform) => left.has(transform));
    if (missing !== undefined)
      throw new CodecError(
        `the payload is ${show(content)}, without "${missing.tag}+" before it: what is so is refused`,
      );
    return this.#decodeAs(content, bytes);
  }

  #decodeAs(contentType: string, data: Bytes): unknown {
    if (contentType === BYTES_CONTENT) return bytesOf(data);
    const codec = this.#known.get(contentType);
    if (codec === undefined) {
      throw new CodecError(
        `no codec for ${show(contentType)}: pass the codec or the middleware it was published with to connect`,
      );
    }
    return codec === jsonCodec ? decodeJson(textOf(data)) : codec.decode(bytesOf(data));
  }

  #placeOf({ id, type, channel, target, causationId, replyTo }: Place, contentType: string): PayloadPlace {
    return {
      namespace: this.#namespace,
      channel,
      type,
      id,
      ...(target !== undefined && { target }),
      ...(causationId !== undefined && { causationId }),
      ...(replyTo !== undefined && { replyTo }),
      contentType,
    };
  }
}

/** Whatever a transform throws, the message is what cannot be read or written: trying again would not help. */
function run(
  transform: PayloadTransform,
  way: "encode" | "decode",
  bytes: Uint8Array,
  place: PayloadPlace,
): Uint8Array {
  try {
    return transform[way](bytes, place);
  } catch (cause) {
    if (cause instanceof CodecError) throw cause;
    throw new CodecError(`"${transform.tag}" could not ${way} the payload: ${toError(cause).message}`, { cause });
  }
}
