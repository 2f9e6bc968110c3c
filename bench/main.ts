/**
 * `npm run bench`: compiles the library and the benchmarks as the library ships, starts a Redis that persists nothing,
 * and runs them in a process of their own. (Under tsx, every closure would pay for the name that esbuild gives it.)
 */

import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startRedis } from "../test/support/redis-standalone.js";
import { type Options, parseOptions, USAGE, UsageError } from "./options.js";
import type { Assignment } from "./run.js";

/** Tells the compiled copy of this file what to do. */
const ASSIGNMENT = "SIGNALBOX_BENCH_ASSIGNMENT";

async function launch(options: Options): Promise<number> {
  const root = fileURLToPath(new URL("..", import.meta.url));
  // Inside the repository, where packages are found, and on its disk, where a sync costs what it costs.
  const workDir = join(root, ".cache", "bench", String(process.pid));
  const dir = join(workDir, "data");
  mkdirSync(dir, { recursive: true });
  const needsRedis = options.backends.includes("redis");
  const redis = needsRedis && options.url === undefined ? await startRedis() : undefined;
  const redisUrl = needsRedis ? (options.url ?? redis?.url) : undefined;
  try {
    compile(root, join(workDir, "code"));
    return await runChild(join(workDir, "code", "bench", "main.js"), {
      options,
      dir,
      resultsDir: join(root, "bench", "results"),
      commit: commitOf(root),
      ...(redisUrl !== undefined && { redisUrl }),
    });
  } finally {
    await redis?.stop();
    rmSync(workDir, { recursive: true, force: true });
  }
}

function compile(root: string, outDir: string): void {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "-p", join(root, "bench"), "--outDir", outDir], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  cpSync(join(root, "src"), join(outDir, "src"), { recursive: true, filter: (path) => !/\.tsx?$/.test(path) });
}

function runChild(file: string, assignment: Assignment): Promise<number> {
  const child = spawn(process.execPath, [file], {
    stdio: "inherit",
    env: { ...process.env, [ASSIGNMENT]: JSON.stringify(assignment) },
  });
  // The terminal reaches both; anyone else reaches only this process.
  const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on("SIGTERM", forward);
  process.on("SIGINT", forward);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}

function commitOf(root: string): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    return (
      git("rev-parse", "--short", "HEAD") + (git("status", "--porcelain", "--", "src") === "" ? "" : " with changes")
    );
  } catch {
    // A release has no repository around it.
    return "unknown";
  }
}

async function main(): Promise<number> {
  const assignment = process.env[ASSIGNMENT];
  if (assignment !== undefined) {
    const { runBenchmarks } = await import("./run.js");
    // Written by runChild.
    await runBenchmarks(JSON.parse(assignment) as Assignment);
    return 0;
  }
  try {
    return await launch(parseOptions(process.argv.slice(2)));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n\n${USAGE}`);
    return 2;
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error);
  process.exitCode = 1;
}
