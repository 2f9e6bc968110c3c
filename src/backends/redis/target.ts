/** Which Redis to talk to and how: what `openRedis` takes, and how it is named in messages. */

import type { ConnectionOptions as TlsConnectionOptions } from "node:tls";
import type { Durability } from "../../core/backend.js";

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Where the primary is, or who knows it. */
export type RedisTarget = (
  | { readonly kind: "standalone"; readonly host: string; readonly port: number }
  | { readonly kind: "socket"; readonly path: string }
  | { readonly kind: "cluster"; readonly nodes: readonly Address[] }
  | { readonly kind: "sentinel"; readonly sentinels: readonly Address[]; readonly primary: string }
) & {
  readonly tls: boolean;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly database: number;
};

export interface RedisOptions {
  readonly durability: Durability;
  /** Replicas that must have a write before it counts as `replicated`. */
  readonly replicas: number;
  /** The operator's word that `appendfsync` is `always`, where CONFIG cannot be read. */
  readonly assertAppendFsync?: "always" | undefined;
  /** Accepts a `maxmemory-policy` that deletes messages under memory pressure. */
  readonly allowEviction?: "yes, lose messages" | undefined;
  /** How long a command may take, reconnecting included; default 5,000. */
  readonly commandTimeoutMs?: number | undefined;
  /** How long an interrupted publish is tried again; default 15,000. */
  readonly publishTimeoutMs?: number | undefined;
  /** How long opening may take, and each single attempt to connect; default 5,000. */
  readonly connectTimeoutMs?: number | undefined;
  /** Blocking reads at a time, each on a connection of its own; default 50. */
  readonly maxBlockingConnections?: number | undefined;
  /** How often a connection that listens and hears nothing is tested by what is published to it; default 30,000. */
  readonly listeningTestMs?: number | undefined;
  /** How the connections are called in CLIENT LIST; default `signalbox`. */
  readonly clientName?: string | undefined;
  /** Certificates and the like, for Redis and for its Sentinels; only with `tls` in the target. */
  readonly tls?: TlsOptions | undefined;
  /** Of the Sentinels, which have users of their own. */
  readonly sentinelUsername?: string | undefined;
  readonly sentinelPassword?: string | undefined;
}

/** As in `tls.connect` of Node. */
export type TlsOptions = Pick<
  TlsConnectionOptions,
  "ca" | "cert" | "key" | "passphrase" | "pfx" | "servername" | "rejectUnauthorized" | "minVersion" | "ciphers"
>;

/** One server process. The same server is always the same object, so that it can be compared and used as a key. */
export interface Server {
  /** `host:port`, or the path of its Unix socket. */
  readonly name: string;
  readonly at: Address | { readonly path: string };
}

/** Who to be on a server. */
export interface Login {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly database: number;
}

/** `host:port`, with brackets around an IPv6 address. */
export function addressName({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The target as a URL without user and password, for messages. */
export function targetName(target: RedisTarget): string {
  const secure = target.tls ? "s" : "";
  const names = (addresses: readonly Address[]): string => addresses.map(addressName).join(",");
  switch (target.kind) {
    case "standalone":
      return `redis${secure}://${addressName(target)}/${target.database}`;
    case "socket":
      return `redis+unix://${target.path}?db=${target.database}`;
    case "cluster":
      return `redis${secure}-cluster://${names(target.nodes)}`;
    case "sentinel":
      return `redis${secure}-sentinel://${names(target.sentinels)}/${target.primary}?db=${target.database}`;
  }
}
