/** What a connection can suffer, as data: for the proxy that inflicts it, and for schedules that draw it. */

import type { Random } from "./random.js";

/** Up is from the client to the server. */
export type Direction = "up" | "down";

/** What happens to the connections: those that are open and those that are opened while it lasts. */
export type Flaw =
  /** Every open connection is reset, at once. What is opened afterwards is sound. */
  | { readonly kind: "cut" }
  /** What flows in that direction ends, in an orderly way; the other direction goes on. */
  | { readonly kind: "half-close"; readonly direction: Direction }
  /** Each byte arrives this much later. */
  | { readonly kind: "delay"; readonly ms: number }
  /** After so many more bytes in that direction the connection is reset. */
  | { readonly kind: "truncate"; readonly direction: Direction; readonly afterBytes: number }
  /** One byte a second, in each direction. */
  | { readonly kind: "trickle" }
  /** Writes are taken apart into pieces of a few bytes. */
  | { readonly kind: "split" }
  /** What comes within this time arrives in one piece. */
  | { readonly kind: "merge"; readonly ms: number }
  /**
   * Nothing passes, nothing is closed. When it is over the bytes that were held back `flow` on, as after a short loss of
   * the network; or there is `silence` for ever on the connections it caught, as after a router forgot them.
   */
  | { readonly kind: "hole"; readonly direction: Direction | "both"; readonly afterwards: "flow" | "silence" };

export type FlawKind = Flaw["kind"];
export const FLAW_KINDS: readonly FlawKind[] = [
  "cut",
  "half-close",
  "delay",
  "truncate",
  "trickle",
  "split",
  "merge",
  "hole",
];

/** Draws a flaw with its details. */
export function randomFlaw(random: Random, kinds: readonly FlawKind[] = FLAW_KINDS): Flaw {
  const kind = random.pick(kinds);
  const direction = random.pick<Direction>(["up", "down"]);
  switch (kind) {
    case "half-close":
      return { kind, direction };
    case "delay":
      return { kind, ms: random.int(20, 400) };
    case "truncate":
      return { kind, direction, afterBytes: random.int(1, 4_000) };
    case "merge":
      return { kind, ms: random.int(10, 150) };
    case "hole":
      return {
        kind,
        direction: random.pick<Direction | "both">(["up", "down", "both"]),
        afterwards: random.pick(["flow", "silence"]),
      };
    default:
      return { kind };
  }
}
