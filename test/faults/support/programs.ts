/** Programs that run beside a test, in processes of their own. */

import { type Child, runChild } from "../../support/children.js";

const PROGRAMS = {
  announcing: new URL("announcing.ts", import.meta.url),
  blocking: new URL("blocking-consumer.ts", import.meta.url),
  careless: new URL("careless.ts", import.meta.url),
  "coming-and-going": new URL("coming-and-going.ts", import.meta.url),
  draining: new URL("draining.ts", import.meta.url),
  "half-reaper": new URL("half-reaper.ts", import.meta.url),
  hanging: new URL("hanging-consumer.ts", import.meta.url),
  neighbour: new URL("neighbour.ts", import.meta.url),
  poisoned: new URL("poisoned-consumer.ts", import.meta.url),
  present: new URL("present.ts", import.meta.url),
  "queue-times": new URL("queue-times.ts", import.meta.url),
  "read-only": new URL("read-only.ts", import.meta.url),
  toiling: new URL("toiling.ts", import.meta.url),
} as const;

/** How long the first words of a program may take: several may start at once on a busy machine. */
export const START_MS = 20_000;

export function startProgram(
  name: keyof typeof PROGRAMS,
  args: readonly (string | number)[],
  env: Readonly<Record<string, string>> = {},
): Child {
  return runChild(PROGRAMS[name], { args: args.map(String), env });
}

/** All that a program has said so far under that name. */
export function said(child: Child, name: string): readonly unknown[] {
  return child.messages.flatMap((message) => (name in message ? [message[name]] : []));
}
