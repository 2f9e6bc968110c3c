/** Load with a ledger: what was tried, what was acknowledged, what was handled; and what has to hold between them. */

import { expect } from "vitest";
import { type Broker, connect, type ConnectOptions, SignalboxError } from "../../../src/index.js";
import { silentLogger } from "../../facades/support/lanes.js";
import { until } from "../../support/wait.js";

export type Facade = "events" | "queue";

export interface Load {
  readonly broker: Broker;
  /** Every number that a publish was called with. */
  readonly tried: ReadonlySet<number>;
  /** Those whose publish resolved. */
  readonly acked: ReadonlySet<number>;
  /** How often each was handed to the handler. */
  readonly handled: ReadonlyMap<number, number>;
  readonly failures: readonly unknown[];
  /** When a handler last began. */
  lastHandledAt(): number;
  /** Stops publishing and resolves when every call has settled. */
  stopPublishing(): Promise<void>;
  /** Waits until everything acknowledged was handled, then checks that nothing else was. */
  assertNothingLost(deadlineMs: number): Promise<void>;
  close(): Promise<void>;
}

const PUBLISHERS = 50;
const CONSUMERS = 20;

/** Publishes and consumes without pause. The handler is slow, so that there is always something left to do. */
export async function startLoad(
  url: string,
  facade: Facade,
  options: ConnectOptions = {},
  handlerMs = 2,
): Promise<Load> {
  const broker = await connect(url, {
    logger: silentLogger,
    onError: () => undefined,
    commandTimeoutMs: 1_500,
    ...options,
  });
  const name = `load-${facade}`;
  const tried = new Set<number>();
  const acked = new Set<number>();
  const handled = new Map<number, number>();
  const failures: unknown[] = [];
  let lastHandledAt = 0;
  const publishing = new AbortController();
  let next = 0;

  const handler = async (data: unknown): Promise<void> => {
    const number = Number(data);
    lastHandledAt = performance.now();
    handled.set(number, (handled.get(number) ?? 0) + 1);
    await new Promise((resolve) => setTimeout(resolve, handlerMs));
  };
  const consuming = { concurrency: CONSUMERS, leaseMs: 3_000 };
  if (facade === "events")
    await broker.events.subscribe(name, { ...consuming, group: "g", from: "beginning" }, handler);
  else await broker.queue(name).subscribe(consuming, handler);

  const publishOne = (number: number): Promise<unknown> =>
    facade === "events" ? broker.events.publish(name, number) : broker.queue(name).publish(number);
  const publisher = async (): Promise<void> => {
    while (!publishing.signal.aborted) {
      const number = next;
      next += 1;
      tried.add(number);
      try {
        await publishOne(number);
        acked.add(number);
      } catch (error) {
        failures.push(error);
        // A refusal comes at once: without a pause this loop would do nothing but collect them.
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  };
  const publishers = Array.from({ length: PUBLISHERS }, publisher);

  return {
    broker,
    tried,
    acked,
    handled,
    failures,
    lastHandledAt: () => lastHandledAt,
    async stopPublishing() {
      publishing.abort();
      await Promise.all(publishers);
    },
    async assertNothingLost(deadlineMs) {
      const missing = (): number[] => [...acked].filter((number) => !handled.has(number));
      await until(() => missing().length === 0, { deadlineMs, what: "everything acknowledged to be handled" }).catch(
        () => {
          const lost = missing();
          expect.fail(
            `${lost.length} of ${acked.size} acknowledged messages were not handled: ${lost.slice(0, 10).join(", ")} …`,
          );
        },
      );
      const phantoms = [...handled.keys()].filter((number) => !tried.has(number));
      expect(phantoms).toEqual([]);
      expect(failures.every((error) => error instanceof SignalboxError)).toBe(true);
    },
    close: () => broker.close({ drainMs: 500 }),
  };
}

/** Resolves with how long it takes, from now, until a handler begins again. */
export async function timeToProgress(load: Load, deadlineMs: number): Promise<number> {
  const start = performance.now();
  await until(() => load.lastHandledAt() > start, { deadlineMs, what: "a handler to begin again" });
  return load.lastHandledAt() - start;
}
