/** What publishers and consumers of a chaos run have in common: their broker, their histories, and how they end. */

import {
  type Broker,
  connect,
  type ConnectOptions,
  type Logger,
  type Observe,
  SignalboxError,
  toError,
} from "./chaos-broker.js";
import { heard, say } from "../../support/child-side.js";
import { pause } from "../../support/wait.js";
import { type ChildConfig, stillMsOf } from "./chaos-load.js";
import { watchProcess } from "./chaos-pulse.js";
import { type HistoryLog, now, openHistory, type Side } from "./history-log.js";

const RSS_EVERY_MS = 1_000;

export interface ChildSetting<C extends ChildConfig> {
  readonly config: C;
  /** For each side that it works on. */
  readonly histories: Readonly<Partial<Record<Side, HistoryLog>>>;
  /** Notes a failure that should not exist: any but the library's own errors. */
  readonly noteForeign: (error: unknown, where: string) => void;
}

/** Reads the configuration, opens the histories, and sees to it that no failure goes unnoticed. */
export function setUp<C extends ChildConfig>(): ChildSetting<C> {
  const config = JSON.parse(process.argv[2] ?? "{}") as C; // written by whoever starts this program
  const entries = Object.entries(config.files).map(([side, file]) => [side, openHistory(file)] as const);
  // What is about the whole process stands in one of them.
  const [[, history] = expectOne()] = entries;
  const unhandled = (what: string): void => {
    history.write({ op: "unhandled", t: now(), what });
    history.flush();
  };
  for (const event of ["unhandledRejection", "uncaughtException"] as const) {
    process.on(event, (error: unknown) => {
      unhandled(`${event}: ${toError(error).stack}`);
      process.exit(70);
    });
  }
  setInterval(() => history.write({ op: "rss", t: now(), bytes: process.memoryUsage.rss() }), RSS_EVERY_MS).unref();
  return {
    config,
    histories: Object.fromEntries(entries),
    noteForeign(error, where) {
      if (!(error instanceof SignalboxError)) unhandled(`${where}: ${toError(error).stack}`);
    },
  };
}

function expectOne(): never {
  throw new Error("a process works on one side at least");
}

/** Connects, however long the store is out of reach. */
export async function connectPatiently<C extends ChildConfig>(
  { config, noteForeign }: ChildSetting<C>,
  options: ConnectOptions,
  observe?: Observe,
): Promise<Broker> {
  for (;;) {
    try {
      return await connect(
        config.url,
        {
          commandTimeoutMs: config.commandTimeoutMs,
          // An attempt that a black hole swallows is given up as soon as a command would be.
          connectTimeoutMs: config.commandTimeoutMs,
          onError: (error, where) => noteForeign(error, where),
          ...options,
        },
        { bug: config.bug, observe },
      );
    } catch (error) {
      noteForeign(error, "connect");
      await pause(50);
    }
  }
}

/** Runs `orders` as the parent gives them; after `finish` the process ends by itself. */
export async function obey(
  { config, histories }: ChildSetting<ChildConfig>,
  orders: { readonly [name: string]: (value: number) => void | Promise<void> },
  finish: () => Promise<void>,
): Promise<void> {
  // From here on: loading the program is no standstill.
  watchProcess(openHistory(config.pulse), stillMsOf(config.queue));
  say({ ready: true });
  for await (const message of heard()) {
    if ("finish" in message) break;
    for (const [name, value] of Object.entries(message)) await orders[name]?.(Number(value));
  }
  await finish();
  for (const history of Object.values(histories)) history.close();
  say({ finished: true });
  process.exit(0);
}

const nothing = (): void => undefined;
export const silent: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };
