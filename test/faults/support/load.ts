/** Load with a ledger: what was tried, what was acknowledged, what was handled; and what has to hold between them. */

import { expect } from "vitest";
import {
  type Broker,
  connect,
  type ConnectOptions,
  type Context,
  type Durability,
  SignalboxError,
} from "../../../src/index.js";
import { silentLogger } from "../../facades/support/lanes.js";
import { pause, until } from "../../support/wait.js";
import { loadNames } from "./systems.js";

export type Facade = "events" | "queue";
export const FACADES: readonly Facade[] = ["events", "queue"];

/** The group of the events' consumer. */
export const LOAD_GROUP = "g";

export interface LoadOptions {
  /** Of the load's broker, which is given 1.5 s for a command unless this says otherwise. */
  readonly connect?: ConnectOptions;
  /** How long a handler takes. Default 20. */
  readonly handlerMs?: number;
  /** Default 3,000. */
  readonly leaseMs?: number;
}

export interface SettleOptions {
  /** The store was made to forget: what is missing then is for the test to judge. Default false. */
  readonly mayLose?: boolean;
  /** The server may have forgotten what became of interrupted batches: some are stored again, under the same ids. */
  readonly mayDouble?: boolean;
  /** Default 30,000. */
  readonly deadlineMs?: number;
}

/** What became known of one number's message. */
interface Handled {
  /** How often it was handed to the handler. */
  times: number;
  readonly ids: Set<string>;
  readonly positions: Set<string>;
}

export interface Load {
  readonly facade: Facade;
  readonly broker: Broker;
  /** Every number that a publish was called with. */
  readonly tried: ReadonlySet<number>;
  /** Those whose publish resolved, with what the receipt says: of a queue's message its position is its id. */
  readonly acked: ReadonlyMap<number, { readonly id: string; readonly position: string }>;
  /** The levels that receipts have named. */
  readonly levels: ReadonlySet<Durability>;
  readonly handled: ReadonlyMap<number, Handled>;
  /** What publishes rejected with. */
  readonly failures: readonly unknown[];
  /** What was reported because no caller was waiting for it. */
  readonly reports: readonly unknown[];
  /** Acknowledged and not handled. */
  missing(): readonly number[];
  /** When a handler last began. */
  lastHandledAt(): number;
  /** Stops publishing and resolves when every call has settled. */
  stopPublishing(): Promise<void>;
  /** Once nothing is published any more: waits until the store has nothing left to do, then checks the ledger. */
  settle(options?: SettleOptions): Promise<void>;
  close(): Promise<void>;
}

const PUBLISHERS = 20;
const CONSUMERS = 20;
/** Beyond it the publishers are slower than the handlers, so that what a fault leaves behind is worked off in about a second. */
const MAX_BACKLOG = 800;
/** No fault of a few seconds may be reported more often than this. */
const MAX_REPORTS = 60;

const NOTHING_LEFT = { waiting: 0, leased: 0, lag: 0, pending: 0, delayed: 0, retrying: 0, dead: 0 };

