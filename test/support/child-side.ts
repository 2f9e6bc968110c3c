/** The other end of `runChild`: how a child process talks to its test. */

import { createInterface } from "node:readline";

/** Says one message; it has left this process when the call returns, so that a SIGKILL straight after loses nothing. */
export function say(message: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** What the test sends, until it ends the conversation or dies. */
export async function* heard(): AsyncGenerator<Readonly<Record<string, unknown>>, void, undefined> {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line !== "") yield JSON.parse(line) as Readonly<Record<string, unknown>>; // `send` writes nothing but objects
  }
}
