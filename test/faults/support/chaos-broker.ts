/** Brokers for chaos runs: those of the library, or ones with a bug planted beneath the facades. */

import { STREAM } from "./chaos-load.js";
import { type Broker, connect as connectSound, type ConnectOptions } from "../../../src/index.js";

export { toError } from "../../../src/core/errors.js";
export { type Broker, type ConnectOptions, type Logger, SignalboxError } from "../../../src/index.js";

/** Small enough to be trimmed again and again in a run, and large enough for whoever falls behind. */
const STREAMS: NonNullable<ConnectOptions["streams"]> = { [STREAM]: { maxEntries: 50_000, overflow: "reject" } };

/** @param bug the name of a bug to plant */
export async function connect(url: string, given: ConnectOptions, bug?: string): Promise<Broker> {
  const options = { ...given, streams: STREAMS };
  if (bug === undefined) return await connectSound(url, options);
  const [{ PLANTED_BUGS }, { connectPlanted }] = await Promise.all([
    import("./planted-bugs.js"),
    import("./planted-broker.js"),
  ]);
  const planted = PLANTED_BUGS.find(({ name }) => name === bug);
  if (planted === undefined) throw new Error(`there is no bug "${bug}"`);
  return await connectPlanted(url, options, planted);
}
