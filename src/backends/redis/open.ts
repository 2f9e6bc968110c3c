/** Opens the connections and refuses a server that cannot keep what the options promise. */

import type { BackendContext, Broadcast } from "../../core/backend.js";
import { ConfigError, ConnectionError, toError } from "../../core/errors.js";
import { createBroadcast } from "./broadcast.js";
import type { Connections } from "./connection.js";
import { createHealth, type Health } from "./health.js";
import { type Ask, inspect } from "./inspect.js";
import { uptime } from "./ledger.js";
import { createWire } from "./frame.js";
import { Pool } from "./pool.js";
import { createProbe, startListeningTests } from "./probe.js";
import { Subscriber } from "./subscriber.js";
import { type RedisOptions, type RedisTarget, targetName } from "./target.js";

/** How often a connection that listens is tested while it hears nothing. */
const LISTENING_TEST_MS = 30_000;

/** Everything that the ports need of Redis, and the port that needs nothing more. */
export interface OpenRedis extends Health {
  readonly connections: Connections;
  readonly broadcast: Broadcast;
  /** Ends all sockets and timers. Safe to call twice. */
  readonly close: () => void;
}

/**
 * Connects, and checks each primary.
 *
 * @throws {AuthError} at once, when the login is refused
 * @throws {ConfigError} naming every setting that does not go with the options
 * @throws {ConnectionError} when the primaries do not all answer within `connectTimeoutMs`
 */
export async function openConnections(
  target: RedisTarget,
  options: RedisOptions,
  context: BackendContext,
): Promise<OpenRedis> {
  const pool = new Pool(target, options, context);
  const warned = new Set<string>();
  const warn = (warning: string): void => {
    if (warned.has(warning)) return;
    warned.add(warning);
    context.report(new ConfigError([warning]), "redis settings");
  };
  try {
    for (const warning of await inspectAll(pool, options)) warn(warning);
  } catch (error) {
    pool.close();
    if (!(error instanceof ConnectionError)) throw error;
    const { message: why } = error.cause instanceof ConnectionError ? error.cause : error;
    const message = `cannot open ${targetName(target)} within ${pool.connectTimeoutMs} ms: ${why}`;
    throw new ConnectionError(message, { cause: error });
  }
  // A server that is promoted or restarted later is looked at too: too late to refuse it, not to say so.
  pool.onCommandSocket = (socket) => {
    inspect((args) => socket.ask(args, pool.commandTimeoutMs), socket.server.name, options).then(
      ({ problems, warnings }) => [...problems, ...warnings].forEach(warn),
      // Lost again: asked when it is back.
      () => {},
    );
  };
  const wire = createWire();
  const subscriber = new Subscriber(pool, context.clock, {
    unpack: (heard) => wire.unpack(heard),
    report: (error) => context.report(toError(error), "redis subscriber"),
  });
  const probe = createProbe(pool, subscriber, context);
  const tests = startListeningTests(subscriber, probe, context, options.listeningTestMs ?? LISTENING_TEST_MS);
  const { ping, check } = createHealth(pool, subscriber, probe);
  return {
    connections: pool.connections,
    broadcast: createBroadcast(pool, subscriber, wire, context),
    ping,
    check,
    close() {
      tests.cancel();
      subscriber.close();
      pool.close();
    },
  };
}

/** @returns what the operator should know */
async function inspectAll(pool: Pool, options: RedisOptions): Promise<readonly string[]> {
  const { commands, topology } = pool;
  const until = uptime() + pool.connectTimeoutMs;
  const askAt = (slot: number): Ask => {
    return (args) => persistently(() => commands.command(slot, args, { deadlineMs: left(until) }), until);
  };
  // Whoever answers, the primaries are known from then on.
  await askAt(0)(["PING"]);
  const findings = await Promise.all(
    topology
      .primarySlots()
      .map((slot) => inspect(askAt(slot), topology.ownerOf(slot)?.name ?? "an unknown address", options)),
  );
  const problems = findings.flatMap((one) => one.problems);
  // What several servers have in common is said once.
  if (problems.length > 0) throw new ConfigError([...new Set(problems)]);
  return findings.flatMap(({ warnings }) => warnings);
}

/** Repeats a harmless command that was interrupted, while there is time. */
async function persistently<T>(command: () => Promise<T>, until: number): Promise<T> {
  for (;;) {
    try {
      return await command();
    } catch (error) {
      if (!(error instanceof ConnectionError && error.interrupted) || uptime() >= until) throw error;
    }
  }
}

function left(until: number): number {
  return Math.max(1, until - uptime());
}
