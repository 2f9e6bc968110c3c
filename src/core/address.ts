/** URLs to backends: every form that `connect` takes, parsed and validated, and how they may be shown. */

import { ConfigError } from "./errors.js";
import { show } from "./options.js";

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** What the URL of a Redis says besides where it is. */
export interface RedisCredentials {
  readonly tls: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly database: number;
}

export type RedisAddress = RedisCredentials &
  (
    | ({ readonly kind: "standalone" } & HostPort)
    | { readonly kind: "socket"; readonly path: string }
    | { readonly kind: "cluster"; readonly nodes: readonly HostPort[] }
    | { readonly kind: "sentinel"; readonly sentinels: readonly HostPort[]; readonly primary: string }
  );

export type Address =
  | { readonly kind: "memory"; readonly name?: string }
  | { readonly kind: "sqlite"; readonly path: string }
  | RedisAddress;

const FORMS =
  "memory:, memory:name, sqlite:./file.db, redis://host:6379/0, rediss://…, redis+unix:///path, redis-cluster://n1:6379,n2:6379, " +
  "rediss-cluster://…, redis-sentinel://s1:26379,s2:26379/primary?db=0, rediss-sentinel://…";
const REDIS_PORT = 6_379;
const SENTINEL_PORT = 26_379;
const DEFAULT_SQLITE_PATH = "./events.db";

/**
 * Parses a URL.
 *
 * @throws {ConfigError} that shows the URL without its password
 */
export function parseAddress(url: string): Address {
  if (typeof url !== "string") throw new ConfigError([`the URL must be a string, not ${show(url)}`]);
  const text = url.trim();
  const scheme = /^([a-z][a-z0-9+-]*):/i.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined)
    throw refuse(text, text.startsWith("$") ? "is a variable's name, not its value" : "has no scheme");
  const rest = text.slice(scheme.length + 1);
  switch (scheme) {
    case "memory":
      return rest === "" ? { kind: "memory" } : { kind: "memory", name: rest };
    case "sqlite":
      return { kind: "sqlite", path: rest === "" ? DEFAULT_SQLITE_PATH : sqlitePath(rest) };
    case "redis":
    case "rediss":
    case "redis+unix":
    case "redis-cluster":
    case "rediss-cluster":
    case "redis-sentinel":
    case "rediss-sentinel":
      return parseRedis(text, scheme, rest);
    default:
      throw refuse(text, `has the scheme "${scheme}:", which is none of ours`);
  }
}

/** `sqlite:./x.db`, `sqlite:/x.db`, `sqlite:///x.db` and `sqlite://./x.db` all mean what they look like. */
function sqlitePath(rest: string): string {
  return rest.startsWith("//") ? rest.slice(2) : rest;
}

interface Parts {
  readonly authority: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly username?: string;
  readonly password?: string;
}

function parseRedis(text: string, scheme: string, rest: string): RedisAddress {
  if (!rest.startsWith("//")) throw refuse(text, `needs "//" behind "${scheme}:"`);
  if (rest.includes("#")) throw refuse(text, 'holds a "#": write it as %23 in a password');
  const parts = splitRedis(text, rest.slice(2));
  const tls = scheme.startsWith("rediss");
  const credentials = {
    tls,
    ...(parts.username !== undefined && { username: parts.username }),
    ...(parts.password !== undefined && { password: parts.password }),
  };
  for (const [name, value] of parts.query) {
    // Without a value the name may be a part of a password.
    if (name !== "db") throw refuse(text, `has an unknown parameter${value === "" ? "" : ` "${name}"`} (known: db)`);
  }
  const queryDatabase = parts.query.get("db");
  if (scheme === "redis+unix") {
    if (parts.authority !== "" || parts.path === "")
      throw refuse(text, "needs an absolute path: redis+unix:///run/redis.sock");
    return {
      kind: "socket",
      path: socketPath(text, parts.path),
      database: databaseOf(text, queryDatabase ?? ""),
      ...credentials,
    };
  }
  const path = parts.path.replace(/^\//, "");
  if (scheme.endsWith("-sentinel")) {
    const [primary, database, ...more] = path.split("/");
    if (primary === undefined || primary === "")
      throw refuse(text, "names no primary: redis-sentinel://s1:26379/mymaster");
    if (more.length > 0) throw refuse(text, "has a path that goes on behind the database");
    const sentinels = hostsOf(text, parts.authority, SENTINEL_PORT);
    return {
      kind: "sentinel",
      sentinels,
      primary,
      database: databaseOf(text, queryDatabase ?? database ?? ""),
      ...credentials,
    };
  }
  // The hosts first: where they are wrong, the path may belong to a password.
  const nodes = hostsOf(text, parts.authority, REDIS_PORT);
  const database = databaseOf(text, queryDatabase ?? path);
  if (scheme.endsWith("-cluster")) {
    if (database !== 0) throw refuse(text, "asks for a database, but a Redis Cluster has only database 0");
    return { kind: "cluster", nodes, database, ...credentials };
  }
  const [only, ...others] = nodes;
  if (only === undefined || others.length > 0)
    throw refuse(text, "names several hosts: use redis-cluster:// or redis-sentinel://");
  return { kind: "standalone", ...only, database, ...credentials };
}

function socketPath(text: string, path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw refuse(text, "has a path that is not percent-encoded correctly");
  }
}

