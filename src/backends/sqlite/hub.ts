/** Who listens in this process, and to what. */

import type { BackendContext, BroadcastListener, BroadcastMessage, BroadcastTarget } from "../../core/backend.js";
import { compileGlob } from "../../core/glob.js";

/** What a message is for. */
export type Destination = Pick<BroadcastMessage, "channel" | "sharded">;

export interface Hub {
  /** @param since of other processes' messages, only those behind this one are heard. @returns how to remove it */
  add(target: BroadcastTarget, listener: BroadcastListener, since: number): () => void;
  hears(destination: Destination): boolean;
  /** @param id where the message stands among those of other processes; none for our own */
  deliver(destination: Destination, data: Uint8Array, id?: number): void;
  gap(reason: string): void;
}

interface Listening {
  readonly listener: BroadcastListener;
  readonly since: number;
}

interface PatternListening extends Listening {
  readonly matches: (channel: string) => boolean;
}

export function createHub(report: BackendContext["report"]): Hub {
  const exact = new Map<string, Set<Listening>>();
  const sharded = new Map<string, Set<Listening>>();
  const patterns = new Set<PatternListening>();

  function of({ channel, sharded: isSharded }: Destination): Listening[] {
    if (isSharded) return [...(sharded.get(channel) ?? [])];
    return [...(exact.get(channel) ?? []), ...[...patterns].filter(({ matches }) => matches(channel))];
  }

  /** A listener that throws must not keep the message from the others. */
  function call(run: () => void): void {
    try {
      run();
    } catch (error) {
      report(error, "broadcast listener");
    }
  }

  return {
    add(target, listener, since) {
      if ("pattern" in target) {
        const listening = { listener, since, matches: compileGlob(target.pattern) };
        patterns.add(listening);
        return () => void patterns.delete(listening);
      }
      const listening = { listener, since };
      const { channel } = target;
      const named = target.sharded ? sharded : exact;
      const all = named.get(channel) ?? new Set<Listening>();
      named.set(channel, all.add(listening));
      return () => {
        all.delete(listening);
        if (all.size === 0 && named.get(channel) === all) named.delete(channel);
      };
    },
    hears: (destination) => of(destination).length > 0,
    deliver(destination, data, id) {
      for (const { listener, since } of of(destination)) {
        if (id === undefined || id > since) call(() => listener.message(destination.channel, data));
      }
    },
    gap(reason) {
      const named = [...exact.values(), ...sharded.values()].flatMap((all) => [...all]);
      for (const { listener } of [...named, ...patterns]) call(() => listener.gap(reason));
    },
  };
}
