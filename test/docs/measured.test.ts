/** The README claims no figure that the benchmarks have not written down. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { withMeasured } from "../../scripts/measured.js";

test("[D1] the README's figures are those of bench/results: messages a second, and percentiles of latency, of pub/sub as well", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const readme = readFileSync(`${root}/README.md`, "utf8");
  // Otherwise: npx tsx scripts/measured.ts
  expect(readme).toBe(withMeasured(readme, root));
  expect(readme).toMatch(/^\| pub\/sub, Redis(?: \| [\d.]+){4} \|$/m);
});
