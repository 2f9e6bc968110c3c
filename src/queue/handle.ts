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
  /** What handles have said about the records of a queue, the last of them. */
  readonly said: Map<string, Said>;
  /** Where answers come in, by queue. */
  readonly inboxes: Map<string, Inbox>;
}

interface Said {
  readonly key: string;
  /** Resolves once it is stored, with what was stored before and is not the same. */
  readonly stored: Promise<readonly string[]>;
  /** The same, once it is known. */
  problems?: readonly string[];
  /** That a consumer's handle disagrees is reported once. */
  isReported: boolean;
}

const MAX_OPENED = 1_000;

export function createShared(): Shared {
  return { opened: new Set(), said: new Map(), inboxes: new Map() };
}

/** Notes that the queue was opened. */
export function noteOpened({ opened, said }: Shared, queue: string): void {
  opened.delete(queue);
  opened.add(queue);
  for (const oldest of opened) {
    if (opened.size <= MAX_OPENED) break;
    opened.delete(oldest);
    said.delete(oldest);
  }
}

/**
 * Stores what the handle says of records, where this broker has not done so yet. From then on each push carries it, so that
 * a store that was emptied is told again.
 *
 * @returns nothing when there is nothing to wait for
 * @throws {ConfigError} when the queue is stored with something else
 */
export function agree(handle: Handle): Promise<void> | undefined {
  const { name, settings, shared } = handle;
  if (settings.records === undefined) return undefined;
  const said = shared.said.get(name);
  if (said?.key === settings.records.key && said.problems?.length === 0) return undefined;
  return agreed(handle, settings.records);
}

async function agreed(handle: Handle, asked: RecordsAsked): Promise<void> {
  const said = sayOnce(handle, asked);
  const problems = await said.stored;
  if (problems.length === 0) return;
  // Somebody may change it: the next call asks again.
  forget(handle.shared, handle.name, said);
  throw new ConfigError(problems);
}

/**
 * The same for a consumer that opens, each time. One that disagrees consumes all the same: what is kept is nothing that
 * delivering depends on; that is reported, once.
 */
export async function sayForConsumer(handle: Handle): Promise<void> {
  const { runtime, name, settings, shared } = handle;
  if (settings.records === undefined) return;
  const before = shared.said.get(name);
  const wasReported = before?.key === settings.records.key && before.isReported;
  const said = say(handle, settings.records, wasReported);
  const problems = await said.stored;
  if (problems.length === 0 || said.isReported) return;
  said.isReported = true;
  runtime.report(new ConfigError(problems), `consuming the queue ${name}`);
}

function sayOnce(handle: Handle, asked: RecordsAsked): Said {
  const known = handle.shared.said.get(handle.name);
  return known?.key === asked.key && known.problems === undefined ? known : say(handle, asked, false);
}

function say({ runtime, name, shared }: Handle, { key, settings }: RecordsAsked, isReported: boolean): Said {
  const stored = runtime.backend.queue.configure(name, settings).then((found) => recordProblems(name, settings, found));
  const said: Said = { key, stored, isReported };
  shared.said.set(name, said);
  stored.then(
    (problems) => {
      said.problems = problems;
    },
    // Whoever waits hears of it, and the next call tries again.
    () => forget(shared, name, said),
  );
  return said;
}

function forget(shared: Shared, name: string, said: Said | undefined): void {
  if (shared.said.get(name) === said) shared.said.delete(name);
}

/** What a call is logged as when it fails, with what it was about. */
export interface Failing {
  readonly event: LogEvent;
  readonly fields?: object;
}

/** Makes one call: an abort ends the waiting, a failure is logged. */
export async function call<R>(
  handle: Handle,
  signal: AbortSignal | undefined,
  failing: Failing | undefined,
  use: () => Promise<R>,
): Promise<R> {
  // Handlers that drain may still look and acknowledge.
  handle.runtime.owner.assertPublishing();
  try {
    return await abortableCall(use, signal);
  } catch (error) {
    if (failing !== undefined && !signal?.aborted && !isCallersOwn(error)) {
      const fields = { channel: handle.name, ...failing.fields, err: toError(error) };
      handle.runtime.telemetry.log(failing.event, fields);
    }
    throw error;
  }
}

/**
 * The same of a call that depends on what is stored of records. A server that was emptied has forgotten that with all the
 * rest: it is told again, once.
 */
export async function callAgreed<R>(
  handle: Handle,
  signal: AbortSignal | undefined,
  failing: Failing,
  use: () => Promise<R>,
): Promise<R> {
  const { name, shared, settings } = handle;
  return await call(handle, signal, failing, async () => {
    await agree(handle);
    try {
      return await use();
    } catch (error) {
      if (!(error instanceof UnsupportedError) || settings.records === undefined) throw error;
      forget(shared, name, shared.said.get(name));
      await agree(handle);
      return await use();
    }
  });
}

function isCallersOwn(error: unknown): boolean {
  return (
    error instanceof SignalboxError && ["CONFIG", "INVALID_ARGUMENT", "UNSUPPORTED", "CLOSED"].includes(error.code)
  );
}
