/** A look at the Redis server from outside: its CPU time, its memory, its command counts; and the bare client. */

import { createClient } from "@redis/client";
import { assertEqual } from "./workload.js";

/** The client as its own documentation makes it fastest: no timer for each command. */
export async function connectBare(url: string) {
  const client = createClient({ url, commandOptions: { timeout: 0 }, maintNotifications: "disabled" });
  client.on("error", (error: unknown) => {
    process.stderr.write(`bench: the bare client failed: ${String(error)}\n`);
  });
  await client.connect();
  return client;
}

export type BareClient = Awaited<ReturnType<typeof connectBare>>;

export interface RedisProbe {
  readonly url: string;
  readonly version: string;
  /** CPU time that the server has used so far. */
  cpuMicros(): Promise<number>;
  /** Memory of all keys. */
  keyBytes(): Promise<number>;
  /** Removes all keys. */
  clear(): Promise<void>;
  resetCommandStats(): Promise<void>;
  /** Calls and microseconds by command, most expensive first. */
  commandStats(): Promise<readonly { command: string; calls: number; micros: number }[]>;
  close(): Promise<void>;
}

/** @throws {Error} when the database holds anything: it is going to be flushed */
export async function openProbe(url: string): Promise<RedisProbe> {
  const client = await connectBare(url);
  const info = (section: string): Promise<string> => client.sendCommand<string>(["INFO", section]);
  try {
    assertEqual(`keys in the database of --url, which this flushes`, await client.sendCommand(["DBSIZE"]), 0);
    const version = field(await info("server"), "redis_version");
    return {
      url,
      version,
      async cpuMicros() {
        const text = await info("cpu");
        return (Number(field(text, "used_cpu_user")) + Number(field(text, "used_cpu_sys"))) * 1e6;
      },
      keyBytes: () => keyBytes(client),
      clear: async () => void (await client.sendCommand(["FLUSHDB"])),
      resetCommandStats: async () => void (await client.sendCommand(["CONFIG", "RESETSTAT"])),
      async commandStats() {
        const lines = (await info("commandstats")).matchAll(/^cmdstat_([^:]+):calls=(\d+),usec=(\d+)/gm);
        return [...lines]
          .map(([, command = "", calls, micros]) => ({ command, calls: Number(calls), micros: Number(micros) }))
          .sort((a, b) => b.micros - a.micros);
      },
      close: async () => client.destroy(),
    };
  } catch (error) {
    client.destroy();
    throw error;
  }
}

async function keyBytes(client: BareClient): Promise<number> {
  let bytes = 0;
  for await (const keys of client.scanIterator({ COUNT: 1_000 })) {
    // SAMPLES 0: every element is looked at, none extrapolated.
    const sizes = await Promise.all(keys.map((key) => client.sendCommand(["MEMORY", "USAGE", key, "SAMPLES", "0"])));
    for (const size of sizes) bytes += Number(size);
  }
  return bytes;
}

function field(info: string, name: string): string {
  return new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1] ?? "";
}
