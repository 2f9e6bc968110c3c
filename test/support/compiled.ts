/** The project's TypeScript as JavaScript, compiled once for all the processes of a test run. */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { isAlive } from "./claim.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
/** Names the folder, set for the processes that run the tests. */
const VARIABLE = "SIGNALBOX_TEST_COMPILED";

/** One folder for each run, by its process. Inside the project, where packages are found. */
const folders = join(root, ".cache", "compiled");
const ours = join(folders, String(process.pid));

/**
 * Compiles everything, as the package is compiled but without a check: a process that has tsx compile what it imports
 * takes four times as long to start. Files stay where they are for the code: what it finds from its own address is there.
 */
export async function compileForChildren(): Promise<void> {
  await removeCompiled();
  await mkdir(ours, { recursive: true });
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const options = ["--noEmit", "false", "--noCheck", "--outDir", ours];
  await promisify(execFile)(process.execPath, [tsc, "-p", join(root, "tsconfig.json"), ...options], { cwd: root });
  await Promise.all(
    (await readdir(ours, { recursive: true }))
      .filter((name) => name.endsWith(".js"))
      .map((name) => keepAddress(join(ours, name), join(root, name.replace(/js$/, "ts")))),
  );
  process.env[VARIABLE] = ours;
}

/** Removes it, with what killed runs have left. */
export async function removeCompiled(): Promise<void> {
  delete process.env[VARIABLE];
  const names = existsSync(folders) ? await readdir(folders) : [];
  for (const name of names) {
    const isInUse = Number(name) !== process.pid && (await isAlive(Number(name)));
    if (!isInUse) await rm(join(folders, name), { recursive: true, force: true });
  }
}

async function keepAddress(compiled: string, source: string): Promise<void> {
  const code = await readFile(compiled, "utf8");
  if (!code.includes("import.meta.url")) return;
  await writeFile(compiled, code.replaceAll("import.meta.url", JSON.stringify(pathToFileURL(source).href)));
}

/** What to run in place of a file of the project; undefined where nothing was compiled, or it is none. */
export function compiledFile(source: string): string | undefined {
  const outDir = process.env[VARIABLE];
  const name = relative(root, source);
  if (outDir === undefined || name.startsWith(`..${sep}`) || !name.endsWith(".ts")) return undefined;
  return join(outDir, name.replace(/ts$/, "js"));
}
