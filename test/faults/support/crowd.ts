/** Brokers that each hold some members of a presence and watch it: what a fault must not disturb, or only for a while. */

import { expect } from "vitest";
import { type Broker, connect, type ConnectOptions, type PresentMember } from "../../../src/index.js";
import { silentLogger } from "../../facades/support/lanes.js";
import { type Watcher, watching } from "../../facades/support/watching.js";
import { until } from "../../support/wait.js";

/** Short enough to outlive it in a test; its members go within two seconds more. */
export const LEASE_MS = 4_000;
export const GONE_MS = LEASE_MS + 2_000;
/** A fault that is over is got over within this. */
export const HEAL_MS = 5_000;
const EACH = 5;

export class Crowd implements AsyncDisposable {
  readonly brokers: readonly Broker[];
  readonly watchers: readonly Watcher[];
  readonly reports: readonly Error[];
  readonly #ids: readonly string[];

  private constructor(
    brokers: readonly Broker[],
    watchers: readonly Watcher[],
    ids: readonly string[],
    reports: Error[],
  ) {
    this.brokers = brokers;
    this.watchers = watchers;
    this.reports = reports;
    this.#ids = ids;
  }

  static async gather(url: string, options: ConnectOptions = {}, size: number = 3): Promise<Crowd> {
    const reports: Error[] = [];
    const onError = (error: Error): void => void reports.push(error);
    const brokers: Broker[] = [];
    const ids: string[] = [];
    for (let index = 0; index < size; index += 1) {
      const broker = await connect(url, { presenceLeaseMs: LEASE_MS, logger: silentLogger, onError, ...options });
      brokers.push(broker);
      const own = Array.from({ length: EACH }, (_, member) => `crowd-${index}-${member}`);
      ids.push(...own);
      await Promise.all(own.map((id) => broker.presence("lobby").enter(id, { of: index })));
    }
    const watchers = await Promise.all(brokers.map((broker) => watching(broker.presence("lobby"))));
    return new Crowd(brokers, watchers, ids, reports);
  }

  /** Waits until everybody is listed and seen by everybody, and nobody else. */
  async untilWhole(deadlineMs: number = HEAL_MS, others: readonly string[] = []): Promise<void> {
    const expected = [...this.#ids, ...others].toSorted();
    const isWhole = (ids: Iterable<string>): boolean => [...ids].toSorted().join() === expected.join();
    const startedAt = performance.now();
    await until(
      async () => {
        if (!this.watchers.every(({ present }) => isWhole(present.keys()))) return false;
        return isWhole((await this.listed()).map(({ id }) => id));
      },
      { deadlineMs, everyMs: 20, what: "the crowd to be whole again" },
    );
    expect(performance.now() - startedAt).toBeLessThan(deadlineMs);
    expect(this.watchers.flatMap(({ problems }) => problems)).toEqual([]);
  }

  /** Everybody, as the store has it. */
  async listed(): Promise<PresentMember[]> {
    const members: PresentMember[] = [];
    let cursor: string | undefined;
    do {
      const page = await this.brokers[0]!.presence("lobby").list({
        limit: 1_000,
        ...(cursor !== undefined && { cursor }),
      });
      members.push(...page.members);
      cursor = page.cursor;
    } while (cursor !== undefined);
    return members;
  }

  /** Who of the crowd was seen to leave, by any watcher. */
  leavers(): string[] {
    return this.watchers.flatMap(({ seen }) => seen.filter((text) => text.startsWith("left crowd-")));
  }

  /** Waits until each watcher has seen all of these leave, and expects each of them once. */
  async untilLeft(ids: readonly string[], deadlineMs: number): Promise<void> {
    await until(() => this.watchers.every((watcher) => ids.every((id) => !watcher.present.has(id))), {
      deadlineMs,
      what: `${ids.length} members to leave`,
    });
    for (const watcher of this.watchers) {
      const lefts = watcher.seen.filter((text) => text.startsWith("left ") && !text.startsWith("left crowd-"));
      expect(lefts.toSorted()).toEqual(ids.map((id) => `left ${id}`).toSorted());
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.brokers.map((broker) => broker.close({ drainMs: 0 })));
  }
}
