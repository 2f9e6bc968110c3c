/** What is kept of a queue's items besides what delivering needs, and finding items by it. */

import type { ItemFilter, ItemPage, PageRequest, RecordSettings, StoredItem } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { notIndexed } from "../../core/limits.js";
import { listOf, numberOf, textOf } from "./blob.js";
import { fromStoredId, indexedValue } from "./keys.js";
import type { Port } from "./port.js";
import { completeItems, type FoundItem, findItems } from "./queue-items.js";
import { type KnownQueue, learn, writeSettings } from "./queue-known.js";
import type { Tending } from "./queue-tending.js";
import { loadScript } from "./scripts.js";

const configureScript = loadScript("queue-configure");
const findScript = loadScript("queue-find");

const MAX_PAGE = 1_000;
/** Calls in which a page is looked for: where little matches, it is short. */
const MAX_SEARCHES = 10;
/** Looks for who has an item that several may have, as many as one page may cost. */
const MAX_LOOKS = 200_000;
/** Place in line and id of the last item that was shown. */
const CURSOR = /^@([0-9a-z]{12}.+)$/s;

export interface Records {
  configure(queue: KnownQueue, settings: RecordSettings): Promise<RecordSettings>;
  get(queue: KnownQueue, id: string): Promise<StoredItem | undefined>;
  list(queue: KnownQueue, filter: ItemFilter, page: PageRequest): Promise<ItemPage>;
  count(queue: KnownQueue, filter: ItemFilter): Promise<number>;
}

/** Where to look. */
interface Search {
  /** Indexes that what is wanted has to be in. */
  readonly keys: readonly string[];
  /** Whether kept records are wanted. */
  readonly only: "open" | "";
}

/** Looking through the indexes of a queue. */
function createSearch(port: Pick<Port, "repeating">) {
  /** One look at part of what there is. @param max 0 counts, instead of finding */
  async function find({ keys }: KnownQueue, { keys: indexes, only }: Search, after: string, max: number) {
    const scriptKeys = [keys.kept, ...indexes];
    const reply = await findScript.run(port.repeating(keys.records), scriptKeys, [only, after, String(max)]);
    const [next = "", ...found] = listOf(reply).map(textOf);
    return { next, found };
  }

  return {
    /** What is to be looked for. @throws {UnsupportedError} */
    async plan(queue: KnownQueue, { fields = {}, state }: ItemFilter): Promise<Search> {
      const { keys, name } = queue;
      const stored = await port.repeating(keys.records).command(["HGET", keys.state, "records"]);
      const { index } = learn(queue, stored === null ? "" : textOf(stored));
      const missing = Object.keys(fields).find((field) => index?.includes(field) !== true);
      if (index === undefined || missing !== undefined) throw notIndexed(name, index, missing);
      const indexes = Object.entries(fields).map(([field, value]) => keys.index(indexedValue(field, value)));
      if (state !== undefined && state !== "open") indexes.push(keys.index(state));
      return { keys: indexes.length === 0 ? [keys.index("all")] : indexes, only: state === "open" ? "open" : "" };
    },

    /** Up to so many members, and where to go on, `""` at the end. */
    async some(queue: KnownQueue, search: Search, after: string, max: number) {
      const members: string[] = [];
      let next = after;
      for (let searches = 0; searches < MAX_SEARCHES; searches += 1) {
        const part = await find(queue, search, next, max - members.length);
        members.push(...part.found);
        next = part.next;
        if (next === "" || members.length >= max) break;
      }
      return { members, next };
    },

    async count(queue: KnownQueue, search: Search): Promise<number> {
      let total = 0;
      for (let after = ""; ; ) {
        const { next, found } = await find(queue, search, after, 0);
        total += Number(found[0] ?? 0);
        if (next === "") return total;
        after = next;
      }
    },
  };
}

