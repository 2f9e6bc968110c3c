/** The package as a user gets it: packed, unpacked into a folder of its own, imported by plain Node and by a compiler. */

import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { build } from "../../scripts/build.js";

interface LockedPackage {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly hasInstallScript?: boolean;
}

const PROMISED = ["connect", "defineContract", "channel", "encryption", "retry", "defer", "deadLetter", "skip"];
const MAX_RUNTIME_PACKAGES = 10;

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};
const tarball = `signalbox-${version}.tgz`;
const run = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));
const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
  packages: Readonly<Record<string, LockedPackage>>;
};
/** What a user installs along with signalbox, by path in `node_modules`. */
const runtimePackages = closureOf(lock.packages[""]?.dependencies ?? {});

let workspace: string;
let unpacked: string;

beforeAll(async () => {
  workspace = mkdtempSync(join(tmpdir(), "signalbox-package-"));
  // Packed from a copy with a build of its own, so that nothing else that uses `dist` meets it half built.
  const stage = join(workspace, "stage");
  mkdirSync(stage);
  build(join(stage, "dist"));
  for (const file of ["package.json", "README.md", "LICENSE", "CHANGELOG.md"]) {
    if (existsSync(join(root, file))) cpSync(join(root, file), join(stage, file));
  }
  await run("npm", ["pack", "--ignore-scripts", "--pack-destination", workspace], { cwd: stage });
  await run("tar", ["-xzf", tarball], { cwd: workspace });
  unpacked = join(workspace, "package");
});

afterAll(() => {
  rmSync(workspace, { recursive: true, force: true });
});

/** The packages that `dependencies` bring, nested ones included, as paths of the lockfile. */
function closureOf(dependencies: Readonly<Record<string, string>>, from = ""): Set<string> {
  const found = new Set<string>();
  for (const name of Object.keys(dependencies)) {
    const nested = `${from}/node_modules/${name}`.replace(/^\//, "");
    const path = nested in lock.packages ? nested : `node_modules/${name}`;
    found.add(path);
    for (const inner of closureOf(lock.packages[path]?.dependencies ?? {}, path)) found.add(inner);
  }
  return found;
}

/** A program's folder in which the package is installed with the given packages and nothing else. */
function installWith(name: string, packages: Iterable<string>): string {
  const folder = join(workspace, name);
  cpSync(unpacked, join(folder, "node_modules/signalbox"), { recursive: true });
  for (const path of packages) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    if (!existsSync(join(folder, path))) symlinkSync(join(root, path), join(folder, path), "dir");
  }
  writeFileSync(join(folder, "package.json"), '{ "type": "module", "private": true }\n');
  return folder;
}

async function runProgram(folder: string, program: string): Promise<unknown> {
  writeFileSync(join(folder, "main.js"), program);
  const { stdout } = await run(process.execPath, ["main.js"], { cwd: folder, timeout: 20_000 });
  return JSON.parse(stdout);
}

test("the tarball holds the build, its types and the licence, and no source or test", async () => {
  const { stdout } = await run("tar", ["-tzf", tarball], { cwd: workspace });
  const files = stdout.trim().split("\n");
  expect(files).toEqual(expect.arrayContaining(["package/package.json", "package/LICENSE", "package/dist/index.js"]));
  const strangers = files.filter((file) => !/^package\/(?:dist\/|[A-Z]+(?:\.md)?$|package\.json$)/.test(file));
  expect(strangers).toEqual([]);
  expect(files.filter((file) => /(?<!\.d)\.ts$/.test(file))).toEqual([]);
});

test("plain Node imports every entry point and finds the promised names", async () => {
  const folder = installWith("full", runtimePackages);
  const names = await runProgram(
    folder,
    `const main = await import("signalbox"), testing = await import("signalbox/testing");
     const decorators = await import("signalbox/decorators");
     const { code } = await import("signalbox/msgpack").catch((error) => error);
     const keys = Object.keys;
     console.log(JSON.stringify({ main: keys(main), testing: keys(testing), decorators: keys(decorators), msgpack: code }));`,
  );
  expect(names).toEqual({
    main: expect.arrayContaining(PROMISED),
    testing: expect.arrayContaining([expect.any(String)]),
    decorators: expect.arrayContaining(["Consume", "decoratorsFor"]),
    // An optional peer: whoever wants it installs it.
    msgpack: "ERR_MODULE_NOT_FOUND",
  });
  expect(names).not.toHaveProperty("main", expect.arrayContaining(["default"]));
});

