/** What a planted bug is, and what happens while it is at work. */

import type { RedisOptions } from "../../../src/backends/redis/target.js";
import type { Backend } from "../../../src/core/backend.js";
import type { Scripted } from "./chaos-run.js";
import type { Rule } from "./history-findings.js";

/** One command to the store, beside the library. */
export type RawRedis = (...args: string[]) => Promise<unknown>;

export interface PlantedBug {
  readonly name: string;
  /** By what the checker finds it. */
  readonly foundBy: Rule;
  readonly scenario: Scenario;
  /** Changes what the store is opened with. */
  readonly redis?: Partial<RedisOptions>;
  plant?(sound: Backend, redis: RawRedis): Backend;
  /** Told of each failure that the library reports. */
  heard?(where: string, redis: RawRedis): void;
}

export type Scenario = keyof typeof SCENARIOS;

/** What happens while the bugs are at work, and to how many consumers of each group: just enough. */
export const SCENARIOS = {
  calm: { consumers: 1, script: [{ kind: "scripts-flushed" }, { kind: "clients-killed" }] },
  freeze: { consumers: 2, script: [{ kind: "consumer-frozen", ms: 2_000 }] },
  deaths: {
    consumers: 2,
    script: [{ kind: "calm", ms: 1_000 }, { kind: "consumer-killed" }, { kind: "consumer-killed" }],
  },
  store: {
    consumers: 1,
    script: [
      { kind: "server-frozen", ms: 900 },
      { kind: "calm", ms: 700 },
      { kind: "memory-full", ms: 400 },
      { kind: "group-destroyed", quiet: true },
    ],
  },
  link: { consumers: 1, script: [{ kind: "link-forgotten", ms: 600 }] },
  lull: { consumers: 1, script: [{ kind: "calm", ms: 1_500 }] },
  loneDeath: { consumers: 1, script: [{ kind: "calm", ms: 500 }, { kind: "publisher-killed" }] },
} as const satisfies Readonly<Record<string, { readonly consumers: number; readonly script: readonly Scripted[] }>>;
