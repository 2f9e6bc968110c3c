/** `npm run check`: everything about the repository that is no test, in order, stopping at the first failure. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const tsx = "node_modules/tsx/dist/cli.mjs";

const STEPS: readonly { readonly name: string; readonly command: readonly string[] }[] = [
  { name: "format", command: ["node_modules/@biomejs/biome/bin/biome", "format"] },
  { name: "lint", command: ["node_modules/oxlint/bin/oxlint", "--type-aware", "--deny-warnings"] },
  { name: "types", command: ["node_modules/typescript/bin/tsc", "--noEmit"] },
  { name: "build", command: [tsx, "scripts/build.ts"] },
  { name: "package", command: [tsx, "scripts/check-package.ts"] },
  { name: "architecture", command: [tsx, "scripts/architecture.ts"] },
  { name: "acceptance", command: [tsx, "scripts/acceptance.ts", "--brief"] },
];

for (const { name, command } of STEPS) {
  const started = performance.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: root, encoding: "utf8" });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${status === 0 ? "ok  " : "FAIL"}  ${name.padEnd(12)}  ${seconds} s`);
  if (status !== 0) {
    console.error(`${stdout}${stderr}`.trimEnd());
    process.exitCode = 1;
    break;
  }
}
