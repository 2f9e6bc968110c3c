/** The recipients of a queue on Redis: registered, read, lapsed, forgotten, paused. */

import type {
  BackendContext,
  PageRequest,
  RecipientPage,
  RegisteredRecipient,
  Registration,
} from "../../core/backend.js";
import { recipientLapsed, tooManyRecipients } from "../../core/limits.js";
import { NotFoundError } from "../../core/errors.js";
import { MAX_RECIPIENTS } from "../../core/queue-port.js";
import { listOf, numberOf, textOf } from "./blob.js";
import { decodeName, encodeName } from "./keys.js";
import type { Port } from "./port.js";
import type { KnownQueue } from "./queue-known.js";
import { loadScript } from "./scripts.js";

const registerScript = loadScript("queue-register");
const leaveScript = loadScript("queue-leave");
const pageScript = loadScript("queue-recipients");
const forgetScript = loadScript("queue-forget");
const pauseScript = loadScript("queue-pause");

/** A feed whose process died counts as open for so long. */
const LISTENING_MS = 30_000;
/** Others that have lapsed, and that one call forgets; and the steps that it takes for each: others go on with it. */
const MAX_LAPSES = 20;
const MAX_STEPS = 20;
/** A page at most. */
const AT_ONCE = 1_000;

export interface Recipients {
  /** @throws {LimitError} */
  register(queue: KnownQueue, recipient: string, registration: Registration): Promise<void>;
  /**
   * A feed is open for it, or reads. With a registration it is registered, unless `mode` says to leave what is known as it is.
   *
   * @returns the ms after which it lapses; undefined when it is not registered
   * @throws {LimitError}
   */
  read(
    queue: KnownQueue,
    recipient: string,
    registration: Registration | undefined,
    feedId: string,
    mode: "register" | "leave",
  ): Promise<number | undefined>;
  /** A feed is open no more. */
  leave(queue: KnownQueue, recipient: string, feedId: string): Promise<void>;
  /** @returns whether it was registered */
  unregister(queue: KnownQueue, recipient: string): Promise<boolean>;
  /**
   * Forgets a recipient if it has lapsed, its name as in keys, and reports what was lost with it.
   *
   * @param howFar `some` leaves the rest of it, if it has very much, to whoever comes by later
   */
  forgetLapsed(queue: KnownQueue, encoded: string, howFar: "all" | "some"): Promise<void>;
  /** Ends all that a recipient has, its name as in keys. It stays registered, and paused. */
  empty(queue: KnownQueue, encoded: string): Promise<void>;
  page(queue: KnownQueue, page: PageRequest): Promise<RecipientPage>;
  setPaused(queue: KnownQueue, recipient: string, to: "pause" | "resume"): Promise<void>;
}

/** What a recipient was, and how much unfinished and dead it had. */
interface Forgotten {
  readonly wasRegistered: boolean;
  readonly wasAudience: boolean;
  readonly lost: number;
}