function splitRedis(text: string, rest: string): Parts {
  // Otherwise a part of the password would be taken for a host, and shown in a message.
  if (/[/?]/.test(rest.slice(0, rest.lastIndexOf("@") + 1))) {
    throw refuse(text, 'holds a "/" or a "?" in front of its "@": write them as %2F and %3F in a password');
  }
  const [beforeQuery, query = ""] = splitOnce(rest, "?");
  const slash = beforeQuery.indexOf("/");
  const fullAuthority = slash < 0 ? beforeQuery : beforeQuery.slice(0, slash);
  const path = slash < 0 ? "" : beforeQuery.slice(slash);
  const at = fullAuthority.lastIndexOf("@");
  const common = { authority: fullAuthority.slice(at + 1), path, query: new URLSearchParams(query) };
  if (at < 0) return common;
  const user = fullAuthority.slice(0, at);
  if (user.includes("@")) throw refuse(text, 'holds an "@" in its credentials: write it as %40');
  const [username, password] = splitOnce(user, ":");
  try {
    return {
      ...common,
      ...(username !== "" && { username: decodeURIComponent(username) }),
      ...(password !== undefined && password !== "" && { password: decodeURIComponent(password) }),
    };
  } catch {
    // The cause would quote the password.
    throw refuse(text, "has credentials that are not percent-encoded correctly");
  }
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

/** The host of an authority, without its port. */
const HOST = /^(?:\[[0-9a-f:.]*\]|[^:]*)/i;

/** Shows nothing of what is wrong: where the host was forgotten, it is the password that stands at the port's place. */
function hostsOf(text: string, authority: string, defaultPort: number): HostPort[] {
  return authority.split(",").map((part) => {
    const host = HOST.exec(part)?.[0] ?? "";
    const port = part.slice(host.length);
    if (part === "") throw refuse(text, "names no host");
    if (port !== "" && !isPort(port)) throw refuse(text, "has a port that is none: it is a number from 1 to 65535");
    if (host === "" || /[[\]\s]/.test(host.replace(/^\[(.+)\]$/, "$1"))) throw refuse(text, "has a host that is none");
    return { host: host.replace(/^\[|\]$/g, ""), port: port === "" ? defaultPort : Number(port.slice(1)) };
  });
}

/** @param port with its colon */
function isPort(port: string): boolean {
  const number = Number(port.slice(1));
  return /^:\d+$/.test(port) && number >= 1 && number <= 65_535;
}

function databaseOf(text: string, database: string): number {
  if (database === "") return 0;
  if (!/^\d{1,5}$/.test(database)) throw refuse(text, "has a database that is none: it is a number, usually 0 to 15");
  return Number(database);
}

function refuse(url: string, problem: string): ConfigError {
  return new ConfigError([`the URL ${show(redactUrl(url))} ${problem}; expected one of ${FORMS}`]);
}

/** A URL as it may be shown: whatever could be a password is gone, also in URLs that cannot be parsed. */
export function redactUrl(url: string): string {
  const text = url.trim();
  // Without "//" what stands in front of the colon may be a user's name just as well.
  const scheme = /^(?:(?:memory|sqlite):|[a-z][a-z0-9+-]*:\/\/)/i.exec(text)?.[0] ?? "";
  const at = text.lastIndexOf("@");
  const user = /^[^:@/]*(?=:[^@])/.exec(text.slice(scheme.length, Math.max(at, scheme.length)))?.[0] ?? "";
  const credentials = at < 0 ? "" : `${user}:***@`;
  const rest = text.slice(at < 0 ? scheme.length : at + 1);
  const isFile = /^(?:memory|sqlite):/i.test(scheme);
  return scheme + credentials + (isFile ? rest : redactQuery(redactHosts(rest)));
}

/** Shows nothing from the first port on that is none: see `hostsOf`. */
function redactHosts(rest: string): string {
  const [hosts = ""] = rest.split(/[/?#]/, 1);
  let from = 0;
  for (const part of hosts.split(",")) {
    const host = HOST.exec(part)?.[0] ?? "";
    if (part !== host && !isPort(part.slice(host.length))) return `${rest.slice(0, from + host.length)}:***`;
    from += part.length + 1;
  }
  return rest;
}

function redactQuery(rest: string): string {
  return rest
    .replace(/#.*$/s, "#***")
    .replace(/([?&])(?!db=)([^=&#]*)(=?)[^&#]*/g, (_, start: string, name: string, equals: string) =>
      equals === "" ? `${start}***` : `${start}${name}=***`,
    );
}
