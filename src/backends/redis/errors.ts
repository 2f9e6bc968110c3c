/** What Redis means by an error reply, and what the connection has to do about it. */

import { AuthError, ConnectionError, OutOfMemoryError, SignalboxError } from "../../core/errors.js";
import type { Arg } from "./connection.js";
import { isKeyOrChannel } from "./keys.js";
import type { Address } from "./target.js";

/** An error reply that the connection passes on, such as NOSCRIPT, NOGROUP or WRONGTYPE. */
export class RedisReplyError extends SignalboxError {
  /** The reply's first word. */
  readonly prefix: string;

  constructor(command: string, reply: string) {
    super("UNSUPPORTED", `Redis refused ${command}: ${redacted(reply)}`);
    this.prefix = prefixOf(reply);
  }
}

/** Whether Redis answered with an error that starts with `prefix`. */
export function isReply(error: unknown, prefix: string): error is RedisReplyError {
  return error instanceof RedisReplyError && error.prefix === prefix;
}

/** Whether a command was under way when its connection was lost: it may have been run. */
export function isInterrupted(error: unknown): boolean {
  return error instanceof ConnectionError && error.interrupted;
}

/** What to do about an error reply. Except for the last kind, the command was not run. */
export type Verdict =
  /** The server will run it later. */
  | { readonly kind: "later" }
  /** The slot, not the server, is busy for a moment. */
  | { readonly kind: "slot-later" }
  /** The server is not the primary. */
  | { readonly kind: "demoted" }
  | { readonly kind: "moved"; readonly slot: number; readonly to: Address }
  | { readonly kind: "ask"; readonly to: Address }
  /** A blocking command ended because its key or the server's role went away. */
  | { readonly kind: "unblocked" }
  | { readonly kind: "final"; readonly error: SignalboxError };

/**
 * Judges an error reply to a command.
 *
 * The replies: networking.c, server.c, cluster.c, acl.c and script.c of Redis 7.0.
 */
export function judge(command: readonly Arg[], reply: string): Verdict {
  const prefix = prefixOf(reply);
  switch (prefix) {
    case "LOADING":
    case "BUSY":
      return { kind: "later" };
    case "TRYAGAIN":
    case "CLUSTERDOWN":
      return { kind: "slot-later" };
    case "READONLY":
    case "MASTERDOWN":
      return { kind: "demoted" };
    case "UNBLOCKED":
      return { kind: "unblocked" };
    case "MOVED":
    case "ASK":
      return redirect(prefix, reply) ?? { kind: "final", error: new RedisReplyError(nameOf(command), reply) };
    default:
      return { kind: "final", error: replyError(command, reply) };
  }
}

/** The error that a reply becomes when nothing is tried about it. */
export function replyError(command: readonly Arg[], reply: string): SignalboxError {
  const name = nameOf(command);
  switch (prefixOf(reply)) {
    case "OOM":
      return new OutOfMemoryError(`Redis is out of memory and refused ${name}: ${redacted(reply)}`);
    case "NOAUTH":
    case "WRONGPASS":
      return new AuthError(`Redis refused ${name}: ${redacted(reply)}`);
    case "NOPERM":
      return forbidden(command, reply);
    case "MISCONF":
    case "NOREPLICAS":
    case "LOADING":
    case "BUSY":
    case "TRYAGAIN":
    case "CLUSTERDOWN":
    case "READONLY":
    case "MASTERDOWN":
      return new ConnectionError(`Redis cannot take ${name} now: ${redacted(reply)}`);
    default:
      // AUTH with a password where the server has none is about credentials too, without a prefix of its own.
      if (/^ERR (?:AUTH|invalid password|Client sent AUTH)/i.test(reply))
        return new AuthError(`Redis refused ${name}: ${redacted(reply)}`);
      if (reply.startsWith("ERR max number of clients"))
        return new ConnectionError(`Redis cannot take ${name} now: ${reply}`);
      if (FORBIDDEN_IN_SCRIPT.test(reply)) return forbidden(command, reply);
      return new RedisReplyError(name, reply);
  }
}

/** Redis 7.0, and later ones. */
const FORBIDDEN_IN_SCRIPT = /^ERR (?:The user executing the script can't|ACL failure in script)/;
/** Keys in a message. */
const MAX_NAMED = 3;

/** Redis says that a key is forbidden, and not which, and of a script's command not always even that. */
function forbidden(command: readonly Arg[], reply: string): AuthError {
  const keys = keysOf(command);
  const rest = keys.length > MAX_NAMED ? ` and ${keys.length - MAX_NAMED} more` : "";
  const on = keys.length === 0 ? "" : ` on ${keys.slice(0, MAX_NAMED).map(String).join(", ")}${rest}`;
  return new AuthError(
    `Redis refused ${nameOf(command)}${on}: ${redacted(reply)}; ACL LOG on the server says what the user lacks`,
  );
}

function nameOf(command: readonly Arg[]): string {
  return String(command[0]);
}

/** The keys of a script, or the key or channel that a command names first; never what is sent to them. */
function keysOf(command: readonly Arg[]): readonly Arg[] {
  if (nameOf(command).startsWith("EVAL")) return command.slice(3, 3 + Number(command[2]));
  return command.filter((word) => typeof word === "string" && isKeyOrChannel(word)).slice(0, 1);
}

function prefixOf(reply: string): string {
  const end = reply.indexOf(" ");
  return end < 0 ? reply : reply.slice(0, end);
}

/** `MOVED 3999 127.0.0.1:6381`; the host may be missing (the one that answered) or contain colons (IPv6). */
function redirect(prefix: "MOVED" | "ASK", reply: string): Verdict | undefined {
  const [, slot, where = ""] = reply.split(" ");
  const colon = where.lastIndexOf(":");
  const port = Number(where.slice(colon + 1));
  if (colon < 0 || !Number.isInteger(port) || port <= 0) return undefined;
  const to = { host: where.slice(0, colon), port };
  return prefix === "ASK" ? { kind: "ask", to } : { kind: "moved", slot: Number(slot), to };
}

/** Redis repeats a command's arguments in one reply only; they may be payloads. */
function redacted(reply: string): string {
  return reply.replace(/,? with args beginning with:.*$/s, "").slice(0, 300);
}