export function createRecipients(port: Pick<Port, "repeating">, context: BackendContext): Recipients {
  const connectionOf = ({ keys }: KnownQueue) => port.repeating(keys.records);

  /** @returns undefined when more steps would have been needed */
  async function forget(
    queue: KnownQueue,
    encoded: string,
    mode: "unregister" | "lapse" | "empty",
    maxSteps = Number.POSITIVE_INFINITY,
  ): Promise<Forgotten | undefined> {
    for (let steps = 0; steps < maxSteps; steps += 1) {
      const reply = await forgetScript.run(connectionOf(queue), forgetKeys(queue, decodeName(encoded)), [
        encoded,
        mode,
      ]);
      const [more, wasRegistered, wasAudience, lost = 0] = listOf(reply).map(numberOf);
      if (more !== 1) return { wasRegistered: wasRegistered === 1, wasAudience: wasAudience === 1, lost };
    }
    return undefined;
  }

  const forgetLapsed: Recipients["forgetLapsed"] = async (queue, encoded, howFar) => {
    const forgotten = await forget(queue, encoded, "lapse", howFar === "some" ? MAX_STEPS : undefined);
    if (forgotten?.wasAudience !== true || forgotten.lost === 0) return;
    const loss = recipientLapsed(queue.name, decodeName(encoded), forgotten.lost);
    context.report(loss, "forgetting a recipient that has lapsed");
  };

  const read: Recipients["read"] = async (queue, recipient, registration, feedId, mode) => {
    const encoded = encodeName(recipient);
    const args = [encoded, ...registrationArgs(registration, mode), feedId, ...LIMITS];
    for (;;) {
      const reply = listOf(await registerScript.run(connectionOf(queue), registerKeys(queue, recipient), args)).map(
        textOf,
      );
      const [result, ttlMs, ...lapsed] = reply;
      if (result === "LAPSED") await forgetLapsed(queue, encoded, "all");
      // Whoever comes by meets what has lapsed.
      for (const other of lapsed) await forgetLapsed(queue, other, "some");
      if (result === "OK") return ttlMs === "" ? undefined : Number(ttlMs);
      if (result === "FULL" && lapsed.length === 0) throw tooManyRecipients(queue.name);
    }
  };

  return {
    register: async (queue, recipient, registration) =>
      void (await read(queue, recipient, registration, "", "register")),
    read,
    forgetLapsed,

    async leave(queue, recipient, feedId) {
      const { online, lapses, registrations } = queue.keys;
      const scriptKeys = [online, queue.keys.recipient(recipient).listeners, lapses, registrations];
      await leaveScript.run(connectionOf(queue), scriptKeys, [encodeName(recipient), feedId]);
    },

    async unregister(queue, recipient) {
      const encoded = encodeName(recipient);
      await forgetLapsed(queue, encoded, "all");
      return (await forget(queue, encoded, "unregister"))?.wasRegistered === true;
    },

    empty: async (queue, encoded) => void (await forget(queue, encoded, "empty")),

    async page(queue, { max, cursor = "0" }) {
      if (!/^\d{1,16}$/.test(cursor)) throw new NotFoundError(`"${cursor}" is no cursor`);
      const { recipients, audience, lapses, online } = queue.keys;
      const args = [cursor, String(Math.min(max, AT_ONCE))];
      const reply = await pageScript.run(connectionOf(queue), [recipients, audience, lapses, online], args);
      const [next = "", ...words] = listOf(reply).map(textOf);
      return { recipients: readRecipients(words), ...(next !== "" && { cursor: next }) };
    },

    async setPaused(queue, recipient, to) {
      const { counters, bell } = queue.keys.recipient(recipient);
      await pauseScript.run(connectionOf(queue), [counters, bell], [to]);
    },
  };
}

/** For how long a feed is believed to be open, how many recipients there may be, how many lapsed ones to tell. */
const LIMITS: readonly string[] = [LISTENING_MS, MAX_RECIPIENTS, MAX_LAPSES].map(String);

function registerKeys({ keys }: KnownQueue, recipient: string): readonly string[] {
  const { state, recipients, registrations, audience, lapses, online, inboxes } = keys;
  return [state, recipients, registrations, audience, lapses, online, inboxes, keys.recipient(recipient).listeners];
}

/** Nothing is registered without a registration. */
function registrationArgs(registration: Registration | undefined, mode: "register" | "leave"): readonly string[] {
  if (registration === undefined) return ["0", "", "read"];
  const { ttlMs, isAudience } = registration;
  return [String(ttlMs), isAudience ? "audience" : "private", mode === "register" ? mode : "read"];
}

function forgetKeys({ keys }: KnownQueue, recipient: string): readonly string[] {
  const { waiting, leased, due, attempts, expiry, counters, dead, bell, listeners } = keys.recipient(recipient);
  const { records, state, expiring, none, recipients, registrations, audience, lapses, online, inboxes } = keys;
  const queueKeys = [records, state, expiring, none, recipients, registrations, audience, lapses, online, inboxes];
  return [...queueKeys, waiting, leased, due, attempts, expiry, counters, dead, bell, listeners];
}

/** @param words four of each: name as in keys, when it lapses, 1 or 0 for the audience and for being online */
function readRecipients(words: readonly string[]): readonly RegisteredRecipient[] {
  const recipients: RegisteredRecipient[] = [];
  for (let at = 0; at + 3 < words.length; at += 4) {
    recipients.push({
      recipient: decodeName(words[at] ?? ""),
      lapsesAt: Number(words[at + 1]),
      isAudience: words[at + 2] === "1",
      isOnline: words[at + 3] === "1",
    });
  }
  return recipients;
}
