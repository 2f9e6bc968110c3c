/** Builds the package: compiles `src` into an emptied `dist` and copies what is not TypeScript (Lua, SQL) beside it. */

import { execFileSync } from "node:child_process";
import { cpSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Builds into `outDir`, which is deleted first. Throws, with the compiler's report on stdout, when `src` has errors. */
export function build(outDir: string): void {
  rmSync(outDir, { recursive: true, force: true });
  const tsc = resolve(root, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", outDir], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  cpSync(resolve(root, "src"), outDir, {
    recursive: true,
    filter: (path) => !/\.tsx?$/.test(path),
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    build(resolve(root, "dist"));
  } catch {
    // The compiler has already said what is wrong.
    process.exitCode = 1;
  }
}
