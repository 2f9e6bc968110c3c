/** Publishes a token to itself: whether what is published is really heard, which no answer to a PING says. */

import { randomUUID } from "node:crypto";
import type { BackendContext, Bytes } from "../../core/backend.js";
import { type Timer, wait } from "../../core/clock.js";
import { ConnectionError } from "../../core/errors.js";
import { PROBE, probeChannel } from "./broadcast.js";
import type { Ear } from "./ear.js";
import type { Pool } from "./pool.js";
import { SLOT_COUNT } from "./slots.js";
import type { PubSubKind } from "./socket.js";
import type { Subscriber } from "./subscriber.js";
import type { Server } from "./target.js";

/** Rejects when a token that Redis has taken is not heard within the command timeout, or cannot be published. */
export interface Probe {
  /** Through the connection for channels and patterns. */
  any(): Promise<void>;
  /** Through the connection for sharded channels at that server. */
  at(server: Server): Promise<void>;
}

/** A token that Redis has taken did not come: the connection that listens is not what it seems. */
export class NotHeardError extends ConnectionError {}

export function createProbe(pool: Pool, subscriber: Subscriber, { namespace, clock }: BackendContext): Probe {
  const { topology } = pool;
  const id = randomUUID();
  const awaited = new Map<string, () => void>();
  const listening = new Map<string, Promise<unknown>>();

  function listen(kind: PubSubKind, channel: string): Promise<unknown> {
    const listener = { message: (data: Bytes) => awaited.get(data.toString())?.(), gap() {} };
    const present =
      listening.get(channel) ??
      subscriber.subscribe(kind, channel, listener).catch((error: unknown) => {
        listening.delete(channel);
        throw error;
      });
    listening.set(channel, present);
    return present;
  }

  async function send(kind: PubSubKind, channel: string): Promise<void> {
    const problem = subscriber.problemOf(kind, channel);
    if (problem !== undefined) throw problem;
    await listen(kind, channel);
    const token = randomUUID();
    const heard = new AbortController();
    try {
      const arrived = new Promise<true>((resolve) => awaited.set(token, () => resolve(true)));
      const command = kind === "sharded" ? "SPUBLISH" : "PUBLISH";
      await pool.connections.shared(channel).command([command, channel, token]);
      const tooLate = wait(clock, pool.commandTimeoutMs, heard.signal).then(() => false);
      if (!(await Promise.race([arrived, tooLate])))
        throw new NotHeardError(`a published message was not heard within ${pool.commandTimeoutMs} ms`);
    } finally {
      awaited.delete(token);
      heard.abort();
    }
  }

  /** A channel in one of the server's slots: with n primaries about n have to be tried. */
  function channelAt(server: Server): string {
    for (let number = 0; number < SLOT_COUNT; number += 1) {
      const channel = probeChannel(namespace, `${id}:${number}`);
      if (topology.ownerOf(topology.slotOf(channel)) === server) return channel;
    }
    throw new ConnectionError(`Redis at ${server.name} serves no slots`);
  }

  return {
    any: () => send("channel", probeChannel(namespace, id)),
    at: async (server) => await send("sharded", channelAt(server)),
  };
}

/**
 * Probes each connection that has heard nothing for `everyMs`, and replaces one that is deaf. Whether that is so cannot be
 * known while nothing can be published.
 */
export function startListeningTests(
  subscriber: Subscriber,
  probe: Probe,
  { clock, report }: BackendContext,
  everyMs: number,
): Timer {
  const heardBefore = new WeakMap<Ear, number>();
  let timer: Timer;

  async function test(ear: Ear): Promise<void> {
    const { heard, socket } = ear;
    const isIdle = heardBefore.get(ear) === heard;
    heardBefore.set(ear, heard);
    if (!isIdle || socket === undefined || ![...ear.subscriptions].some(isUsers)) return;
    try {
      await (ear.hears === "shards" ? probe.at(ear.server) : probe.any());
    } catch (error) {
      if (!(error instanceof NotHeardError) || ear.socket !== socket) return;
      report(error, "redis subscriber");
      ear.replace(error);
    }
    heardBefore.set(ear, ear.heard);
  }

  const next = (): void => {
    timer = clock.setTimer(() => {
      for (const ear of subscriber.ears()) void test(ear);
      next();
    }, everyMs);
  };
  next();
  return { cancel: () => timer.cancel() };
}

function isUsers({ name }: { readonly name: string }): boolean {
  return !name.includes(PROBE);
}
