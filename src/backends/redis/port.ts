/** What the log and the queue share as parts of one backend: being open, their feeds, and publishing through a script. */

import type { Feed } from "../../core/backend.js";
import { ClosedError, PublishIndeterminateError } from "../../core/errors.js";
import { numberOf, textOf } from "./blob.js";
import type { Arg, Connection, PortDependencies } from "./connection.js";
import { createFeed } from "./feed.js";
import { createPublisher, type Stamp } from "./publisher.js";
import { repeating } from "./repeat.js";
import type { LuaScript } from "./scripts.js";
import type { Source } from "./source.js";

export interface Port {
  /** Names this backend in the ledgers of what was published. */
  readonly publisherId: string;
  /** @throws {ClosedError} */
  assertOpen(): void;
  /** The shared connection of a key, for what may be sent twice: {@link repeating}. */
  repeating(key: string): Connection;
  /** Makes a feed that ends with the port. */
  openFeed(source: Source): Feed;
  /**
   * Runs a publishing script, whose first arguments are the batch's stamp, until it has been decided on.
   *
   * @returns what it said
   */
  publish(script: LuaScript, keys: readonly string[], args: readonly Arg[]): Promise<string>;
  close(): Promise<void>;
}

/** As many names as most programs use; more only cost the making. */
const REMEMBERED = 1_000;

/** Makes something of a name once: a publish is too short to spell its keys each time. */
export function byName<T>(make: (name: string) => T): (name: string) => T {
  const made = new Map<string, T>();
  return (name) => {
    let one = made.get(name);
    if (one === undefined) {
      if (made.size >= REMEMBERED) made.clear();
      one = make(name);
      made.set(name, one);
    }
    return one;
  };
}

/** How long replicas get to confirm a batch; those behind it wait as long. */
const WAIT_MS = 2_000;

export function createPort(dependencies: PortDependencies): Port {
  const { connections, context, durability, replicas, publishTimeoutMs } = dependencies;
  const publisher = createPublisher(context.clock, publishTimeoutMs);
  const feeds = new Set<Feed>();
  let closed = false;

  /** Sends the script and a WAIT right behind it. */
  async function runConfirmed(
    script: LuaScript,
    keys: readonly string[],
    args: readonly Arg[],
    options: { deadlineMs: number } | undefined,
  ): Promise<string> {
    const connection = connections.publishing(keys[0] ?? "");
    const confirm = ["WAIT", String(replicas), String(WAIT_MS)];
    const [reply, confirmed] = await script.through(
      (command) => connection.pair(command, confirm, options),
      keys,
      args,
    );
    if (numberOf(confirmed) < replicas) {
      throw new PublishIndeterminateError(
        `${numberOf(confirmed)} of ${replicas} replicas confirmed the write within ${WAIT_MS} ms: ` +
          "it is stored by the primary, and would be lost with it",
      );
    }
    return textOf(reply);
  }

  const run: typeof runConfirmed = (script, keys, args, options) =>
    durability === "replicated"
      ? runConfirmed(script, keys, args, options)
      : script.run(connections.publishing(keys[0] ?? ""), keys, args, options).then(textOf);

  return {
    publisherId: publisher.id,
    assertOpen() {
      if (closed) throw new ClosedError("the Redis backend is closed");
    },
    repeating: (key) => repeating(connections, key, context.clock),
    openFeed(source) {
      const feed = createFeed(source, connections, context, () => feeds.delete(feed));
      feeds.add(feed);
      return feed;
    },
    publish: (script, keys, args) =>
      publisher.publish(keys[0] ?? "", ({ number, behind, slot }: Stamp, deadlineMs) =>
        run(
          script,
          keys,
          [String(number), String(behind), String(slot), ...args],
          deadlineMs === undefined ? undefined : { deadlineMs },
        ),
      ),
    async close() {
      closed = true;
      publisher.close();
      await Promise.all([...feeds].map((feed) => feed.close()));
    },
  };
}
