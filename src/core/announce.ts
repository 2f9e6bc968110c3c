/** Tells the log of a server that is connected to and left, under the names that its operators know from elsewhere. */

import type { Backend } from "./backend.js";
import { toError } from "./errors.js";
import type { Telemetry } from "./telemetry.js";

export interface Server {
  /** Without its password. */
  readonly url: string;
  readonly isCluster: boolean;
}

/** Opens a Redis, and tells of that and of its end. */
export async function announced(
  { url, isCluster }: Server,
  telemetry: Telemetry,
  open: () => Promise<Backend>,
): Promise<Backend> {
  const fields = { url, is_cluster: isCluster };
  telemetry.log(isCluster ? "initializing_redis_cluster" : "initializing_redis_single", fields);
  let backend: Backend;
  try {
    backend = await open();
  } catch (error) {
    telemetry.log("redis_initialization_failed", { ...fields, err: toError(error) });
    throw error;
  }
  telemetry.log("redis_initialized", fields);
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    telemetry.log("closing_redis_connection", fields);
    await backend.close();
    telemetry.log("redis_connection_closed", fields);
  };
  return { ...backend, close: () => (closing ??= close()) };
}
