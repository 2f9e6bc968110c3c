/** The README claims no figure that the benchmarks have not written down. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { withMeasured } from "../../scripts/measured.js";

test("the README's figures are those of bench/results", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const readme = readFileSync(`${root}/README.md`, "utf8");
  // Otherwise: npx tsx scripts/measured.ts
  expect(readme).toBe(withMeasured(readme, root));
});

test("[D1] pub/sub's latency is measured on every backend, at the median and at 99 %, and published", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const { rows } = JSON.parse(readFileSync(`${root}/bench/results/pubsub.json`, "utf8")) as {
    rows: { name: string; p50Ms: number | null; p99Ms: number | null }[];
  };
  const readme = readFileSync(`${root}/README.md`, "utf8");
  for (const backend of ["memory", "sqlite", "redis"]) {
    const row = rows.find(({ name }) => name === `latency signalbox ${backend}`);
    expect(row, backend).toMatchObject({ p50Ms: expect.any(Number), p99Ms: expect.any(Number) });
    expect(readme).toContain(`${row?.p50Ms?.toFixed(2)} / ${row?.p99Ms?.toFixed(2)}`);
  }
});
