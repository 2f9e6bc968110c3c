/** Dead letters of pub/sub: a bounded stream `{dead}.<template>` for each template, with the calls that a group's have. */

import type { DeadLetter as StoredLetter, DeadLetters, DeadReason, GroupSettings } from "../core/backend.js";
import {
  checkPurge,
  type DeadLetter,
  type LetterBox,
  PURGE_CHECKS,
  purgeDeadLetters,
  type PurgeOptions,
  readDeadLetter,
  readDeadLetters,
  REDRIVE_CHECKS,
  redriveDeadLetters,
  type RedriveOptions,
} from "../core/dead-letters.js";
import { DEFAULT_LEASE_MS, DEFAULT_MAX_DEAD_LETTERS } from "../core/consuming.js";
import { abortableCall } from "../core/lifecycle.js";
import { aSignal, type Check, type Checks, checkOptions, oneOf } from "../core/options.js";
import { ANY_PAYLOAD } from "../core/payload.js";
import type { Runtime } from "../core/runtime.js";
import { joined } from "./envelope.js";
import type { Arrival } from "./reception.js";

/** A parked message, with the channel it was published to. */
export interface ChannelDeadLetter<T = unknown> extends DeadLetter<T> {
  readonly channel: string;
}

export interface LetterOptions {
  /** Those of sharded channels. */
  readonly sharded?: true;
  readonly signal?: AbortSignal;
}

/** The calls about dead letters; each takes a name, template or pattern as it was subscribed to. */
export interface ChannelLetters<N extends string, T> {
  /** What was parked, oldest first. */
  deadLetters(channel: N, options?: LetterOptions): AsyncGenerator<ChannelDeadLetter<T>, void, undefined>;
  /** One dead letter, while it is kept. */
  inspect(channel: N, id: string, options?: LetterOptions): Promise<ChannelDeadLetter<T> | undefined>;
  /** Publishes dead letters again, to all who listen then. @returns how many */
  redrive(channel: N, options?: RedriveOptions & LetterOptions): Promise<number>;
  /** Forgets dead letters. @returns how many */
  purge(channel: N, options?: PurgeOptions & LetterOptions): Promise<number>;
}

export interface Graveyard {
  /** Keeps a message; where that fails it is reported. Never rejects. */
  bury(arrival: Arrival<unknown>, reader: string, reason: DeadReason): Promise<void>;
}

/** The group whose dead letters they are; nobody reads it. */
const GROUP = "pubsub";
const SETTINGS: GroupSettings = {
  from: "new",
  leaseMs: DEFAULT_LEASE_MS,
  maxAttempts: 1,
  maxDeadLetters: DEFAULT_MAX_DEAD_LETTERS,
  order: "none",
  maxHeld: 1,
};
const SHARDED: Check = (value) => (value === true ? undefined : oneOf("true")(value));
const LETTER_CHECKS: Checks<LetterOptions> = { sharded: SHARDED, signal: aSignal };

/** A stream of its own, under a name that no user's stream can have. */
function streamOf(template: string, sharded: true | undefined): string {
  return sharded ? `{dead-sharded}.${template}` : `{dead}.${template}`;
}

export function createGraveyard(runtime: Runtime): Graveyard {
  const { log } = runtime.backend;
  return {
    async bury({ from, header, data, attempt }, reader, reason) {
      const { channel, hearing, sharded } = from;
      const stream = streamOf(hearing.template, sharded);
      try {
        await log.createGroup(stream, GROUP, SETTINGS);
        await log.park(stream, GROUP, [
          { position: channel, header, data, attempts: attempt, consumer: reader, reason },
        ]);
      } catch (error) {
        runtime.report(error, `keeping a dead letter of ${channel}`);
      }
    },
  };
}

/** @param templateOf what letters of a name, template or pattern stand under. @throws {InvalidArgumentError} */
export function letterCalls(
  runtime: Runtime,
  templateOf: (channel: string) => string,
): ChannelLetters<string, unknown> {
  const { log } = runtime.backend;

  function boxOf(channel: string, options: LetterOptions | undefined): LetterBox<object> & { readonly stream: string } {
    const stream = streamOf(templateOf(channel), options?.sharded);
    return {
      stream,
      letters: republishing(runtime, log.deadLetters(stream, GROUP), options?.sharded),
      decoding: { channel, codecs: runtime.codecs, readerFor: () => ANY_PAYLOAD.read, isForOthers: undefined },
      channelOf,
      place: {},
    };
  }

  return {
    async *deadLetters(channel, options) {
      checkOptions("pubsub.deadLetters", options, LETTER_CHECKS);
      for await (const letter of readDeadLetters<unknown, object>(boxOf(channel, options), options?.signal))
        yield withChannel(letter);
    },
    async inspect(channel, id, options) {
      checkOptions("pubsub.inspect", options, LETTER_CHECKS);
      const letter = await readDeadLetter<unknown, object>(boxOf(channel, options), id, options?.signal);
      return letter && withChannel(letter);
    },
    async redrive(channel, options = {}) {
      checkOptions("pubsub.redrive", options, { ...LETTER_CHECKS, ...REDRIVE_CHECKS });
      const { stream, letters } = boxOf(channel, options);
      const { groups } = await abortableCall(() => log.stats(stream), options.signal);
      return await redriveDeadLetters(letters, options, groups[0]?.dead ?? 0);
    },
    async purge(channel, options = {}) {
      checkPurge("pubsub.purge", options, { ...LETTER_CHECKS, ...PURGE_CHECKS });
      return await purgeDeadLetters(boxOf(channel, options).letters, options);
    },
  };
}

/** Redriving is publishing again: whoever listens then hears it. */
function republishing({ backend }: Runtime, letters: DeadLetters, sharded: true | undefined): DeadLetters {
  return {
    ...letters,
    async redrive(ids) {
      let count = 0;
      for (const id of ids) {
        const letter = await letters.get(id);
        if (letter === undefined) continue;
        const message = { channel: channelOf(letter), data: joined(letter.header, letter.data) };
        await backend.broadcast.publish([sharded ? { ...message, sharded } : message]);
        count += await letters.remove([id]);
      }
      return count;
    },
  };
}

/** Where a letter of pub/sub stood. */
function channelOf({ position }: Pick<StoredLetter, "position">): string {
  return position;
}

function withChannel<T>(letter: DeadLetter<T>): ChannelDeadLetter<T> {
  return { ...letter, channel: channelOf(letter) };
}
