/** A stream with one group that has read nothing: what most cases of the log start with. */

import type { Backend, DeadLetters, Feed, GroupSettings, GroupStats, Log, Retention } from "../core/backend.js";
import type { ContractStore } from "./contract.js";
import { countsOf, first, GROUP, type GroupCounts, keyed, ROOMY, textsOf } from "./fixtures.js";

export interface LogGroup {
  readonly log: Log;
  readonly stream: string;
  readonly group: string;
  /** Appends an entry for each text, with its key where it has one; resolves with their positions. */
  append(...texts: readonly string[]): Promise<readonly string[]>;
  appendWithin(retention: Retention, ...texts: readonly string[]): Promise<readonly string[]>;
  /** Opens a consumer; by default under a new name and on the store's first backend. */
  open(backend?: Backend): Promise<Feed>;
  letters(): DeadLetters;
  /** What the stream holds. */
  texts(): Promise<readonly string[]>;
  stats(): Promise<GroupStats>;
  /** Its counts, but for its name. */
  counts(): Promise<Omit<GroupCounts, "group">>;
}

export async function startGroup(
  store: ContractStore,
  settings: Partial<GroupSettings> = {},
  stream: string = store.name(),
): Promise<LogGroup> {
  const { log } = store.backend;
  const group = store.name();
  await log.createGroup(stream, group, { ...GROUP, ...settings });
  const appendWithin: LogGroup["appendWithin"] = async (retention, ...texts) => {
    const appended = await log.append(stream, texts.map(keyed), retention);
    return appended.map(({ position }) => position);
  };
  const stats = async (): Promise<GroupStats> =>
    first((await log.stats(stream)).groups.filter((one) => one.group === group));
  return {
    log,
    stream,
    group,
    append: (...texts) => appendWithin(ROOMY, ...texts),
    appendWithin,
    open: (backend = store.backend) => backend.log.open(stream, group, store.name()),
    letters: () => log.deadLetters(stream, group),
    texts: async () => textsOf(await log.read(stream, { max: 1_000 })),
    stats,
    counts: async () => {
      const { group: _name, ...counts } = countsOf(await stats());
      return counts;
    },
  };
}
