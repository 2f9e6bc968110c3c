/** The command line. */

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Failure } from "./failure.js";

export const HELP = `Plays a week of earthquakes through signalbox: events, statistics, alerts, retries and dead letters.

  npm start -- [options]            go on where the last run stopped, however it stopped

  --until-done      play as fast as it goes (else a week takes about 40 seconds)
  --speed HOURS     hours of the feed per second, default 4
  --url URL         the store, default sqlite:./quake-desk.db; redis://localhost:6379 and every other URL of signalbox
  --input FILE      another feed, one quake per line as in examples/data/earthquakes.ndjson; - reads stdin
  --fresh           play from the beginning: removes the store first (sqlite: only)
  --triage          alerts go to three processes that compete for them; one is killed on the way
  --afterwards      on what was played: put failed alerts back, and read the busiest day again
  --help            this text

Ctrl-C stops it in good order. Of several desks on one store, one plays and all handle.`;

export interface Arguments {
  readonly url: string;
  readonly input: string;
  readonly hoursPerSecond: number | undefined;
  readonly fresh: boolean;
  readonly triage: boolean;
  readonly afterwards: boolean;
  readonly help: boolean;
}

const DEFAULT_INPUT = fileURLToPath(new URL("../data/earthquakes.ndjson", import.meta.url));
const DEFAULT_URL = "sqlite:./quake-desk.db";
const DEFAULT_SPEED = 4;

/** @throws {Failure} with exit code 2 */
export function readArguments(args: readonly string[]): Arguments {
  const { url, input, speed, ...flags } = parse(args);
  const hoursPerSecond = speed === undefined ? undefined : Number(speed);
  if (hoursPerSecond !== undefined && !(hoursPerSecond > 0)) {
    throw wrong(`--speed takes a number of hours per second above 0, not "${speed}"`);
  }
  if (flags.fresh && !url.startsWith("sqlite:")) {
    throw wrong("--fresh removes the file of a sqlite: URL; elsewhere, empty the store or name another database");
  }
  if (flags.triage && url.startsWith("memory:")) throw wrong("--triage takes a store that processes can share");
  if (flags.fresh && flags.afterwards) throw wrong("--fresh removes what --afterwards works on");
  return {
    url,
    input,
    hoursPerSecond: hoursPerSecond ?? (flags["until-done"] ? undefined : DEFAULT_SPEED),
    fresh: flags.fresh,
    triage: flags.triage,
    afterwards: flags.afterwards,
    help: flags.help,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        "until-done": { type: "boolean", default: false },
        speed: { type: "string" },
        url: { type: "string", default: DEFAULT_URL },
        input: { type: "string", default: DEFAULT_INPUT },
        fresh: { type: "boolean", default: false },
        triage: { type: "boolean", default: false },
        afterwards: { type: "boolean", default: false },
        help: { type: "boolean", default: false, short: "h" },
      },
    }).values;
  } catch (error) {
    // Its first sentence says what is wrong; the rest is about arguments that begin with a dash.
    throw wrong(error instanceof Error ? error.message.split(". ")[0]! : String(error));
  }
}

function wrong(problem: string): Failure {
  return new Failure(`${problem}\nnpm start -- --help lists the options`, 2);
}
