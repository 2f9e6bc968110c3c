/** Claims between processes: a file that exists while its maker lives, for ports and installations. */

import { randomUUID } from "node:crypto";
import { link, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { until } from "./wait.js";

/** Whether `error` carries the system error code `code`, such as `"ENOENT"`. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/**
 * Claims `file` for this process; resolves with whether it is now ours.
 *
 * The claim of a process that has died is taken over. Two processes may take the same dead claim over at the same
 * instant, so what a claim guards must at worst be wasteful twice, never wrong.
 */
export async function claim(file: string): Promise<boolean> {
  await mkdir(dirname(file), { recursive: true });
  if (await place(file)) return true;
  if (await isHeld(file)) return false;
  await rm(file, { force: true });
  return place(file);
}

/** Runs `work` while holding `file`, waiting up to `deadlineMs` for another process to let go of it. */
export async function whileHolding<T>(file: string, work: () => Promise<T>, deadlineMs = 300_000): Promise<T> {
  // The first attempt is outside the wait, so that a directory that cannot be written to is an error at once.
  if (!(await claim(file))) await until(() => claim(file), { deadlineMs, everyMs: 50, what: `the lock ${file}` });
  try {
    return await work();
  } finally {
    await rm(file, { force: true });
  }
}

/** Written aside, then linked, so that a claim is never seen without the id of its holder. */
async function place(file: string): Promise<boolean> {
  const draft = `${file}.${randomUUID()}`;
  await writeFile(draft, String(process.pid));
  try {
    await link(draft, file);
    return true;
  } catch (error) {
    if (hasCode(error, "EEXIST")) return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

async function isHeld(file: string): Promise<boolean> {
  let holder: number;
  try {
    holder = Number(await readFile(file, "utf8"));
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
  if (!Number.isSafeInteger(holder) || holder <= 0) return false;
  return isAlive(holder);
}

/** Whether a process of that id runs, whoever it belongs to. */
export async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return hasCode(error, "EPERM");
  }
  return !(await isZombie(pid));
}

/** A dead process whose parent has not asked after it yet still answers signals, in containers perhaps for ever. */
async function isZombie(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ""); // no such file off Linux
  return /\) Z /.test(stat);
}
