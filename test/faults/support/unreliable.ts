/**
 * A disk that can be slow, full or forgetful and a clock that can be wrong, for one process: `unreliable.c`, preloaded.
 *
 * Built once into the cache, with the machine's C compiler or else with Debian's tcc, which is small and needs nothing.
 */

import { createHash } from "node:crypto";
import { existsSync, statSync, writeSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { debianMirrors, unpackDebs } from "../../support/apt.js";
import { whileHolding } from "../../support/claim.js";
import { tempDir } from "../../support/process.js";
import { findProgram, run } from "../../support/run.js";

const source = fileURLToPath(new URL("unreliable.c", import.meta.url));
const cacheDir = fileURLToPath(new URL("../../../.cache/", import.meta.url));

/** How things are; what is left out is as it should be. */
export interface Conditions {
  /** Added to the wall clock. */
  readonly clockOffsetSeconds?: number;
  /** How much longer each sync takes. */
  readonly syncDelayMs?: number;
  /** Writing fails with "no space left on device". */
  readonly diskFull?: boolean;
}

export interface Unreliable {
  /** Where the process has the files that this is about. */
  readonly dir: string;
  /** The environment to start the process with. */
  readonly env: Readonly<Record<string, string>>;
  /** Takes effect at once, in processes that run already too. */
  set(conditions: Conditions): void;
  /** After a SIGKILL: takes away from the files what was never synced, as a power cut does. */
  cutPower(): Promise<void>;
  /** Gives up what this holds. */
  close(): Promise<void>;
}

/** @throws {Error} where it cannot be built: off Linux, or without compiler and without Debian's archive */
export async function createUnreliable(): Promise<Unreliable> {
  const library = await ensureLibrary();
  const [dir, synced, control] = await Promise.all([tempDir(), tempDir(), tempDir()]);
  const file = await open(join(control, "control"), "w+");
  const set = ({ clockOffsetSeconds = 0, syncDelayMs = 0, diskFull = false }: Conditions): void => {
    const numbers = [clockOffsetSeconds, syncDelayMs * 1_000, diskFull ? 1 : 0].map(BigInt);
    writeSync(file.fd, new BigInt64Array(numbers), 0, 24, 0);
  };
  set({});
  return {
    dir,
    env: {
      LD_PRELOAD: library,
      UNRELIABLE_CONTROL: join(control, "control"),
      UNRELIABLE_ROOT: dir,
      UNRELIABLE_SYNCED: synced,
    },
    set,
    async cutPower() {
      for (const name of await readdir(synced)) {
        const original = join(dir, name.replaceAll("%", "/"));
        // A file that was renamed since, or a directory, which is synced as well, is taken to be as it should.
        if (statSync(original, { throwIfNoEntry: false })?.isFile() === true)
          await writeFile(original, await readFile(join(synced, name)));
        await rm(join(synced, name));
      }
    },
    async close() {
      await file.close();
      await Promise.all([dir, synced, control].map((path) => rm(path, { recursive: true, force: true })));
    },
  };
}

async function ensureLibrary(): Promise<string> {
  if (process.platform !== "linux")
    throw new Error("an unreliable disk or clock is made with LD_PRELOAD: on Linux only");
  const hash = createHash("sha256")
    .update(await readFile(source))
    .digest("hex")
    .slice(0, 16);
  const library = join(cacheDir, `unreliable-${hash}.so`);
  if (existsSync(library)) return library;
  await mkdir(cacheDir, { recursive: true });
  return whileHolding(`${library}.lock`, async () => {
    if (existsSync(library)) return library;
    const draft = `${library}.${process.pid}`;
    const [compiler, ...flags] = await findCompiler();
    await run(compiler, [...flags, "-shared", "-fPIC", "-o", draft, source]);
    await rename(draft, library);
    return library;
  });
}

async function findCompiler(): Promise<[string, ...string[]]> {
  for (const name of ["cc", "gcc", "clang"]) {
    const found = await findProgram(name);
    // The prototypes that the source declares itself are not the ones that a compiler knows by heart.
    if (found !== undefined) return [found, "-w", "-O1", "-fno-builtin"];
  }
  const root = join(cacheDir, "tcc");
  if (!existsSync(root)) await whileHolding(`${root}.lock`, () => downloadTcc(root));
  const own = (await readdir(join(root, "usr/lib"))).map((name) => join(root, "usr/lib", name, "tcc")).find(existsSync);
  return [join(root, "usr/bin/tcc"), "-nostdlib", ...(own === undefined ? [] : ["-B", own])];
}

async function downloadTcc(root: string): Promise<void> {
  if (existsSync(root)) return;
  const release = /^VERSION_CODENAME=(\w+)/m.exec(await readFile("/etc/os-release", "utf8"))?.[1] ?? "bookworm";
  const failures: string[] = [];
  for (const mirror of await debianMirrors(release)) {
    try {
      return await unpackDebs(mirror, release, ["tcc"], root);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(
    `no C compiler to build ${basename(source)} with; run: apt-get install -y gcc\n${failures.join("\n")}`,
  );
}
