/** The documentation's code blocks as programs: compiled together with the library's source, then run by plain Node. */

import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { startProcess } from "../../support/process.js";
import { startRedis } from "../../support/redis-servers.js";
import { withDeadline } from "../../support/wait.js";
import { type Block, root } from "./pages.js";

export interface Programs {
  /** What the compiler says about the blocks, each line beginning with the block's place. */
  readonly complaints: readonly string[];
  /** Runs one block to its end, in a folder of its own. */
  run(block: Block): Promise<Ended>;
  dispose(): void;
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Stands for whatever Redis there is: replaced by a server of the block's own. */
const REDIS_URL = "redis://localhost:6379";
const DEADLINE_MS = 20_000;
/** A developer's own servers are none of the documentation's business. */
const NO_URLS = { SIGNALBOX_URL: undefined, REDIS_URL: undefined };

/** As strict as the library's own, except that a handler may return an outcome on one path and nothing on another. */
const COMPILER_OPTIONS = {
  noEmit: false,
  declaration: false,
  noImplicitReturns: false,
  noUnusedLocals: false,
  noUnusedParameters: false,
};

/** Compiles all blocks in one go. */
export async function compileBlocks(blocks: readonly Block[]): Promise<Programs> {
  mkdirSync(join(root, ".cache"), { recursive: true });
  const workspace = await mkdtemp(join(root, ".cache/docs-"));
  const out = join(workspace, "out");
  // Two folders below the root, as `test/contract` is: `../../src` leads to the source.
  for (const block of blocks) writeFileSync(join(workspace, `${nameOf(block)}.ts`), `${block.code}\nexport {};\n`);
  const compilerOptions = { ...COMPILER_OPTIONS, rootDir: root, outDir: out };
  const config = { extends: join(root, "tsconfig.json"), compilerOptions, include: ["*.ts"] };
  writeFileSync(join(workspace, "tsconfig.json"), JSON.stringify(config));

  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const compiler = startProcess(process.execPath, [tsc, "-p", workspace, "--pretty", "false"], {
    cwd: root,
    keepOutputBytes: 1_000_000,
  });
  const { code } = await compiler.exited;
  const said = compiler.output("stdout");
  const complaints = complaintsIn(said, blocks);
  // Errors in the library's own source are for `npm run types` to report; the compiler writes its output all the same.
  if (code !== 0 && said.trim() === "") throw new Error(`tsc failed: ${compiler.output()}`);
  installPackage(out);

  return {
    complaints,
    run: (block) => run(join(out, workspace.slice(root.length)), workspace, block),
    dispose: () => rmSync(workspace, { recursive: true, force: true }),
  };
}

/** Makes `signalbox` resolve to the compiled source, as it does to the package for a user. */
function installPackage(out: string): void {
  // Without a package of their own the blocks would belong to this repository's, which finds itself under its name.
  writeFileSync(join(out, "package.json"), JSON.stringify({ name: "a-user", private: true, type: "module" }));
  const library = join(out, "src");
  const exports = {
    ".": "./index.js",
    "./decorators": "./decorators/index.js",
    "./msgpack": "./codecs/msgpack.js",
    "./testing": "./testing/index.js",
  };
  writeFileSync(join(library, "package.json"), JSON.stringify({ name: "signalbox", type: "module", exports }));
  // What is no TypeScript, such as the Lua scripts, lies beside the code that reads it.
  cpSync(join(root, "src"), library, { recursive: true, filter: (path) => !path.endsWith(".ts") });
  mkdirSync(join(out, "node_modules"));
  symlinkSync(library, join(out, "node_modules/signalbox"), "dir");
}

function complaintsIn(said: string, blocks: readonly Block[]): string[] {
  const places = new Map(blocks.map((block) => [nameOf(block), block]));
  return said.split("\n").flatMap((line) => {
    const [, name = "", at = "", text = ""] = /docs-[^/]*\/([^/\s]+)\.ts\((\d+),\d+\): (.*)$/.exec(line) ?? [];
    const block = places.get(name);
    if (block === undefined) return [];
    const [path, start] = block.place.split(":");
    return [`${path}:${Number(start) + Number(at) - 1}: ${text}`];
  });
}

function nameOf({ place }: Block): string {
  return place.replaceAll(/[^A-Za-z0-9]+/g, "-");
}

async function run(folder: string, workspace: string, block: Block): Promise<Ended> {
  const file = join(folder, `${nameOf(block)}.js`);
  const server = block.code.includes(REDIS_URL) ? await startRedis() : undefined;
  try {
    if (server !== undefined) writeFileSync(file, readFileSync(file, "utf8").replaceAll(REDIS_URL, server.url));
    const cwd = await mkdtemp(join(workspace, "run-"));
    await using program = startProcess(process.execPath, [file], { cwd, env: NO_URLS });
    const { code } = await withDeadline(() => program.exited, DEADLINE_MS, block.place);
    return { code, stdout: program.output("stdout"), stderr: program.output("stderr") };
  } finally {
    await server?.stop();
  }
}

/** What a block says that it prints: the `// → text` behind its lines. */
export function promisedOutput({ code }: Block): string[] {
  return code.split("\n").flatMap((line) => /\/\/ → (.*)$/.exec(line)?.[1]?.trim() ?? []);
}
