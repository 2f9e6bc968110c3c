/** The messages of a queue one by one: read, listed, counted, acknowledged by id, deleted. */

import type { ItemFilter, OpenState, RecordState } from "../core/backend.js";
import { InvalidArgumentError, LimitError, UnsupportedError } from "../core/errors.js";
import { validName, validText } from "../core/names.js";
import {
  anInteger,
  aSignal,
  aString,
  type Check,
  type Checks,
  checkOptions,
  nested,
  oneOf,
  show,
} from "../core/options.js";
import { validId } from "../core/outgoing.js";
import { call, callAgreed, type Handle } from "./handle.js";
import { anyRecipientOf } from "./publish.js";
import { CALL_CHECKS, type QueueCallOptions } from "./recipients.js";
import { asSeenByOne, createViewer, type QueuedMessage, type QueuePage, showPage } from "./view.js";

interface PageOptions extends QueueCallOptions {
  /** Default 100, at most 1,000. */
  readonly limit?: number;
  /** Of the page before. */
  readonly cursor?: string;
}

export interface PendingOptions extends PageOptions {
  /** Only those that are ready, that are not ready yet, or that somebody holds. */
  readonly state?: OpenState;
}

/** All that is given has to hold. `source` and `target` have to be indexed. */
export interface QueueFilter {
  readonly source?: string;
  readonly target?: string;
  /** `true`: all have acknowledged it. `false`: somebody has still to finish it. Not with `state`. */
  readonly acknowledged?: boolean;
  /** `waiting`, `delayed` and `leased` are how a message stands with one recipient: they need its `target`, alone. */
  readonly state?: RecordState | OpenState;
}

export interface ListOptions extends PageOptions {
  readonly filter?: QueueFilter;
}

export interface AcknowledgeOptions extends QueueCallOptions {
  /** Whose: acknowledging is each recipient's own. Default: whoever consumes the queue. */
  readonly recipient?: string;
}

export interface ClearOptions extends QueueCallOptions {
  /** The queue's name, so that nothing is emptied by mistake. */
  readonly confirm: string;
}

