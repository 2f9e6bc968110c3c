/** What the tests of the ports share: ports on a harness server, and connections that lose things. */

import { onTestFinished } from "vitest";
import type { Arg, Connection, Connections, OwnConnection } from "../../../src/backends/redis/connection.js";
import { createLog } from "../../../src/backends/redis/log.js";
import { createMembership } from "../../../src/backends/redis/membership.js";
import { createQueue } from "../../../src/backends/redis/queue.js";
import type { RedisOptions, RedisTarget } from "../../../src/backends/redis/target.js";
import type { Feed, Log, Membership, NewEntry, NewItem, Outcome, Queue, Taken } from "../../../src/core/backend.js";
import { systemClock } from "../../../src/core/clock.js";
import { ConnectionError } from "../../../src/core/errors.js";
import type { RedisServer } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import { type Opened, open, standalone } from "./connection-support.js";

/** What happens to a command: it goes through, it never leaves, its reply never comes, or either waits for something. */
export type Fate = "well" | "unsent" | "unanswered" | { readonly sent?: Gate; readonly answered?: Gate };
export type Gate = Promise<unknown>;

export interface Ports {
  readonly log: Log & { close(): Promise<void> };
  readonly queue: Queue & { close(): Promise<void> };
  readonly membership: Membership;
  readonly redis: Opened;
  readonly reports: readonly string[];
  /** Decides on every command from now on. */
  judge(fateOf: (args: readonly Arg[]) => Fate): void;
}

/** Opens the ports in the namespace `test`, and closes them at the end of the test. */
export async function openPorts(
  server: RedisServer,
  options: Partial<RedisOptions> = {},
  login: Partial<RedisTarget> = {},
): Promise<Ports> {
  const redis = await open(standalone(server, login), options);
  const reports: string[] = [];
  let fateOf: (args: readonly Arg[]) => Fate = () => "well";
  const dependencies = {
    connections: lossy(redis.connections, (args) => fateOf(args)),
    context: {
      namespace: "test",
      clock: systemClock,
      report: (error: unknown, where: string) => reports.push(`${where}: ${String(error)}`),
    },
    durability: options.durability ?? "memory",
    replicas: options.replicas ?? 1,
  } as const;
  const log = createLog(dependencies);
  const queue = createQueue(dependencies);
  onTestFinished(async () => {
    fateOf = () => "well";
    await Promise.all([log.close(), queue.close()]);
  });
  return {
    log,
    queue,
    membership: createMembership(dependencies, () => undefined),
    redis,
    reports,
    judge(next) {
      fateOf = next;
    },
  };
}

/** What each of a server's clients that wait is blocked in. */
export async function blockedIn(server: RedisServer): Promise<string[]> {
  const clients = String(await server.cli("CLIENT", "LIST")).split("\n");
  return clients.flatMap((line) => / flags=[A-Za-z]*b.* cmd=(\w+)/.exec(line)?.[1] ?? []);
}

/** Resolves once so many of a server's clients are blocked in a command. */
export async function untilBlocked(server: RedisServer, command: string, count = 1): Promise<void> {
  const areBlocked = async (): Promise<boolean> =>
    (await blockedIn(server)).filter((one) => one === command).length >= count;
  await until(areBlocked, { what: `${count} to be blocked in ${command}` });
}

export async function untilNoneIsBlocked(server: RedisServer): Promise<void> {
  await until(async () => (await blockedIn(server)).length === 0, { what: "nobody to be blocked" });
}

/** The queue port alone, on whatever connections there are, in the namespace `test`. */
export function queueOn(connections: Connections): Queue {
  const context = { namespace: "test", clock: systemClock, report: () => {} };
  const queue = createQueue({ connections, context, durability: "memory", replicas: 1 });
  onTestFinished(() => queue.close());
  return queue;
}

function lossy(connections: Connections, fateOf: (args: readonly Arg[]) => Fate): Connections {
  const wrap = <C extends Connection>(connection: C): C => {
    const meet = async <R>(args: readonly Arg[], send: () => Promise<R>): Promise<R> => {
      const fate = fateOf(args);
      if (fate === "unsent") throw new ConnectionError("lost by the test", { interrupted: true });
      if (typeof fate === "object") await fate.sent;
      const reply = await send();
      if (fate === "unanswered") throw new ConnectionError("lost by the test", { interrupted: true });
      if (typeof fate === "object") await fate.answered;
      return reply;
    };
    const command: C["command"] = (args, options) => meet(args, () => connection.command(args, options));
    const pair: C["pair"] = (first, second, options) => meet(first, () => connection.pair(first, second, options));
    return new Proxy(connection, {
      get(target, name) {
        if (name === "command") return command;
        if (name === "pair") return pair;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };
  return {
    shared: (key) => wrap(connections.shared(key)),
    publishing: (key) => wrap(connections.publishing(key)),
    blocking(key) {
      const own: OwnConnection | undefined = connections.blocking(key);
      return own === undefined ? undefined : wrap(own);
    },
  };
}

/** Loses the `nth` of the commands that match, by default the first, and no other. */
export function losing(
  matches: (args: readonly Arg[]) => boolean,
  fate: Fate,
  nth: number = 1,
): (args: readonly Arg[]) => Fate {
  let left = nth;
  return (args) => {
    if (!matches(args)) return "well";
    left -= 1;
    return left === 0 ? fate : "well";
  };
}

/** Whether a command is the script that this word is an argument of. */
export function isScriptWith(word: string): (args: readonly Arg[]) => boolean {
  return (args) =>
    String(args[0]).startsWith("EVAL") && args.some((arg) => typeof arg === "string" && arg.includes(word));
}

export const ROOMY = { maxEntries: 1_000_000, overflow: "reject" } as const;
export const LIMITS = { maxItems: 1_000_000 };
export const GROUP = {
  from: "beginning",
  leaseMs: 60_000,
  maxAttempts: 3,
  maxDeadLetters: 100,
  order: "none",
  maxHeld: 1_000,
} as const;
export const CONSUMER = { consumer: "c1", leaseMs: 60_000, maxAttempts: 3, maxDeadLetters: 100 } as const;

export function entry(text: string): NewEntry {
  return { header: `header of ${text}`, data: text };
}

export function item(id: string, more: Partial<NewItem> = {}): NewItem {
  return { id, recipient: "", header: `header of ${id}`, data: id, priority: 0, delayMs: 0, ...more };
}

/** `a`, or `a#2` for a second attempt. */
export function textsOf({ deliveries }: Pick<Taken, "deliveries">): string[] {
  return deliveries.map(({ data, attempt }) => Buffer.from(data).toString() + (attempt === 1 ? "" : `#${attempt}`));
}

export function acks({ deliveries }: Taken): Outcome[] {
  return deliveries.map(({ receipt }) => ({ receipt, as: "ack" }));
}

/** Takes until there are `count` deliveries, waiting for up to 10 s. */
export async function collect(feed: Feed, count: number): Promise<Taken> {
  let sum: Taken = { deliveries: [], lost: [], gone: 0, expired: 0, poisoned: 0 };
  await until(
    async () => {
      const taken = await feed.take({ max: count - sum.deliveries.length, waitMs: 200 }, []);
      sum = {
        deliveries: [...sum.deliveries, ...taken.deliveries],
        lost: [],
        gone: sum.gone + taken.gone,
        expired: sum.expired + taken.expired,
        poisoned: sum.poisoned + taken.poisoned,
      };
      return sum.deliveries.length >= count;
    },
    { what: `${count} deliveries`, deadlineMs: 10_000 },
  );
  return sum;
}
