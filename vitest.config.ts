/** How the tests run: `npm test` takes the fast set, `npm run test:full` adds the long runs (`*.full.test.ts`). */

import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { plainLineReporter } from "./scripts/plain-line-reporter.js";

const LONG_RUNS = "test/**/*.full.test.ts";
/** They count seconds, with several processes at work: they come last, with a core for each. */
const AGAINST_THE_CLOCK = ["chaos-*", "planted-*", "expiry"].map((name) => `test/faults/${name}.test.ts`);
/** They take the longest, though their files are short. */
const LONGEST = [
  "contract/sqlite-processes",
  "contract/node24",
  "contract/",
  "faults/consumers",
  "examples/quake-desk",
  "faults/presence.",
  "facades/forwarding",
  "docs/blocks",
  "faults/planted-",
  "faults/chaos-",
];

/** Begins with what takes longest, as nobody is to wait for one file in the end. Vitest alone goes by size. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const placeOf = ({ moduleId }: TestSpecification): number => {
      const place = LONGEST.findIndex((path) => moduleId.includes(`/test/${path}`));
      return place < 0 ? LONGEST.length : place;
    };
    return (await super.sort(files)).toSorted((one, other) => placeOf(one) - placeOf(other));
  }
}

function source(path: string): string {
  return fileURLToPath(new URL(`./src/${path}`, import.meta.url));
}

export default defineConfig(({ mode }) => {
  const excluded = [...configDefaults.exclude, ...(mode === "full" ? [] : [LONG_RUNS])];
  return {
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
      projects: [
        {
          extends: true,
          test: {
            name: "tests",
            include: ["test/**/*.test.ts"],
            exclude: [...excluded, ...AGAINST_THE_CLOCK],
            // More than cores: most tests wait for servers, leases and timeouts for most of their time.
            maxWorkers: 3,
            sequence: { groupOrder: 0 },
          },
        },
        {
          extends: true,
          test: {
            name: "against the clock",
            include: AGAINST_THE_CLOCK,
            exclude: excluded,
            maxWorkers: 2,
            sequence: { groupOrder: 1 },
          },
        },
      ],
      globalSetup: ["test/support/global-setup.ts"],
      pool: "forks",
      sequence: { sequencer: LongestFirst },
      // Real servers, real signals and two shared cores: where nobody looks on, a test whose deadline the machine missed has a
      // second try, which the report shows. A fault of ours fails both.
      retry: process.env["CI"] === undefined ? 0 : 1,
      testTimeout: 30_000,
      hookTimeout: 60_000,
      teardownTimeout: 10_000,
      reporters: ["default", plainLineReporter()],
    },
  };
});