export interface ItemCalls<T> {
  /**
   * What a recipient has not finished: first what is ready, in the order in which it is handed out; then what is delayed
   * or waits for its retry; then what is held by a consumer. Default: of whoever consumes the queue.
   */
  pending(recipient?: string, options?: PendingOptions): Promise<QueuePage<T>>;
  /** A message that is unfinished, or kept as a record. Undefined for one that has expired, or is not known. */
  get(id: string, options?: QueueCallOptions): Promise<QueuedMessage<T> | undefined>;
  /**
   * Unfinished messages and records, the newest first.
   *
   * @throws {UnsupportedError} without the queue's option `index`, or for a field that it does not name
   */
  list(options?: ListOptions): Promise<QueuePage<T>>;
  /** How many `list` would give: exactly. Without a filter it needs no index. @throws {UnsupportedError} as `list` */
  count(filter?: QueueFilter, options?: QueueCallOptions): Promise<number>;
  /** Finishes a message for one recipient, whether it waits or is held. @returns whether it had it to finish */
  acknowledge(id: string, options?: AcknowledgeOptions): Promise<boolean>;
  /** The same of several: at most 50,000. */
  acknowledgeMany(ids: readonly string[], options?: AcknowledgeOptions): Promise<readonly boolean[]>;
  /** Removes a message for all its recipients, or a record. Dead letters stay. @returns whether there was one */
  delete(id: string, options?: QueueCallOptions): Promise<boolean>;
  /**
   * Empties the queue: messages, records, dead letters and remembered ids, in this namespace alone. Recipients stay.
   *
   * @returns how many messages and records there were
   * @throws {InvalidArgumentError} unless `confirm` is the queue's name
   */
  clear(options: ClearOptions): Promise<number>;
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;
const MAX_ACKNOWLEDGED = 50_000;
/** Acknowledged by one call of the store. */
const SLICE = 256;
const OPEN_STATES: readonly string[] = ["waiting", "delayed", "leased"] satisfies readonly OpenState[];

const aBoolean: Check = (value) => (typeof value === "boolean" ? undefined : "must be true or false");
const PAGE_CHECKS: Checks<PageOptions> = { limit: anInteger(1, MAX_LIMIT), cursor: aString, signal: aSignal };
const PENDING_CHECKS: Checks<PendingOptions> = { ...PAGE_CHECKS, state: oneOf(...OPEN_STATES) };
const FILTER_CHECKS: Checks<QueueFilter> = {
  source: aString,
  target: aString,
  acknowledged: aBoolean,
  state: oneOf("open", "acked", "dead", "expired", ...OPEN_STATES),
};
const LIST_CHECKS: Checks<ListOptions> = { ...PAGE_CHECKS, filter: nested(FILTER_CHECKS) };
/** The recipient is checked on its own, as a name. */
const ACKNOWLEDGE_CHECKS: Checks<AcknowledgeOptions> = { recipient: () => undefined, signal: aSignal };
const CLEAR_CHECKS: Checks<ClearOptions> = { confirm: () => undefined, signal: aSignal };

export function itemCalls<T>(handle: Handle): ItemCalls<T> {
  return { ...readingCalls<T>(handle), ...settlingCalls(handle) };
}

function readingCalls<T>(handle: Handle): Pick<ItemCalls<T>, "pending" | "get" | "list" | "count"> {
  const { runtime, name, decoding } = handle;
  const { queue } = runtime.backend;
  const view = createViewer<T>(decoding);
  return {
    async pending(given, options = {}) {
      checkOptions("queue.pending", options, PENDING_CHECKS);
      const recipient = anyRecipientOf(given);
      const about = { event: "get_pending_failed", fields: { reader: recipient } } as const;
      const page = await call(handle, options.signal, about, () =>
        queue.browse(name, recipient, pageOf(options), options.state),
      );
      const count = page.items.length;
      runtime.telemetry.log("pending_messages_retrieved", { channel: name, reader: recipient, count });
      return asSeenByOne(await showPage(page, view));
    },
    async get(given, options) {
      checkOptions("queue.get", options, CALL_CHECKS);
      const id = validId(given);
      const about = { event: "get_message_failed", fields: { message_id: id } } as const;
      const item = await call(handle, options?.signal, about, () => queue.get(name, id));
      return item === undefined || item.state === "expired" ? undefined : await view(item);
    },
    async list(options = {}) {
      checkOptions("queue.list", options, LIST_CHECKS);
      const wanted = wantedBy("queue.list", options.filter);
      const page = pageOf(options);
      const about = { event: "list_messages_failed" } as const;
      if (!("openState" in wanted)) {
        const found = await callAgreed(handle, options.signal, about, () => queue.list(name, wanted.filter, page));
        return await showPage(found, view);
      }
      const { recipient, openState } = wanted;
      const found = await call(handle, options.signal, about, () => queue.browse(name, recipient, page, openState));
      return asSeenByOne(await showPage(found, view));
    },
    async count(filter, options) {
      assertFilterItself(filter);
      checkOptions("queue.count", filter, FILTER_CHECKS);
      checkOptions("queue.count", options, CALL_CHECKS);
      const wanted = wantedBy("queue.count", filter);
      const about = { event: "list_messages_failed" } as const;
      if (!("openState" in wanted))
        return await callAgreed(handle, options?.signal, about, () => queue.count(name, wanted.filter));
      const stats = await call(handle, options?.signal, about, () => queue.stats(name, wanted.recipient));
      return stats[wanted.openState];
    },
  };
}

function settlingCalls(handle: Handle): Pick<ItemCalls<never>, "acknowledge" | "acknowledgeMany" | "delete" | "clear"> {
  const { runtime, name } = handle;
  const { queue } = runtime.backend;
  const acknowledge = async (
    method: string,
    given: readonly string[],
    options: AcknowledgeOptions | undefined,
  ): Promise<readonly boolean[]> => {
    checkOptions(method, options, ACKNOWLEDGE_CHECKS);
    const recipient = anyRecipientOf(options?.recipient);
    const ids = given.map(validId);
    const about = { event: "message_acknowledge_failed", fields: { reader: recipient, message_id: ids[0] } } as const;
    const results: boolean[] = [];
    for (let start = 0; start < ids.length; start += SLICE) {
      const slice = ids.slice(start, start + SLICE);
      const done = await call(handle, options?.signal, about, () => queue.acknowledge(name, recipient, slice));
      logAcknowledged(handle, recipient, slice, done);
      results.push(...done);
    }
    return results;
  };
  return {
    async acknowledge(id, options) {
      const [isDone] = await acknowledge("queue.acknowledge", [id], options);
      return isDone === true;
    },
    async acknowledgeMany(ids, options) {
      if (!Array.isArray(ids))
        throw new InvalidArgumentError(`acknowledgeMany takes an array of ids, not ${show(ids)}`);
      if (ids.length > MAX_ACKNOWLEDGED)
        throw new LimitError(
          `acknowledgeMany takes at most ${MAX_ACKNOWLEDGED} ids at a time, not ${ids.length}: divide them`,
        );
      return await acknowledge("queue.acknowledgeMany", ids, options);
    },
    async delete(given, options) {
      checkOptions("queue.delete", options, CALL_CHECKS);
      const id = validId(given);
      const about = { event: "delete_message_failed", fields: { message_id: id } } as const;
      return (await call(handle, options?.signal, about, () => queue.remove(name, [id]))) > 0;
    },
    async clear(options) {
      checkOptions("queue.clear", options, CLEAR_CHECKS);
      assertConfirmed(name, options?.confirm);
      const count = await call(handle, options.signal, { event: "clear_messages_failed" }, () => queue.clear(name));
      runtime.telemetry.log("messages_cleared", { channel: name, count });
      return count;
    },
  };
}

function logAcknowledged(
  { runtime, name: channel }: Handle,
  reader: string,
  ids: readonly string[],
  done: readonly boolean[],
): void {
  const { telemetry } = runtime;
  const count = done.filter(Boolean).length;
  const first = ids[done.indexOf(true)];
  if (count > 0) telemetry.log("message_acknowledged", { channel, reader, count, message_id: first });
  if (!telemetry.isLogged("message_not_found")) return;
  for (const [index, id] of ids.entries())
    if (done[index] !== true) telemetry.log("message_not_found", { channel, reader, message_id: id });
}

/** For callers without types, and for those who take the wrong queue. @throws {InvalidArgumentError} */
function assertConfirmed(queue: string, confirm: unknown): void {
  if (typeof confirm === "string" && confirm.normalize("NFC") === queue) return;
  const given = confirm === undefined ? "it is missing" : `not ${show(confirm)}`;
  throw new InvalidArgumentError(
    `queue.clear empties the queue for everybody: confirm must be its name, ${show(queue)}, ${given}`,
  );
}

function pageOf({ limit = DEFAULT_LIMIT, cursor }: PageOptions): { max: number; cursor?: string } {
  return cursor === undefined ? { max: limit } : { max: limit, cursor };
}

type Wanted = { readonly filter: ItemFilter } | { readonly recipient: string; readonly openState: OpenState };

/** A filter in the store's terms. */
function wantedBy(where: string, { source, target, acknowledged, state }: QueueFilter = {}): Wanted {
  if (acknowledged !== undefined && state !== undefined)
    throw new InvalidArgumentError(`${where} takes acknowledged or state, not both`);
  if (isOpenState(state)) {
    if (target === undefined || source !== undefined)
      throw new UnsupportedError(
        `${where}: "${state}" is how a message stands with one recipient: name its target and nothing else, or use ` +
          "pending() for what is for whoever consumes the queue",
      );
    return { recipient: validName("recipient", target), openState: state };
  }
  const stateAsked = acknowledged === undefined ? state : acknowledged ? "acked" : "open";
  const fields = {
    ...(source !== undefined && { source: validText("source", source) }),
    ...(target !== undefined && { target: validName("recipient", target) }),
  };
  return {
    filter: {
      ...(Object.keys(fields).length > 0 && { fields }),
      ...(stateAsked !== undefined && { state: stateAsked }),
    },
  };
}

/** For those who call it as `list` is called. @throws {InvalidArgumentError} */
function assertFilterItself(filter: unknown): void {
  if (typeof filter === "object" && filter !== null && "filter" in filter)
    throw new InvalidArgumentError("queue.count takes the filter itself, { state: … }, and not { filter: … }");
}

function isOpenState(state: QueueFilter["state"]): state is OpenState {
  return state !== undefined && OPEN_STATES.includes(state);
}
