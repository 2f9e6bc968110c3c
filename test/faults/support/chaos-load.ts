/** What the processes of a chaos run publish and how their handlers behave: all of it follows from numbers, so that any process knows it. */

import type { QueueTraits } from "./history-items.js";
import type { EndedAs, GroupTraits, Side } from "./history-log.js";
import { createRandom, hashOf } from "./random.js";

/** The one stream that a run is about. */
export const STREAM = "chaos";

/** What the parent tells a child that publishes or consumes, as JSON in its first argument. */
export interface ChildConfig {
  readonly url: string;
  /** Its histories, for each side that it works on. */
  readonly files: Readonly<Partial<Record<Side, string>>>;
  /** Where it notes when it stood still. */
  readonly pulse: string;
  readonly number: number;
  readonly seed: number;
  readonly commandTimeoutMs: number;
  readonly queue: QueueTraits;
  /** A bug to plant, by its name in `planted-bugs.ts` or `planted-queue-bugs.ts`. */
  readonly bug?: string;
}

export interface PublisherConfig extends ChildConfig {
  readonly durability: "memory" | "fsync" | "replicated";
  /** Messages a second, as long as there is room in the window. */
  readonly rates: Readonly<Record<Side, number>>;
  /** Publishes under way at once, on each side. */
  readonly window: number;
  /** Whether it names its messages, and repeats what may not have been stored under the same name. */
  readonly ids: boolean;
}

export interface ConsumerConfig extends ChildConfig {
  readonly group: GroupTraits;
  /** Those of the queue whose messages it takes. */
  readonly recipients: readonly string[];
  /** `handler`: outcomes by return; `deliveries`: each settled by the caller, who hears what the store says. */
  readonly form: "handler" | "deliveries";
  /** Of the group's consumer, and of each recipient's. */
  readonly concurrency: Readonly<Record<Side, number>>;
}

/** Of each publisher's own. */
const KEYS = 500;
/** One message in so many has no key, and no order. */
const KEYLESS = 4;

/** The key of a message, as a number among its publisher's. */
export function keyOf(p: number, n: number): number | undefined {
  const hash = hashOf(p, n, 1);
  return hash % KEYLESS === 0 ? undefined : hash % KEYS;
}

/** Characters that need no escape in JSON, so that bytes are counted easily; drawn once, from a seed of its own. */
const TEXT = ((): string => {
  const random = createRandom(2_024);
  const letters = "abcdefghijklmnopqrstuvwxyz0123456789 ";
  return Array.from({ length: 12_000 }, () => letters.charAt(random.int(0, letters.length - 1))).join("");
})();
const LARGE_ONE_IN = 500;
const LARGE_CHARS = 8_000;

export interface Payload {
  readonly p: number;
  readonly n: number;
  readonly pad: string;
}

export function payloadOf(p: number, n: number): Payload {
  const hash = hashOf(p, n, 2);
  const chars = hash % LARGE_ONE_IN === 0 ? LARGE_CHARS : hash % 160;
  const from = (hash >>> 8) % (TEXT.length - LARGE_CHARS);
  return { p, n, pad: TEXT.slice(from, from + chars) };
}

export function idOf(p: number, n: number): string {
  return `chaos-${p}-${n}`;
}

export function keyText(p: number, key: number): string {
  return `key-${p}-${key}`;
}

/** What was published, from what was delivered; or, as text, what is wrong with it. */
export function payloadIn(data: unknown, key: string | undefined): Payload | string {
  if (typeof data !== "object" || data === null) return `the data are ${typeof data}`;
  const { p, n, pad } = data as Partial<Payload>;
  if (!Number.isSafeInteger(p) || !Number.isSafeInteger(n)) return `no message: ${JSON.stringify(data).slice(0, 200)}`;
  const published = payloadOf(Number(p), Number(n));
  if (pad !== published.pad) return `message ${p}-${n} has other data than it was published with`;
  const number = keyOf(published.p, published.n);
  const expected = number === undefined ? undefined : keyText(published.p, number);
  return key === expected ? published : `message ${p}-${n} has the key ${key}, and was published with ${expected}`;
}

export interface Behaviour {
  /** How long the handler takes. 0: it decides at once. */
  readonly ms: number;
  readonly as: EndedAs;
  /** For `retry`: how it asks. */
  readonly throws: boolean;
}

/** What the handler of an attempt does: mostly it acknowledges at once. */
export function behaviourOf(
  seed: number,
  { p, n, a, leaseMs }: { p: number; n: number; a: number; leaseMs: number },
): Behaviour {
  const hash = hashOf(seed, p, n, 3);
  return { ms: durationOf(hashOf(hash, a), leaseMs), as: outcomeOf(hash, a), throws: hash % 2 === 0 };
}

function durationOf(hash: number, leaseMs: number): number {
  if (hash % 20_000 === 0) return Math.round(leaseMs * 1.3); // has to be renewed
  if (hash % 64 === 1) return 5 + (hash % 60);
  return hash % 4 === 2 ? 1 : 0;
}

function outcomeOf(hash: number, a: number): EndedAs {
  const share = (hash >>> 4) % 1_000;
  if (share < 2) return "retry"; // always: a dead letter once its attempts are used up
  if (share < 3) return "dead";
  if (share < 6) return a === 1 ? "defer" : "ack"; // uncounted: it comes again as the first
  if (share < 30) return a === 1 ? "retry" : "ack";
  return "ack";
}

/** Standing still for so long may cost a lease. */
export function stillMsOf({ leaseMs }: { readonly leaseMs: number }): number {
  return leaseMs / 2;
}