/** Publishes and consumes without pause. The handler is slow, so that there is always something left to do. */
export async function startLoad(url: string, facade: Facade, options: LoadOptions = {}): Promise<Load> {
  const { handlerMs = 20, leaseMs = 3_000 } = options;
  const reports: unknown[] = [];
  const broker = await connect(url, {
    logger: silentLogger,
    onError: (error) => void reports.push(error),
    commandTimeoutMs: 1_500,
    ...options.connect,
  });
  const name = loadNames[facade];
  const tried = new Set<number>();
  const acked = new Map<number, { id: string; position: string }>();
  const levels = new Set<Durability>();
  const handled = new Map<number, Handled>();
  const failures: unknown[] = [];
  const publishing = new AbortController();
  let lastHandledAt = 0;
  let running = 0;
  let mostRunning = 0;
  let next = 0;

  const handler = async (data: unknown, { message }: Context): Promise<void> => {
    const number = Number(data);
    lastHandledAt = performance.now();
    const entry = handled.get(number) ?? { times: 0, ids: new Set(), positions: new Set() };
    handled.set(number, entry);
    entry.times += 1;
    entry.ids.add(message.id);
    entry.positions.add(message.position);
    running += 1;
    mostRunning = Math.max(mostRunning, running);
    await pause(handlerMs);
    running -= 1;
  };
  // Attempts that a fault abandons count, and none of them is the message's own fault.
  const consuming = { concurrency: CONSUMERS, leaseMs, retry: { maxAttempts: 20 } };
  if (facade === "events")
    await broker.events.subscribe(name, { ...consuming, group: LOAD_GROUP, from: "beginning" }, handler);
  else await broker.queue(name).subscribe(consuming, handler);

  const publishOne = async (number: number): Promise<{ id: string; position: string; durability: Durability }> => {
    if (facade === "events") return await broker.events.publish(name, number);
    const receipt = await broker.queue(name).publish(number);
    return { ...receipt, position: receipt.id };
  };
  const publisher = async (): Promise<void> => {
    while (!publishing.signal.aborted) {
      // Never quite still: what a fault has lost stays in this backlog for ever.
      if (acked.size - handled.size >= MAX_BACKLOG) await pause(25);
      const number = next;
      next += 1;
      tried.add(number);
      try {
        const receipt = await publishOne(number);
        acked.set(number, receipt);
        levels.add(receipt.durability);
      } catch (error) {
        failures.push(error);
        // A refusal comes at once: without a pause this loop would do nothing but collect them.
        await pause(20);
      }
    }
  };
  const publishers = Array.from({ length: PUBLISHERS }, publisher);

  const missing = (): readonly number[] => [...acked.keys()].filter((number) => !handled.has(number));
  /** What the store says is left; a dead letter counts, as no message of this load deserves to be one. */
  const left = async (): Promise<string | undefined> => {
    const stats = facade === "queue" ? await broker.queue(name).stats() : (await broker.events.stats(name)).groups[0];
    const { waiting, leased, lag, pending, delayed, retrying, dead } = { ...NOTHING_LEFT, ...stats };
    return waiting + leased + lag + pending + delayed + retrying + dead === 0 ? undefined : JSON.stringify(stats);
  };

  return {
    facade,
    broker,
    tried,
    acked,
    levels,
    handled,
    failures,
    reports,
    missing,
    lastHandledAt: () => lastHandledAt,
    async stopPublishing() {
      publishing.abort();
      await Promise.all(publishers);
    },
    async settle({ mayLose = false, mayDouble = mayLose, deadlineMs = 30_000 } = {}) {
      let rest: string | undefined;
      const isSettled = async (): Promise<boolean> => {
        rest = await left();
        return rest === undefined && (mayLose || missing().length === 0);
      };
      await until(isSettled, { deadlineMs, everyMs: 20 }).catch(() =>
        expect.fail(
          `${facade}: ${missing().length} of ${acked.size} acknowledged are lost, ${rest ?? "and nothing is left to do"}`,
        ),
      );
      const phantoms = [...handled.keys()].filter((number) => !tried.has(number));
      expect(phantoms, "handled without having been published").toEqual([]);
      // What was lost by the store and published again by the library, which had no answer yet, has a second position.
      const astray = [...handled].filter(([number, { ids, positions }]) => {
        const receipt = acked.get(number);
        if (ids.size > 1 || (receipt !== undefined && !ids.has(receipt.id))) return true;
        return !mayDouble && (positions.size > 1 || (receipt !== undefined && !positions.has(receipt.position)));
      });
      expect(astray, "stored twice, or not as the receipt says").toEqual([]);
      expect(mostRunning, "handlers at once").toBeLessThanOrEqual(CONSUMERS);
      const untyped = [...failures, ...reports].filter((error) => !(error instanceof SignalboxError));
      expect(untyped, "errors without a type").toEqual([]);
      expect(reports.length, `reports: ${reports.slice(-3).map(String).join("; ")}`).toBeLessThanOrEqual(MAX_REPORTS);
      await until(async () => (await broker.health()).status === "up", { what: `the ${facade}' broker to be well` });
    },
    async close() {
      publishing.abort();
      await broker.close({ drainMs: 500 });
    },
  };
}

/** Resolves with how long it takes, from now, until a handler begins again; 0 when nothing is left to handle. */
export async function timeToProgress(load: Load, deadlineMs: number): Promise<number> {
  const start = performance.now();
  if (load.missing().length === 0) return 0;
  await until(() => load.lastHandledAt() > start, {
    deadlineMs,
    what: `a handler of the ${load.facade} to begin again`,
  });
  return load.lastHandledAt() - start;
}
