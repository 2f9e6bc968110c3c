/** Who listens in this process, and to what. Shared by the backends, which differ in what they keep of a listener. */

import type { BroadcastMessage, BroadcastTarget } from "./backend.js";
import { compileGlob } from "./glob.js";

/** What a message is for. */
export type Destination = Pick<BroadcastMessage, "channel" | "sharded">;

export class Hub<L> {
  readonly #exact = new Map<string, Set<L>>();
  readonly #sharded = new Map<string, Set<L>>();
  readonly #patterns = new Set<{ readonly listener: L; readonly matches: (channel: string) => boolean }>();

  /** @param listener an object of its own for each call. @returns how to remove it; safe to call twice */
  add(target: BroadcastTarget, listener: L): () => void {
    if ("pattern" in target) {
      const entry = { listener, matches: compileGlob(target.pattern) };
      this.#patterns.add(entry);
      return () => void this.#patterns.delete(entry);
    }
    const { channel } = target;
    const named = target.sharded ? this.#sharded : this.#exact;
    const all = named.get(channel) ?? new Set<L>();
    named.set(channel, all.add(listener));
    return () => {
      all.delete(listener);
      if (all.size === 0 && named.get(channel) === all) named.delete(channel);
    };
  }

  /** Nobody listens to anything. */
  get isEmpty(): boolean {
    return this.#exact.size === 0 && this.#sharded.size === 0 && this.#patterns.size === 0;
  }

  /** Those who hear a message, once for each target of theirs: what they do to the hub meanwhile is for the next one. */
  listeners({ channel, sharded }: Destination): readonly L[] {
    if (sharded) return [...(this.#sharded.get(channel) ?? [])];
    const listeners = [...(this.#exact.get(channel) ?? [])];
    for (const { listener, matches } of this.#patterns) if (matches(channel)) listeners.push(listener);
    return listeners;
  }

  /** Everybody, once for each target. */
  all(): readonly L[] {
    const named = [...this.#exact.values(), ...this.#sharded.values()].flatMap((all) => [...all]);
    return [...named, ...[...this.#patterns].map(({ listener }) => listener)];
  }
}
