/** The list of promises notices what is missing, unknown or listed twice, and which titles count. */

import { expect, test } from "vitest";
import { type Acceptance, problemsOf, taggedTests } from "../../scripts/acceptance.js";

function tagsIn(source: string): string[] {
  return taggedTests({ path: "test/a.test.ts", source }).flatMap(({ rows }) => rows);
}

function list(rows: Acceptance["rows"]): Acceptance {
  return { current: 2, rows };
}

test.each<[string, string[]]>([
  ['test("[Q1] it works", run);', ["Q1"]],
  ['test("[Q1][Q22] it works", run);', ["Q1", "Q22"]],
  ['it.each(backends)(\n  "[Q1] it works on %s",\n  run);', ["Q1"]],
  ["test(`[Q1] it works on ${backend.name}`, run);", ["Q1"]],
  ["test(`${backend.name}: [Q1] it works`, run);", ["Q1"]],
  ['const one = { title: "[Q1] it works", run };', ["Q1"]],
  ['// test("[Q1] it works", run);', []],
  ['test.todo("[Q1] it will work");', []],
  ['test.skip("[Q1] it worked", run);', []],
  ['expect(matches("[Q1]*", "Q")).toBe(true);', []],
  ['const text = "[Q1] it works";', []],
])("%j names %j", (source, rows) => {
  expect(tagsIn(source)).toEqual(rows);
});

test("a tagged test is found with its file, line and title", () => {
  const title = "[Q1] it works";
  const source = `import { test } from "vitest";\n\ntest("${title}", run);\n`;
  expect(taggedTests({ path: "test/a.test.ts", source })).toEqual([
    { file: "test/a.test.ts", line: 3, title, rows: ["Q1"] },
  ]);
});

test("what is due needs a test; what is due later, or asks for nothing, does not", () => {
  const rows = (["Q1", "Q2", "Q3", "Q4", "Q5"] as const).map((row, index) => ({
    row,
    promise: "works",
    due: ([1, 2, 3, "later", null] as const)[index] ?? null,
  }));
  const tests = taggedTests({ path: "test/a.test.ts", source: 'test("[Q1] it works", run);' });
  expect(problemsOf(list(rows), tests)).toEqual(["Q2 is due (2) and has no test: works"]);
});

test("an unknown row and a row listed twice are problems", () => {
  const row = { row: "Q1", promise: "works", due: 3 };
  const tests = taggedTests({ path: "test/a.test.ts", source: 'test("[Q9] it works", run);' });
  expect(problemsOf(list([row, row]), tests)).toEqual([
    "Q1 is listed twice",
    "test/a.test.ts:1 names Q9, which is not listed",
  ]);
});
