/** One Redis process: its configuration file, its life and death, and a command line to it. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mendAppendOnlyFile } from "./append-only.js";
import { type ManagedProcess, releasePort, removeDir, startProcess } from "./process.js";
import { type Cli, type CliArgument, harnessUser, redisCli } from "./redis-cli.js";
import { until } from "./wait.js";

export type RedisState = "running" | "paused" | "down";

export interface RestartOptions {
  /** Replaces the environment of the start, to load or leave out a preloaded library. */
  readonly env?: Readonly<Record<string, string>>;
  /** `"nothing"` resolves as soon as the process exists, to watch it load; default `"answer"`. */
  readonly awaiting?: "answer" | "nothing";
}

export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  /** `redis://`, with the password where the server has one. */
  readonly url: string;
  readonly dir: string;
  /** The socket's path, where one was asked for; `redis+unix://` and the path make its URL. */
  readonly socketPath: string | undefined;
  /** Changes with each restart; undefined while it is down. */
  readonly pid: number | undefined;
  readonly state: RedisState;
  /** Sends one command as an administrator, with RESP 2 replies; rejects without an answer within 15 s. */
  cli(...args: CliArgument[]): Promise<unknown>;
  /** What the processes of this server have logged so far. */
  log(): string;
  /** Resolves when the process is gone; SIGKILL by default. */
  kill(signal?: "SIGKILL" | "SIGTERM" | "SIGINT"): Promise<void>;
  /** Starts it again on its port and directory, with its append-only file mended; one that still runs is ended in an orderly way before. */
  restart(options?: RestartOptions): Promise<void>;
  /** SIGSTOP: connections stay open and nothing answers. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
  /** Ends it for good, and removes its directory unless the caller brought that. Safe to call twice. */
  stop(): Promise<void>;
}

export interface Launch {
  readonly binary: string;
  readonly mode: "server" | "sentinel";
  readonly port: number;
  readonly dir: string;
  readonly dirIsOurs: boolean;
  /** Lines of the configuration file, after the ones that every process gets. */
  readonly lines: readonly string[];
  readonly password?: string | undefined;
  /** Whether the harness must log in as its own user. */
  readonly guarded: boolean;
  readonly socketPath?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

const answerWithinMs = 10_000;

/**
 * Writes the configuration, starts the process, and resolves once it answers PING.
 *
 * @throws {Error} with the end of its log when it exits or stays silent; its directory, if ours, and its port are given back
 */
export async function launchRedis(launch: Launch): Promise<RedisServer> {
  const { port, dir, password, socketPath } = launch;
  const file = join(dir, "redis.conf");
  await writeFile(file, `${configuration(launch).join("\n")}\n`);
  const cli = redisCli(port, { asHarness: launch.guarded });
  const args = launch.mode === "sentinel" ? [file, "--sentinel"] : [file];
  let history = "";
  let env = launch.env;
  let state: RedisState = "running";
  let daemon = startProcess(launch.binary, args, { cwd: dir, env: { ...env } });

  const answering = (): Promise<void> => awaitAnswer(daemon, cli, port);
  const end = async (how: (running: ManagedProcess) => Promise<unknown>): Promise<void> => {
    await how(daemon);
    state = "down";
    cli.drop();
  };
  const stop = async (): Promise<void> => {
    // A directory that outlives the process deserves an orderly end; any other is not worth the wait.
    await end((running) => (launch.dirIsOurs ? killed(running, "SIGKILL") : running.stop()));
    if (launch.dirIsOurs) await removeDir(dir);
    await releasePort(port);
  };

  try {
    await answering();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    port,
    dir,
    socketPath,
    url: `redis://${password === undefined ? "" : `:${encodeURIComponent(password)}@`}127.0.0.1:${port}`,
    get pid() {
      return daemon.running() ? daemon.pid : undefined;
    },
    get state() {
      return daemon.running() ? state : "down";
    },
    cli: (...command) => cli.send(...command),
    log: () => history + daemon.output(),
    kill: (signal = "SIGKILL") => end((running) => killed(running, signal)),
    restart: async (options = {}) => {
      await end((running) => running.stop());
      history += daemon.output();
      if (launch.mode === "server") await mendAppendOnlyFile(launch.binary, dir);
      env = options.env ?? env;
      daemon = startProcess(launch.binary, args, { cwd: dir, env: { ...env } });
      state = "running";
      if (options.awaiting !== "nothing") await answering();
    },
    pause: () => {
      if (daemon.kill("SIGSTOP")) state = "paused";
    },
    resume: () => {
      if (daemon.kill("SIGCONT")) state = "running";
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function awaitAnswer(daemon: ManagedProcess, cli: Cli, port: number): Promise<void> {
  // Another server on the port would answer for one that is about to fail for want of it.
  const isIts = (info: unknown): boolean => String(info).includes(`process_id:${daemon.pid}\r\n`);
  let lastWords: string | undefined;
  void daemon.exited.then(() => {
    lastWords = `it exited, saying: ${daemon.output()}`;
  });
  await until(async () => (await cli.send("PING")) === "PONG" && isIts(await cli.send("INFO", "server")), {
    deadlineMs: answerWithinMs,
    what: `Redis on port ${port} to answer`,
    giveUp: () => lastWords,
  });
}

/** Starts several at once; when one fails, those that did start are stopped. */
export async function startAll<T extends { stop(): Promise<void> }>(
  count: number,
  start: (index: number) => Promise<T>,
): Promise<T[]> {
  const started = await Promise.allSettled(Array.from({ length: count }, (_, index) => start(index)));
  const servers = started.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const failed = started.find((result) => result.status === "rejected");
  if (failed === undefined) return servers;
  await Promise.all(servers.map((server) => server.stop()));
  throw failed.reason;
}

/** A paused process is let go first, as only SIGKILL would reach it. */
async function killed(running: ManagedProcess, signal: NodeJS.Signals): Promise<void> {
  running.kill(signal);
  running.kill("SIGCONT");
  await running.exited;
}

function configuration(launch: Launch): string[] {
  const common = [`port ${launch.port}`, "bind 127.0.0.1", `dir ${launch.dir}`, "daemonize no"];
  if (launch.mode === "sentinel") return [...common, "loglevel notice", "protected-mode no", ...launch.lines];
  const lines = [
    ...common,
    "loglevel warning",
    'save ""',
    "protected-mode yes",
    "enable-debug-command local", // for DEBUG SLEEP and the like
    "repl-diskless-sync-delay 0", // a replica's first copy otherwise waits 5 s for company
    "shutdown-timeout 0", // nor may an orderly end wait for replicas that are gone
  ];
  if (launch.password !== undefined) lines.push(`requirepass ${quoted(launch.password)}`);
  if (launch.guarded) lines.push(`user ${harnessUser.name} on >${harnessUser.password} ~* &* +@all`);
  if (launch.socketPath !== undefined) lines.push(`unixsocket ${launch.socketPath}`, "unixsocketperm 700");
  return [...lines, ...launch.lines];
}

/** A value with spaces or quotes in it, as configuration files write it. */
export function quoted(value: string): string {
  return JSON.stringify(value);
}
