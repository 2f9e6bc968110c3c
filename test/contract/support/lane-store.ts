/** What every lane's store has in common: unique names, several backends, a close that closes them all. */

import type { Backend, BackendContext } from "../../../src/core/backend.js";
import { type Clock, systemClock } from "../../../src/core/clock.js";
import type { ContractStore } from "../../../src/testing/contract.js";

export interface LaneStore extends ContractStore {
  /** What the backends reported, as no caller was waiting for it: shown when a case fails. */
  readonly reports: readonly string[];
  /** Closes every backend, then whatever the lane keeps beneath them. */
  close(): Promise<void>;
}

export type OpenStore = () => Promise<LaneStore>;

/** How one lane differs from another. */
export interface LaneParts {
  /** Opens a backend on the one store. */
  open(context: BackendContext): Promise<Backend>;
  /** Opens further backends; `open` where absent. */
  openSecond?(context: BackendContext): Promise<Backend>;
  /** Default the machine's. */
  readonly clock?: Clock;
  elapse(ms: number): Promise<void>;
  now(): Promise<number>;
  /** Frees the store itself, once its backends are closed. */
  release?(): Promise<void>;
}

let stores = 0;

/** Assembles a store. Its namespace is unique, so that cases may share a server and run at the same time. */
export async function laneStore(parts: LaneParts): Promise<LaneStore> {
  const prefix = `t${process.pid}-${(stores += 1)}`;
  const reports: string[] = [];
  const context = (namespace: string): BackendContext => ({
    namespace: `${prefix}.${namespace}`,
    clock: parts.clock ?? systemClock,
    report: (error, where) => void reports.push(`${where}: ${String(error)}`),
  });
  let names = 0;
  const backends = [await parts.open(context("main"))];
  const [backend] = backends;
  if (backend === undefined) throw new Error("a list of one has a first");
  const openSecond = parts.openSecond ?? parts.open;
  return {
    backend,
    reports,
    second: async ({ namespace = "main" } = {}) => {
      const second = await openSecond(context(namespace));
      backends.push(second);
      return second;
    },
    takeReports: () => reports.splice(0),
    elapse: parts.elapse,
    now: parts.now,
    name: () => `name-${(names += 1)}`,
    close: async () => {
      const closed = await Promise.allSettled(backends.map((one) => one.close()));
      await parts.release?.();
      for (const result of closed) if (result.status === "rejected") throw result.reason;
    },
  };
}
