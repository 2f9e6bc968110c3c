/** Brokers for chaos runs: those of the library, or ones with a bug planted, or somebody who observes, beneath the facades. */

import { STREAM } from "./chaos-load.js";
import type { Backend } from "../../../src/core/backend.js";
import { type Broker, connect as connectSound, type ConnectOptions } from "../../../src/index.js";
import type { PlantedBug } from "./planted.js";

export { toError } from "../../../src/core/errors.js";
export { type Broker, type ConnectOptions, type Logger, SignalboxError } from "../../../src/index.js";

/** Puts something between the facades and a store. */
export type Observe = (backend: Backend) => Backend;

export interface Beneath {
  /** The name of a bug to plant. */
  readonly bug: string | undefined;
  readonly observe: Observe | undefined;
}

/** Small enough to be trimmed again and again in a run, and large enough for whoever falls behind. */
const STREAMS: NonNullable<ConnectOptions["streams"]> = { [STREAM]: { maxEntries: 50_000, overflow: "reject" } };

export async function connect(
  url: string,
  given: ConnectOptions,
  { bug, observe }: Beneath = { bug: undefined, observe: undefined },
): Promise<Broker> {
  const options = { ...given, streams: STREAMS };
  if (bug === undefined && observe === undefined) return await connectSound(url, options);
  const { connectOver } = await import("./planted-broker.js");
  const planted = bug === undefined ? undefined : await plantedBug(bug);
  return await connectOver(url, options, planted, observe);
}

async function plantedBug(name: string): Promise<PlantedBug> {
  const [{ PLANTED_BUGS }, { PLANTED_QUEUE_BUGS }] = await Promise.all([
    import("./planted-bugs.js"),
    import("./planted-queue-bugs.js"),
  ]);
  const bug = [...PLANTED_BUGS, ...PLANTED_QUEUE_BUGS].find((one) => one.name === name);
  if (bug === undefined) throw new Error(`there is no bug "${name}"`);
  return bug;
}
