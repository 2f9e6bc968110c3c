/** What the command line of `npm run bench` says. */

import { parseArgs } from "node:util";

export const PATHS = ["events", "queue", "pubsub", "presence"] as const;
export const BACKENDS = ["memory", "sqlite", "redis"] as const;
export const ROLES = ["signalbox", "floor", "peer"] as const;

export type PathName = (typeof PATHS)[number];
export type BackendName = (typeof BACKENDS)[number];
export type Role = (typeof ROLES)[number];

export interface Options {
  readonly paths: readonly PathName[];
  readonly backends: readonly BackendName[];
  readonly roles: readonly Role[];
  readonly quick: boolean;
  readonly json: boolean;
  readonly profile: boolean;
  /** A Redis to use instead of a server of our own; its database is flushed between rounds. */
  readonly url?: string;
}

export const USAGE = `npm run bench -- [events] [queue] [pubsub] [presence] [options]

  --quick             at most 45 seconds a path, instead of about four minutes
  --json              only JSON on stdout (npm adds lines of its own unless it is told --silent)
  --backend <name>    only this one of ${BACKENDS.join(", ")}; may be repeated
  --only <role>       only these contenders: ${ROLES.join(", ")}; may be repeated
  --url <redis url>   an empty Redis database to use instead of a server started for the run
  --profile           where signalbox spends its time, instead of how fast it is (--only floor profiles the floors)

Without a path all of them run. Results are written to bench/results, unless --backend, --only or --profile leaves some out.
`;

export class UsageError extends Error {}

/** @throws {UsageError} */
export function parseOptions(args: readonly string[]): Options {
  const { values, positionals } = parsed(args);
  const { quick, json, profile, url } = values;
  return {
    paths: chosen("path", positionals, PATHS),
    backends: chosen("--backend", values.backend, BACKENDS),
    roles: chosen("--only", values.only ?? (profile ? ["signalbox"] : []), ROLES),
    quick,
    json,
    profile,
    ...(url !== undefined && { url }),
  };
}

/** Whether everything is measured that there is. */
export function isComplete({ backends, roles, profile }: Options): boolean {
  return !profile && backends.length === BACKENDS.length && roles.length === ROLES.length;
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        quick: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        profile: { type: "boolean", default: false },
        backend: { type: "string", multiple: true },
        only: { type: "string", multiple: true },
        url: { type: "string" },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** Those named, in their own order; all where none is. */
function chosen<T extends string>(what: string, named: readonly string[] | undefined, all: readonly T[]): readonly T[] {
  const unknown = named?.find((name) => !all.some((known) => known === name));
  if (unknown !== undefined) throw new UsageError(`${what} "${unknown}" is none of ${all.join(", ")}`);
  return named === undefined || named.length === 0 ? all : all.filter((name) => named.includes(name));
}
