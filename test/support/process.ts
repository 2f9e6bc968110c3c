/** Child processes, ports and temporary directories that never outlive the test process. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { claim, isAlive } from "./claim.js";
import { withDeadline } from "./wait.js";

/** How a process ended: one of the two is null. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ManagedProcess extends AsyncDisposable {
  /** Undefined when the program could not be started. */
  readonly pid: number | undefined;
  readonly child: ChildProcess;
  /** Resolves when the process has ended and its output has been read, at most 100 ms later; never rejects. */
  readonly exited: Promise<Exit>;
  running(): boolean;
  /** The last bytes it wrote, of one stream or of both, one after the other. */
  output(stream?: "stdout" | "stderr"): string;
  /** Sends a signal, SIGKILL by default; false when the process has already ended. */
  kill(signal?: NodeJS.Signals): boolean;
  /** SIGTERM, then SIGKILL once `deadlineMs` (default 2,000) has passed. Safe to call twice, and on a stopped process. */
  stop(deadlineMs?: number): Promise<Exit>;
}

export interface ProcessOptions {
  readonly cwd?: string;
  /** Added to this process's environment; `undefined` takes a name away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly stdin?: "ignore" | "pipe";
  /** How much of each stream `output()` keeps; default 65,536. */
  readonly keepOutputBytes?: number;
}

const alive = new Set<ChildProcess>();
const leftovers = new Set<string>();

process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
  for (const path of leftovers) rmSync(path, { recursive: true, force: true });
});

/** Starts a program; it is killed when this process ends, however that happens (on Linux, even by SIGKILL). */
export function startProcess(command: string, args: readonly string[], options: ProcessOptions = {}): ManagedProcess {
  const [file, ...rest] = [...deathBond(), command, ...args] as [string, ...string[]];
  const child = spawn(file, rest, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, ...options.env },
    stdio: [options.stdin ?? "ignore", "pipe", "pipe"],
  });
  const keep = options.keepOutputBytes ?? 65_536;
  const stdout = tail(child.stdout, keep);
  const stderr = tail(child.stderr, keep);
  let ended = false;
  let failure = "";
  alive.add(child);
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (code, signal) => {
      ended = true;
      alive.delete(child);
      // A child of its own, such as a Redis that is saving, may hold the streams open for long after it.
      setTimeout(() => resolve({ code, signal }), 100).unref();
    });
    child.once("close", (code, signal) => resolve({ code, signal }));
    child.once("error", (error) => {
      if (child.pid !== undefined) return; // a signal that could not be sent, not a failed start
      failure = `${command} did not start: ${error.message}\n`;
      ended = true;
      alive.delete(child);
      resolve({ code: 127, signal: null });
    });
  });
  const kill = (signal: NodeJS.Signals = "SIGKILL"): boolean => !ended && child.kill(signal);
  const stop = async (deadlineMs = 2_000): Promise<Exit> => {
    kill("SIGTERM");
    kill("SIGCONT"); // a stopped process would keep SIGTERM pending
    try {
      return await withDeadline(() => exited, deadlineMs);
    } catch {
      kill("SIGKILL"); // the deadline was the only possible failure, and this is the answer to it
      return exited;
    }
  };
  return {
    pid: child.pid,
    child,
    exited,
    running: () => !ended,
    output: (stream) => (stream === "stderr" ? "" : stdout()) + (stream === "stdout" ? "" : stderr() + failure),
    kill,
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

/** `setpriv` ties the child's life to ours in the kernel; without it, only an orderly exit reaches the children. */
function deathBond(): readonly string[] {
  const setpriv = "/usr/bin/setpriv";
  return process.platform === "linux" && existsSync(setpriv) ? [setpriv, "--pdeathsig", "KILL"] : [];
}

function tail(stream: NodeJS.ReadableStream | null, keepBytes: number): () => string {
  let kept = Buffer.alloc(0);
  stream?.on("data", (chunk: Buffer) => {
    kept = Buffer.concat([kept, chunk]).subarray(-keepBytes);
  });
  return () => kept.toString("utf8");
}

const tempPrefix = `signalbox-test-${userInfo().uid}-`;
let swept: Promise<void> | undefined;

/** A new directory under the system's temporary one, removed at the latest when this process ends. */
export async function tempDir(): Promise<string> {
  swept ??= sweep();
  await swept;
  const dir = await mkdtemp(join(tmpdir(), `${tempPrefix}${process.pid}-`));
  leftovers.add(dir);
  return dir;
}

/** Removes the directories of test processes that were killed, and so could not do it themselves. */
async function sweep(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = name.startsWith(tempPrefix) ? Number.parseInt(name.slice(tempPrefix.length), 10) : Number.NaN;
    if (owner > 0 && !(await isAlive(owner))) {
      await rm(join(tmpdir(), name), { recursive: true, force: true, maxRetries: 3 });
    }
  }
}

/** Removes a directory made by `tempDir`. Safe to call twice. */
export async function removeDir(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true, maxRetries: 3 });
  leftovers.delete(dir);
}

/** Below every ephemeral port; the cluster bus of a port lies `busOffset` above it. */
const firstPort = 10_000;
const portCount = 10_000;
const busOffset = 10_000;
const claims = join(tmpdir(), `signalbox-ports-${userInfo().uid}`);

/**
 * A port of 127.0.0.1 that is free, as is the port 10,000 above it, which a Redis Cluster node takes for its bus.
 *
 * It stays ours, among all test processes of this machine, until `releasePort` or the end of this process, so that a
 * server that is down finds its port free when it is started again.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 1_000; attempt += 1) {
    const port = firstPort + Math.floor(Math.random() * portCount);
    if (!(await claim(claimOf(port)))) continue;
    leftovers.add(claimOf(port));
    if ((await isFree(port)) && (await isFree(port + busOffset))) return port;
    await releasePort(port);
  }
  throw new Error(`no free port between ${firstPort} and ${firstPort + portCount} after 1,000 attempts`);
}

/** `count` ports, each as `freePort` gives them. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  return ports;
}

/** Gives back a port of `freePort`. Safe to call twice. */
export async function releasePort(port: number): Promise<void> {
  if (leftovers.delete(claimOf(port))) await rm(claimOf(port), { force: true });
}

function claimOf(port: number): string {
  return join(claims, String(port));
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
