/** One opened queue: its name, what is said of it, what all queues of a broker share, and how each call is made. */

import type { Inbox } from "../core/asking.js";
import { ConfigError, SignalboxError, toError, UnsupportedError } from "../core/errors.js";
import type { Decoding } from "../core/handler.js";
import { abortableCall } from "../core/lifecycle.js";
import type { LogEvent } from "../core/log-events.js";
import type { Payload } from "../core/payload.js";
import type { Runtime } from "../core/runtime.js";
import { recordProblems, type RecordsAsked, type Settings } from "./options.js";

export interface Handle {
  readonly runtime: Runtime;
  readonly name: string;
  readonly settings: Settings;
  readonly payload: Payload;
  readonly decoding: Decoding;
  readonly shared: Shared;
}

/** What the handles of one broker have in common. */
export interface Shared {
  /** Queues that were opened, the latest 1,000 of them. */
  readonly opened: Set<string>;
  /** What was last stored about the records of a queue. */
  readonly stored: Map<string, Stored>;
  /** Where answers come in, by queue. */
  readonly inboxes: Map<string, Inbox>;
}

interface Stored {
  readonly asked: RecordsAsked;
  /** When it was last made sure of. */
  at: number;
  /** Undefined once it is stored. */
  storing: Promise<void> | undefined;
}

const MAX_OPENED = 1_000;
/** A server may be emptied, and somebody may change what an empty queue keeps: while a queue is used, it is asked this often. */
const SURE_MS = 5_000;

export function createShared(): Shared {
  return { opened: new Set(), stored: new Map(), inboxes: new Map() };
}

/** Notes that the queue was opened. */
export function noteOpened({ opened, stored }: Shared, queue: string): void {
  opened.delete(queue);
  opened.add(queue);
  for (const oldest of opened) {
    if (opened.size <= MAX_OPENED) break;
    opened.delete(oldest);
    stored.delete(oldest);
  }
}

/**
 * Stores what the handle says of records, where this broker has not done so yet.
 *
 * @returns nothing when there is nothing to wait for
 * @throws {ConfigError} when the queue is stored with something else
 */
export function prepare(handle: Handle): Promise<void> | undefined {
  const { runtime, name, settings, shared } = handle;
  const asked = settings.records;
  if (asked === undefined) return undefined;
  const now = runtime.clock.now();
  const known = shared.stored.get(name);
  if (known?.asked.key !== asked.key) {
    const stored: Stored = { asked, at: now, storing: undefined };
    shared.stored.set(name, stored);
    stored.storing = storeOnce(handle, stored);
    return stored.storing;
  }
  if (known.storing === undefined && now - known.at >= SURE_MS) {
    known.at = now;
    // Nobody waits for that: where it fails, the next call does.
    storeOnce(handle, known).catch(() => undefined);
  }
  return known.storing;
}

async function storeOnce(handle: Handle, stored: Stored): Promise<void> {
  try {
    await store(handle, stored.asked);
    stored.storing = undefined;
  } catch (error) {
    // The next call tries again.
    forget(handle.shared, handle.name, stored);
    throw error;
  }
}

async function store({ runtime, name }: Handle, { settings }: RecordsAsked): Promise<void> {
  const problems = recordProblems(name, settings, await runtime.backend.queue.configure(name, settings));
  if (problems.length > 0) throw new ConfigError(problems);
}

function forget(shared: Shared, name: string, stored: Stored | undefined): void {
  if (shared.stored.get(name) === stored) shared.stored.delete(name);
}

/** What a call is logged as when it fails, with what it was about. */
export interface Failing {
  readonly event: LogEvent;
  readonly fields?: object;
}

/** Makes one call: the handle's settings are stored before it, an abort ends the waiting, a failure is logged. */
export async function call<R>(
  handle: Handle,
  signal: AbortSignal | undefined,
  failing: Failing | undefined,
  use: () => Promise<R>,
): Promise<R> {
  // Handlers that drain may still look and acknowledge.
  handle.runtime.owner.assertPublishing();
  try {
    return await abortableCall(() => prepared(handle, use), signal);
  } catch (error) {
    if (failing !== undefined && !signal?.aborted && !isCallersOwn(error)) {
      const fields = { channel: handle.name, ...failing.fields, err: toError(error) };
      handle.runtime.telemetry.log(failing.event, fields);
    }
    throw error;
  }
}

/** A server that was emptied has forgotten the settings with all the rest: they are stored again, once. */
async function prepared<R>(handle: Handle, use: () => Promise<R>): Promise<R> {
  const { name, shared, settings } = handle;
  await prepare(handle);
  try {
    return await use();
  } catch (error) {
    if (!(error instanceof UnsupportedError) || settings.records === undefined) throw error;
    forget(shared, name, shared.stored.get(name));
    await prepare(handle);
    return await use();
  }
}

function isCallersOwn(error: unknown): boolean {
  return (
    error instanceof SignalboxError && ["CONFIG", "INVALID_ARGUMENT", "UNSUPPORTED", "CLOSED"].includes(error.code)
  );
}
