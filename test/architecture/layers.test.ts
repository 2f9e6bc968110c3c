/** The library keeps its layers apart, and each rule that says so is shown to bite. */

import { expect, test } from "vitest";
import { AMBIENT_ALLOWED, checkArchitecture, librarySources } from "../../scripts/architecture.js";

function rulesBroken(...files: [path: string, source: string][]): string[] {
  return checkArchitecture(files.map(([path, source]) => ({ path, source }))).map(({ rule }) => rule);
}

test("the library breaks no rule of its architecture", () => {
  const violations = checkArchitecture(librarySources());
  expect(violations.map(({ path, line, rule }) => `src/${path}:${line} ${rule}`)).toEqual([]);
});

test("every permission to use the real clock is still used", () => {
  const paths = librarySources().map(({ path }) => path);
  expect(Object.keys(AMBIENT_ALLOWED).filter((path) => !paths.includes(path))).toEqual([]);
});

test.each<[string, string, string]>([
  ["core/a.ts", 'import { x } from "../queue/x.js";', "core imports nothing outside core"],
  ["core/a.ts", 'import type { x } from "../broker.js";', "core imports nothing outside core"],
  [
    "core/a.ts",
    'import { x } from "hono";',
    "core imports Node's own modules and the schema types, not hono (core/a.ts)",
  ],
  ["queue/a.ts", 'import { x } from "../events/x.js";', "a facade imports core and its own folder, not events"],
  [
    "queue/a.ts",
    'type X = import("../backends/redis/x.js").X;',
    "a facade imports core and its own folder, not backends/redis",
  ],
  ["events/a.ts", 'export { x } from "../broker.js";', "a facade imports core and its own folder, not root"],
  ["backends/redis/a.ts", 'import "../memory/x.js";', "a backend imports core and its own folder, not backends/memory"],
  [
    "backends/redis/a.ts",
    'import { x } from "../../queue/x.js";',
    "a backend imports core and its own folder, not queue",
  ],
  ["connect.ts", 'import { createClient } from "@redis/client";', "only backends/redis imports @redis/client"],
  ["backends/memory/a.ts", 'await import("@redis/client/dist/x.js");', "only backends/redis imports @redis/client"],
  ["backends/redis/a.ts", 'import { DatabaseSync } from "node:sqlite";', "only backends/sqlite imports node:sqlite"],
  ["cli/a.ts", 'import { x } from "../backends/redis/x.js";', "only connect.ts and broker.ts know the backends"],
  ["broker.ts", 'import { x } from "./testing/index.js";', "the library never imports its tests' helpers"],
  ["queue/a.ts", 'import { x } from "signalbox";', "inside src, imports are relative"],
  ["helpers.ts", "export const x = 1;", "belongs to no known folder of src"],
  ["utils/a.ts", "export const x = 1;", "belongs to no known folder of src"],
  ["index.ts", 'export * from "./broker.js";', "exports are named, never `export *`"],
  ["core/a.ts", "export default 1;", "no default exports"],
  ["core/a.ts", "const t = Date.now();", "Date.now belongs behind core/clock.ts"],
  ["core/a.ts", "const t = `at ${Math.random()}`;", "Math.random belongs behind core/clock.ts"],
  ["queue/a.ts", "setTimeout(run, 5);", "setTimeout belongs behind core/clock.ts"],
  ["core/a.ts", "const t = new Date();", "new Date belongs behind core/clock.ts"],
  ["core/a.ts", "x;\n".repeat(401), "401 lines, more than 400"],
])("in %s, %j is refused", (path, source, rule) => {
  expect(rulesBroken([path, source])).toEqual([rule]);
});

test("a cycle of imports is refused, and shown whole", () => {
  const files: [string, string][] = [
    ["core/a.ts", 'import { b } from "./b.js";'],
    ["core/b.ts", 'import { c } from "./c.js";'],
    ["core/c.ts", 'import type { a } from "./a.js";'],
  ];
  expect(rulesBroken(...files)).toEqual(["imports itself: core/a.ts → core/b.ts → core/c.ts → core/a.ts"]);
});

test.each<[string, string]>([
  ["core/clock.ts", "export const now = () => Date.now();"],
  ["core/a.ts", "// Date.now() and setTimeout are for the clock"],
  ["core/a.ts", 'const hint = "import { x } from \\"../queue/x.js\\"";'],
  ["core/a.ts", "const time = new Date(ms);"],
  ["core/a.ts", 'import type { StandardSchemaV1 } from "@standard-schema/spec";'],
  ["core/a.ts", 'import { randomBytes } from "node:crypto";'],
  ["core/a.ts", 'const digits = Buffer.from("0123456789");'],
  ["backends/redis/a.ts", 'import { createClient } from "@redis/client";'],
  ["backends/sqlite/a.ts", "setTimeout(run, 5);"],
  ["queue/a.ts", 'import type { QueuePort } from "../core/backend.js";'],
  ["connect.ts", 'const backend = await import("./backends/redis/index.js");'],
  ["cli/a.ts", 'import { connect } from "../connect.js";'],
])("in %s, %j is allowed", (path, source) => {
  expect(rulesBroken([path, source])).toEqual([]);
});
