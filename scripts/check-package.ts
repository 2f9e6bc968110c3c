/** Checks the built package: every export has its files, publint finds nothing, and knip finds nothing unused. */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

interface Manifest {
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

const root = fileURLToPath(new URL("..", import.meta.url));
const EXACT = /^\d+\.\d+\.\d+(?:-[\w.]+)?$/;

/** Says where `exports` and the files in `dist` and `src` disagree. */
function checkExports({ exports, bin = {} }: Manifest): string[] {
  const problems: string[] = [];
  for (const [subpath, conditions] of Object.entries(exports)) {
    // TypeScript reads the conditions in order, so types have to come first.
    if (Object.keys(conditions)[0] !== "types") problems.push(`exports["${subpath}"]: "types" comes first`);
    for (const path of Object.values(conditions)) {
      if (!existsSync(join(root, path))) problems.push(`exports["${subpath}"]: ${path} was not built`);
    }
  }
  for (const [name, path] of Object.entries(bin)) {
    if (!existsSync(join(root, path))) problems.push(`bin.${name}: ${path} was not built`);
  }
  return problems;
}

/** Ranges and tags resolve differently on another day; a build that worked yesterday has to work today. */
function checkVersions({ dependencies, devDependencies }: Manifest): string[] {
  return Object.entries({ ...dependencies, ...devDependencies })
    .filter(([, version]) => !EXACT.test(version))
    .map(([name, version]) => `${name}: ${version} is not an exact version`);
}

function runTool(script: string, args: readonly string[]): string[] {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, "node_modules", script), ...args], {
    cwd: root,
    encoding: "utf8",
  });
  return status === 0 ? [] : [`${stdout}${stderr}`.trim() || `${script} exited with ${status}`];
}

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;
const problems = [
  ...checkExports(manifest),
  ...checkVersions(manifest),
  ...runTool("publint/src/cli.js", ["--strict"]),
  ...runTool("knip/bin/knip.js", ["--no-progress"]),
];
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
