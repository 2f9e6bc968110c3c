/** How the tests run: `npm test` takes the fast set, `npm run test:full` adds the long runs (`*.full.test.ts`). */

import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";
import { plainLineReporter } from "./scripts/plain-line-reporter.js";

const LONG_RUNS = "test/**/*.full.test.ts";

function source(path: string): string {
  return fileURLToPath(new URL(`./src/${path}`, import.meta.url));
}

export default defineConfig(({ mode }) => ({
  resolve: {
    alias: [
      { find: /^signalbox$/, replacement: source("index.ts") },
      { find: /^signalbox\/decorators$/, replacement: source("decorators/index.ts") },
      { find: /^signalbox\/msgpack$/, replacement: source("codecs/msgpack.ts") },
      { find: /^signalbox\/testing$/, replacement: source("testing/index.ts") },
    ],
  },
  // Node 20 knows neither `using` nor decorators, so both are lowered as in the build.
  esbuild: { target: "es2022" },
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...(mode === "full" ? [] : [LONG_RUNS])],
    globalSetup: ["test/support/global-setup.ts"],
    pool: "forks",
    // More than cores: most tests wait for servers, leases and timeouts for most of their time.
    maxWorkers: 3,
    // Real servers, real signals and two shared cores: where nobody looks on, a test whose deadline the machine missed has a
    // second try, which the report shows. A fault of ours fails both.
    retry: process.env["CI"] === undefined ? 0 : 1,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    reporters: ["default", plainLineReporter()],
  },
}));
