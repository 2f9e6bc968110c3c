/** Running a program to its end, for its output. */

import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Default 60,000. */
  readonly timeoutMs?: number;
}

/**
 * Runs a program and resolves with what it wrote to stdout.
 *
 * @throws {Error} with the command, how it ended and the end of its output, when it does not succeed
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { cwd, env, timeoutMs = 60_000 } = options;
  return new Promise((resolve, reject) => {
    execFile(
      command,
      args,
      { cwd, env: { ...process.env, ...env }, timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        const said = `${stdout}\n${stderr}`.trim().slice(-2_000);
        reject(
          new Error(`${command} ${args.join(" ")} failed (${error.code ?? error.signal}): ${said}`, { cause: error }),
        );
      },
    );
  });
}

/** The first executable file of that name on PATH and in the system directories that a user's PATH may lack. */
export async function findProgram(name: string): Promise<string | undefined> {
  const path = (process.env["PATH"] ?? "").split(delimiter);
  for (const dir of [...path, "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/usr/sbin"]) {
    if (dir === "") continue;
    const file = join(dir, name);
    const found = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return file;
  }
  return undefined;
}
