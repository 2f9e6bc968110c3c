/** Checks each kind of connection end to end. */

import type { Check } from "../../core/backend.js";
import { ConnectionError, toError } from "../../core/errors.js";
import type { Lane } from "./lane.js";
import { uptime } from "./ledger.js";
import type { Pool } from "./pool.js";
import type { Probe } from "./probe.js";
import type { Subscriber } from "./subscriber.js";

export interface Health {
  /** Round trip in milliseconds; of several primaries, the slowest. */
  readonly ping: () => Promise<number>;
  /** Never rejects. */
  readonly check: () => Promise<readonly Check[]>;
}

export function createHealth(pool: Pool, subscriber: Subscriber, probe: Probe): Health {
  const { topology, commands } = pool;

  const checkLane = (name: string, lane: Lane): Promise<Check>[] => {
    const slots = topology.primarySlots();
    if (slots.length === 0)
      return [Promise.resolve(failure(name, topology.problem ?? new ConnectionError("no primary is known")))];
    return slots.map((slot) => {
      const server = topology.ownerOf(slot);
      const own = slots.length === 1 ? name : `${name} ${server?.name ?? slot}`;
      const missing = [...lane.missing()].find((one) => one.server === server);
      return timed(own, async () => {
        // What is lost is told at once; what is just being connected is waited for.
        if (missing?.problem !== undefined) throw missing.problem;
        await lane.command(slot, ["PING"]);
      });
    });
  };
  return {
    async ping() {
      const startedAt = uptime();
      const slots = topology.primarySlots();
      await Promise.all((slots.length === 0 ? [0] : slots).map((slot) => commands.command(slot, ["PING"])));
      return uptime() - startedAt;
    },
    async check() {
      const publishing = pool.publishing;
      return Promise.all([
        ...checkLane("command", commands),
        ...(publishing === undefined ? [] : checkLane("publishing", publishing)),
        ...(pool.blocking.size === 0 ? [] : [Promise.resolve(checkBlocking(pool))]),
        ...(subscriber.used ? checkEars(subscriber, probe) : []),
      ]);
    },
  };
}

/** Each connection that listens, by what is published to it. */
function checkEars(subscriber: Subscriber, probe: Probe): Promise<Check>[] {
  const shards = subscriber.ears().filter(({ hears }) => hears === "shards");
  return [
    timed("subscriber", () => probe.any()),
    ...shards.map((ear) => timed(`sharded subscriber ${ear.server.name}`, () => probe.at(ear.server))),
  ];
}

/** A reader that blocks cannot be asked; its deadline ends it when it should have answered, so that living is being well. */
function checkBlocking({ blocking }: Pool): Check {
  const broken = [...blocking].filter((own) => own.broken).length;
  return broken === 0
    ? { name: "blocking", ok: true }
    : failure("blocking", new ConnectionError(`${broken} of ${blocking.size} blocking connections are not connected`));
}

async function timed(name: string, probe: () => Promise<void>): Promise<Check> {
  const startedAt = uptime();
  try {
    await probe();
    return { name, ok: true, latencyMs: uptime() - startedAt };
  } catch (error) {
    return failure(name, error);
  }
}

function failure(name: string, error: unknown): Check {
  return { name, ok: false, error: toError(error).message };
}
