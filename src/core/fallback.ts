/** What `connect` is told of a fallback. */

import { type Address, parseAddress, redactUrl } from "./address.js";
import { ConfigError } from "./errors.js";
import { show } from "./options.js";

/** Everything that is wrong with a fallback for that address; `path` is where it lies. */
export function readFallback(
  given: string,
  address: Address,
  durability: unknown,
): { readonly path: string; readonly problems: readonly string[] } {
  let fallback: Address;
  try {
    fallback = parseAddress(given);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { path: "", problems: error.problems.map((problem) => `connect: fallback: ${problem}`) };
  }
  const problems: string[] = [];
  if (address.kind === "memory" || address.kind === "sqlite") {
    problems.push(
      `connect: a fallback stands in for a server that is away, and ${address.kind}: needs none: leave it out`,
    );
  }
  if (fallback.kind !== "sqlite") {
    problems.push(
      `connect: fallback must be a file, such as "sqlite:./outbox.db", not ${show(redactUrl(given))}: ` +
        "what it keeps has to outlive this process, and to be there while the server is not",
    );
    return { path: "", problems };
  }
  if (durability === "replicated") {
    problems.push('connect: a fallback attains durability "fsync" at most, not "replicated": leave one of the two out');
  }
  return { path: fallback.path, problems };
}

/** Of a broker's fallback: a file may hold somebody's streams as well, and these are not for the server. */
export function fallbackNamespace(namespace: string): string {
  // No user's namespace has a brace.
  return `{outbox}${namespace}`;
}