test("[E3] the start page's first commands, in an empty folder, lead to a stored event within five minutes", async () => {
  const startedAt = performance.now();
  const folder = join(workspace, "newcomer");
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), '{ "type": "module", "private": true }\n');
  const page = readFileSync(join(root, "docs/start.md"), "utf8");
  // As the page has it, but for where the checkout is.
  const install = /^npm install \.\.\/signalbox\/(\S+\.tgz)$/m.exec(page)?.[1];
  const driver = /add `(@photostructure\/sqlite@\S+)`/.exec(page)?.[1];
  const program = /```ts\n([\s\S]*?)```/.exec(page)?.[1];
  if (install === undefined || driver === undefined || program === undefined)
    throw new Error("docs/start.md no longer says what to type");
  expect(install).toBe(tarball);
  const options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"];
  await run("npm", ["install", ...options, join(workspace, tarball), driver], { cwd: folder });
  writeFileSync(join(folder, "main.js"), program);
  const { stdout } = await run(process.execPath, ["main.js"], { cwd: folder, timeout: 20_000 });
  expect(stdout.split("\n").slice(0, 2)).toEqual(["36 1 fsync", "up"]);
  expect(performance.now() - startedAt).toBeLessThan(300_000);
}, 300_000);

test("the msgpack codec works beside the optional msgpackr", async () => {
  const folder = installWith("msgpack", [...runtimePackages, "node_modules/msgpackr"]);
  const payload = await runProgram(
    folder,
    `import { msgpackCodec } from "signalbox/msgpack";
     console.log(JSON.stringify(msgpackCodec.decode(msgpackCodec.encode({ a: [1] }))));`,
  );
  expect(payload).toEqual({ a: [1] });
});

test("a memory broker works where no other package is installed, so it loads no server's client", async () => {
  const folder = installWith("bare", []);
  const state = await runProgram(
    folder,
    `import { connect } from "signalbox";
     const broker = await connect("memory:");
     await broker.ping();
     await broker.close();
     console.log(JSON.stringify("closed"));`,
  );
  expect(state).toBe("closed");
});

test("a strict TypeScript program compiles against the packed types, declarations checked as well", async () => {
  const types = ["node_modules/@types/node", "node_modules/undici-types", "node_modules/msgpackr"];
  const folder = installWith("typed", [...runtimePackages, ...types]);
  writeFileSync(
    join(folder, "main.ts"),
    `import { ${PROMISED.join(", ")} } from "signalbox";
     import * as testing from "signalbox/testing";
     import * as decorators from "signalbox/decorators";
     import { msgpackCodec } from "signalbox/msgpack";
     const broker = await connect("memory:");
     await broker.close({ drainMs: 0 });
     export const used: readonly unknown[] = [${PROMISED.join(", ")}, testing, decorators, msgpackCodec];\n`,
  );
  const options = "--noEmit --strict --exactOptionalPropertyTypes --module nodenext --target es2022 --types node";
  const lib = ["--lib", "es2023,esnext.disposable"];
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const compiling = run(process.execPath, [tsc, ...options.split(" "), ...lib, "main.ts"], { cwd: folder });
  const report = await compiling.then(
    () => "",
    (error: unknown) => (error as { stdout: string }).stdout,
  );
  expect(report).toBe("");
});

test("a user installs fewer than ten packages, and none of them runs a script at install", () => {
  // The package itself counts as one.
  expect(runtimePackages.size + 1).toBeLessThan(MAX_RUNTIME_PACKAGES);
  expect([...runtimePackages].filter((path) => lock.packages[path]?.hasInstallScript)).toEqual([]);
});
