/** Ending items of a queue from outside: finished, removed, cleared, whoever has them. */

import { ConnectionError, PublishIndeterminateError } from "../../core/errors.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { Arg, Reply } from "./connection.js";
import { encodeName, toStoredId } from "./keys.js";
import type { Port } from "./port.js";
import type { KnownQueue } from "./queue-known.js";
import type { Recipients } from "./queue-recipients.js";
import type { Tending } from "./queue-tending.js";
import { type LuaScript, loadScript } from "./scripts.js";

const acknowledgeScript = loadScript("queue-acknowledge");
const removeScript = loadScript("queue-remove");
const withdrawScript = loadScript("queue-withdraw");
const clearScript = loadScript("queue-clear");

/** Items that one call looks at, whose messages it has to read. */
const AT_ONCE = 100;
/** Recipients that one page of a queue to be cleared has. */
const NAMES_AT_ONCE = 100;

export interface Ending {
  acknowledge(queue: KnownQueue, recipient: string, ids: readonly string[]): Promise<readonly boolean[]>;
  remove(queue: KnownQueue, ids: readonly string[]): Promise<number>;
  clear(queue: KnownQueue): Promise<number>;
}

export function createEnding(port: Port, { endExpired }: Tending, recipients: Recipients): Ending {
  async function acknowledge(
    queue: KnownQueue,
    recipient: string,
    ids: readonly string[],
  ): Promise<readonly boolean[]> {
    const { keys } = queue;
    const { waiting, leased, due, attempts, expiry, counters } = keys.recipient(recipient);
    const shared = [keys.records, keys.state, keys.expiring, keys.publisher(port.publisherId), keys.none];
    const args = [encodeName(recipient), ...ids.map(toStoredId)];
    const reply = await once(
      port,
      acknowledgeScript,
      [...shared, waiting, leased, due, attempts, expiry, counters],
      args,
    );
    const finished = new Set(reply.split(" ").slice(1).map(Number));
    return ids.map((_, index) => finished.has(index + 1));
  }

  /** @param overdue whether what has expired was ended already */
  async function remove(queue: KnownQueue, ids: readonly string[], overdue: "to end" | "ended"): Promise<number> {
    const { keys } = queue;
    const scriptKeys = [keys.records, keys.state, keys.none, keys.publisher(port.publisherId)];
    const args = [overdue === "ended" ? "1" : "0", ...ids.map(toStoredId)];
    const [first = "", ...tickets] = (await once(port, removeScript, scriptKeys, args)).split("\n");
    const [count = 0, ...expired] = first.split(" ").slice(1).map(Number);
    await withdraw(queue, tickets);
    if (expired.length === 0) return count;
    await endExpired(queue);
    const again = expired.map((number) => ids[number - 1] ?? "");
    return count + (await remove(queue, again, "ended"));
  }

  /** Takes the tickets of removed items from all who may have them. */
  async function withdraw({ keys }: KnownQueue, tickets: readonly string[]): Promise<void> {
    if (tickets.length === 0) return;
    for (let after = "0"; after !== ""; ) {
      const reply = await withdrawScript.run(
        port.repeating(keys.records),
        [keys.records, keys.none],
        [after, ...tickets],
      );
      after = textOf(reply);
    }
  }

  return {
    acknowledge: (queue, recipient, ids) => {
      const finish = (some: readonly string[]): Promise<readonly boolean[]> => acknowledge(queue, recipient, some);
      return inParts(ids, finish).then((parts) => parts.flat());
    },
    remove: (queue, ids) =>
      inParts(ids, (some) => remove(queue, some, "to end")).then((counts) => counts.reduce((sum, one) => sum + one, 0)),

    async clear(queue) {
      const { keys } = queue;
      const scriptKeys = [keys.records, keys.state, keys.none, ...keys.ids];
      const step = async (after: string): Promise<readonly Reply[]> =>
        listOf(await clearScript.run(port.repeating(keys.records), scriptKeys, [after]));
      await endExpired(queue);
      let reply = await step("");
      const count = numberOf(reply[0]);
      await recipients.empty(queue, "");
      for (let after = ""; ; reply = await step(after)) {
        const names = reply.slice(2).map(textOf);
        for (const name of names) await recipients.empty(queue, name);
        if (numberOf(reply[1]) === 0 && names.length < NAMES_AT_ONCE) return count;
        after = names.at(-1) ?? after;
      }
    },
  };
}

/** Runs a script once, however often the connection breaks: what it says is true of the call. */
async function once(
  port: Pick<Port, "publish">,
  script: LuaScript,
  keys: readonly string[],
  args: readonly Arg[],
): Promise<string> {
  try {
    return await port.publish(script, keys, args);
  } catch (error) {
    if (!(error instanceof PublishIndeterminateError)) throw error;
    const message = "the connection to Redis was lost, and whether the items were ended cannot be known";
    throw new ConnectionError(message, { cause: error, interrupted: true });
  }
}

/** Does something with some of the ids at a time. */
async function inParts<T>(ids: readonly string[], work: (some: readonly string[]) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let from = 0; from < ids.length; from += AT_ONCE) results.push(await work(ids.slice(from, from + AT_ONCE)));
  return results;
}