export function createRecords(port: Pick<Port, "repeating">, { endExpired }: Tending): Records {
  const search = createSearch(port);
  const connectionOf = ({ keys }: KnownQueue) => port.repeating(keys.records);
  const sizeOf = async (queue: KnownQueue, command: "HLEN" | "ZCARD", key: string): Promise<number> =>
    numberOf(await connectionOf(queue).command([command, key]));

  /** Unfinished items; answers are none. */
  async function openItems(queue: KnownQueue): Promise<number> {
    const answers = await connectionOf(queue).command(["HGET", queue.keys.state, "answers"]);
    return (await sizeOf(queue, "HLEN", queue.keys.records)) - (answers === null ? 0 : numberOf(answers));
  }

  /** Of the items on a page, as many as it may cost to find out who has them. */
  async function withinReason(queue: KnownQueue, items: readonly FoundItem[]): Promise<readonly FoundItem[]> {
    if (items.every(({ shares }) => shares === 0)) return items;
    const recipients = await sizeOf(queue, "ZCARD", queue.keys.recipients);
    let room = Math.max(1, Math.floor(MAX_LOOKS / Math.max(1, recipients)));
    const end = items.findIndex(({ shares }) => {
      room -= shares > 0 ? 1 : 0;
      return room < 0;
    });
    return end < 0 ? items : items.slice(0, end);
  }

  return {
    async configure(queue, settings) {
      await endExpired(queue);
      const { records, state, kept } = queue.keys;
      const reply = await configureScript.run(connectionOf(queue), [records, state, kept], [writeSettings(settings)]);
      return learn(queue, textOf(reply));
    },

    async get(queue, id) {
      const first = await findItems(port, queue, [id]);
      // Nor is a record there that is too old, or an item that has expired.
      const isDoubtful = first.hasExpired || first.items.some(({ isKept }) => isKept);
      if (isDoubtful) await endExpired(queue);
      const { items } = isDoubtful ? await findItems(port, queue, [id]) : first;
      const [item] = await completeItems(port, queue, items);
      return item;
    },

    async list(queue, filter, { max, cursor }) {
      const [, last = ""] = cursor === undefined ? [] : (CURSOR.exec(cursor) ?? []);
      if (cursor !== undefined && last === "") throw new NotFoundError(`"${cursor}" is no cursor`);
      const wanted = await search.plan(queue, filter);
      await endExpired(queue);
      const size = Math.min(max, MAX_PAGE);
      // One more than wanted tells whether this is the last page.
      const { members, next } = await search.some(queue, wanted, last, size + 1);
      const page = members.slice(0, size);
      const rest = members.length > size ? page.at(-1) : next;
      if (page.length === 0) return toPage([], rest);
      const { looked, items } = await findItems(port, queue, page.map(idOfMember));
      const shown = await withinReason(queue, items);
      // The page ends before the first that is not looked at, or not shown.
      const end = items[shown.length]?.index ?? looked;
      const after = end < page.length ? page[end - 1] : rest;
      const stored = await completeItems(port, queue, shown);
      return toPage(stored, after);
    },

    async count(queue, filter) {
      const { fields = {}, state } = filter;
      const hasFields = Object.keys(fields).length > 0;
      const wanted = hasFields || state !== undefined ? await search.plan(queue, filter) : undefined;
      await endExpired(queue);
      if (wanted === undefined) return (await openItems(queue)) + (await sizeOf(queue, "ZCARD", queue.keys.kept));
      if (state === "open" && !hasFields) return openItems(queue);
      const [first = "", ...others] = wanted.keys;
      if (others.length === 0 && wanted.only === "") return sizeOf(queue, "ZCARD", first);
      return search.count(queue, wanted);
    },
  };
}

/** @param after the member to go on behind; none at the end */
function toPage(items: readonly StoredItem[], after: string | undefined): ItemPage {
  return after === undefined || after === "" ? { items } : { items, cursor: `@${after}` };
}

function idOfMember(member: string): string {
  return fromStoredId(member.slice(12));
}
