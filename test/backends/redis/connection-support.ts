/** What the connection tests share: opening against a harness server, counting timers, and a server that answers as told. */

import { createServer, type Server as TcpServer, type Socket as TcpSocket } from "node:net";
import { onTestFinished } from "vitest";
import { type OpenRedis, openConnections } from "../../../src/backends/redis/open.js";
import type { RedisOptions, RedisTarget } from "../../../src/backends/redis/target.js";
import { type Clock, systemClock } from "../../../src/core/clock.js";
import type { RedisCluster, RedisServer, SentinelSet } from "../../support/redis-servers.js";
import { harnessClientName, sentinelMasterName } from "../../support/redis-servers.js";

const base = { tls: false, database: 0 } as const;

export function standalone({ port }: { readonly port: number }, more: Partial<RedisTarget> = {}): RedisTarget {
  return { ...base, ...more, kind: "standalone", host: "127.0.0.1", port };
}

export function clusterOf(cluster: RedisCluster): RedisTarget {
  return { ...base, kind: "cluster", nodes: cluster.nodes.map(({ port }) => ({ host: "127.0.0.1", port })) };
}

export function sentinelsOf(set: SentinelSet, primary = sentinelMasterName): RedisTarget {
  const sentinels = set.sentinels.map(({ port }) => ({ host: "127.0.0.1", port }));
  return { ...base, kind: "sentinel", sentinels, primary };
}

export interface Opened extends OpenRedis {
  /** What was reported, as `where: message`. */
  readonly reports: readonly string[];
  /** Timers that are set and neither fired nor cancelled. */
  timers(): number;
}

/** Opens with `memory` durability unless told otherwise, and closes at the end of the test. */
export async function open(target: RedisTarget, options: Partial<RedisOptions> = {}): Promise<Opened> {
  const reports: string[] = [];
  const { clock, timers } = countingClock();
  const redis = await openConnections(
    target,
    { durability: "memory", replicas: 1, ...options },
    {
      namespace: "test",
      clock,
      report: (error, where) => reports.push(`${where}: ${error instanceof Error ? error.message : String(error)}`),
    },
  );
  onTestFinished(redis.close);
  return { ...redis, reports, timers };
}

/** The error that `work` rejects with. */
export async function failureOf(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("it was expected to fail");
}

/** Clients on a server other than the harness's, replicas and Sentinels left out. */
export async function clientsOf(server: RedisServer): Promise<readonly string[]> {
  const list = String(await server.cli("CLIENT", "LIST"));
  return list
    .trim()
    .split("\n")
    .filter((line) => !line.includes(`name=${harnessClientName}`) && !/flags=[A-Z]*[SM]/.test(line));
}

function countingClock(): { clock: Clock; timers: () => number } {
  const pending = new Set<object>();
  return {
    timers: () => pending.size,
    clock: {
      now: systemClock.now,
      setTimer(fire, ms) {
        const timer = systemClock.setTimer(() => {
          pending.delete(timer);
          fire();
        }, ms);
        const counted = {
          cancel() {
            pending.delete(timer);
            timer.cancel();
          },
        };
        pending.add(timer);
        return counted;
      },
    },
  };
}

export interface FakeRedis {
  readonly port: number;
  /** The commands so far, each as its words. */
  readonly commands: readonly (readonly string[])[];
  /** Connections that are open now. */
  connections(): number;
  /** Connections so far. */
  accepted(): number;
  /** Ends those that are open. */
  drop(): void;
}

const INFO =
  "redis_version:7.0.15\r\nrole:master\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\nconnected_slaves:0\r\n";

/**
 * A server that answers as told: the test returns raw RESP for a command, `null` to stay silent, or `undefined` for what
 * a healthy server says. It ends with the test.
 */
export async function fakeRedis(
  answer: (words: readonly string[], socket: TcpSocket) => string | null | undefined,
): Promise<FakeRedis> {
  const commands: (readonly string[])[] = [];
  const sockets = new Set<TcpSocket>();
  let accepted = 0;
  const drop = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const server = createServer((socket) => {
    let text = "";
    accepted += 1;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {}); // a client that resets its connection
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      for (let parsed = firstCommand(text); parsed !== undefined; parsed = firstCommand(text)) {
        text = text.slice(parsed.length);
        commands.push(parsed.words);
        const reply = answer(parsed.words, socket);
        if (reply !== null) socket.write(reply ?? healthy(parsed.words));
      }
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  onTestFinished(() => {
    drop();
    server.close();
  });
  return { port: portOf(server), commands, connections: () => sockets.size, accepted: () => accepted, drop };
}

function portOf(server: TcpServer): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the fake server has no port");
  return address.port;
}

/** What a server without data would say. */
function healthy([name = ""]: readonly string[]): string {
  if (name === "INFO") return bulk(INFO);
  if (name === "PING") return "+PONG\r\n";
  return "+OK\r\n";
}

export function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
}

/** Commands are arrays of bulk strings; an incomplete one waits for the rest. */
function firstCommand(text: string): { words: string[]; length: number } | undefined {
  const head = /^\*(\d+)\r\n/.exec(text);
  if (head === null) return undefined;
  let at = head[0].length;
  const words: string[] = [];
  for (let count = Number(head[1]); count > 0; count -= 1) {
    const size = /^\$(\d+)\r\n/.exec(text.slice(at));
    if (size === null) return undefined;
    const start = at + size[0].length;
    const end = start + Number(size[1]);
    if (text.length < end + 2) return undefined;
    words.push(text.slice(start, end));
    at = end + 2;
  }
  return { words, length: at };
}
