/** `npm run acceptance`: which promise is proven by which tests, read from the `[A17]` tags in their titles. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { lineAt, readSources, type SourceFile, scan } from "./source-scan.js";

/** One promise. `due` is the milestone that has to prove it, "later" when none is set, null when it asks for nothing. */
export interface Row {
  readonly row: string;
  readonly promise: string;
  readonly due: number | "later" | null;
}

export interface Acceptance {
  /** The milestone being built; rows due up to here must have a test. */
  readonly current: number;
  readonly rows: readonly Row[];
}

export interface TaggedTest {
  readonly file: string;
  readonly line: number;
  readonly title: string;
  readonly rows: readonly string[];
}

/** A tag stands alone: between the title's ends, spaces and other tags. `"[A1]*"` is a glob, not a tag. */
const TAG = /(?<=^|\s|\])\[([A-Z]\d{1,3})\](?=\s|\[)/g;
/** What stands before a title: a call's first argument, or a contract case's `title` or `name`. */
const BEFORE_TITLE = /(?:\(|\b(?:title|name)\s*:)\s*$/;
/** Tests that never run prove nothing. */
const NOT_RUN = /\.(?:todo|skip)\s*\(\s*$/;

/** Finds the tagged titles in one file. */
export function taggedTests({ path, source }: SourceFile): TaggedTest[] {
  const { code, strings } = scan(source);
  return strings.flatMap(({ start, text }) => {
    const rows = [...text.matchAll(TAG)].map((match) => match[1] ?? "");
    const before = code.slice(Math.max(0, start - 80), start);
    if (rows.length === 0 || !BEFORE_TITLE.test(before) || NOT_RUN.test(before)) return [];
    return [{ file: path, line: lineAt(source, start), title: text, rows }];
  });
}

/** Everything that makes the list of promises and the tests disagree. */
export function problemsOf({ current, rows }: Acceptance, tests: readonly TaggedTest[]): string[] {
  const known = new Set(rows.map(({ row }) => row));
  const proven = new Set(tests.flatMap((test) => test.rows));
  const names = rows.map(({ row }) => row);
  return [
    ...names.filter((row, index) => names.indexOf(row) !== index).map((row) => `${row} is listed twice`),
    ...rows.filter(({ promise }) => promise.trim() === "").map(({ row }) => `${row} promises nothing`),
    ...tests.flatMap(({ file, line, rows: tags }) =>
      tags.filter((tag) => !known.has(tag)).map((tag) => `${file}:${line} names ${tag}, which is not listed`),
    ),
    ...rows
      .filter(({ row, due }) => typeof due === "number" && due <= current && !proven.has(row))
      .map(({ row, due, promise }) => `${row} is due (${due}) and has no test: ${promise}`),
  ];
}

function print({ rows }: Acceptance, tests: readonly TaggedTest[]): void {
  for (const { row, due, promise } of rows) {
    console.log(`${row.padEnd(4)} ${String(due ?? "-").padEnd(6)} ${promise}`);
    for (const { file, line, title, rows: tags } of tests) {
      if (tags.includes(row)) console.log(`            ${file}:${line}  ${title}`);
    }
  }
}

function summaryOf({ current, rows }: Acceptance, tests: readonly TaggedTest[]): string {
  const proven = new Set(tests.flatMap((test) => test.rows));
  const due = rows.filter((row) => typeof row.due === "number" && row.due <= current);
  const done = due.filter(({ row }) => proven.has(row)).length;
  const early = rows.filter((row) => !due.includes(row) && proven.has(row.row)).length;
  return `${rows.length} promises: ${done} of ${due.length} due have a test, ${early} more ahead of time`;
}

function main(flags: readonly string[]): void {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const list = JSON.parse(readFileSync(join(root, "test/acceptance.json"), "utf8")) as Acceptance;
  const files = [...readSources(root, "test"), ...readSources(root, "src/testing")];
  const tests = files.flatMap(taggedTests);
  const problems = problemsOf(list, tests);
  if (flags.includes("--json")) {
    const rows = list.rows.map((row) => ({ ...row, tests: tests.filter((test) => test.rows.includes(row.row)) }));
    console.log(JSON.stringify({ current: list.current, rows, problems }, null, 2));
  } else {
    if (!flags.includes("--brief")) print(list, tests);
    for (const problem of problems) console.error(problem);
    console.log(summaryOf(list, tests));
  }
  if (problems.length > 0) process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
