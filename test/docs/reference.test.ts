/** The reference pages list what the code has, no more and no less. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as signalbox from "signalbox";
import { expect, test } from "vitest";
import { codeRowsOf, readPage, root } from "./support/pages.js";

const unquoted = (cell: string | undefined): string => (cell ?? "").replaceAll("`", "");

/** The members of an interface, or of a union of strings, as they stand in a source file. */
function namesIn(file: string, declaration: RegExp, member: RegExp): string[] {
  const source = readFileSync(join(root, file), "utf8");
  const body = declaration.exec(source)?.[1];
  if (body === undefined) throw new Error(`${file} holds nothing that matches ${declaration}`);
  return [...body.matchAll(member)].map(([, name]) => name!);
}

test("[X9] one event-id list, stable, documented: docs/reference/log-events.md holds exactly the ids and levels of LOG_EVENTS", () => {
  const rows = codeRowsOf(readPage("docs/reference/log-events.md"));
  const documented = rows.map(([id, level]) => `${unquoted(id)} ${unquoted(level)}`);
  const known = Object.entries(signalbox.LOG_EVENTS).map(([id, { level }]) => `${id} ${level}`);
  expect(documented.toSorted()).toEqual(known.toSorted());
});

test("docs/reference/errors.md lists exactly the error classes and codes that there are", () => {
  const rows = codeRowsOf(readPage("docs/reference/errors.md"));
  const classes = Object.entries(signalbox)
    .filter(([, value]) => typeof value === "function" && value.prototype instanceof signalbox.SignalboxError)
    .map(([name]) => name);
  const codes = namesIn("src/core/errors.ts", /export type ErrorCode =([^;]*);/, /"([A-Z_]+)"/g);
  expect(rows.map(([name]) => unquoted(name)).toSorted()).toEqual(classes.toSorted());
  expect(rows.map(([, code]) => unquoted(code)).toSorted()).toEqual(codes.toSorted());
});

test("docs/reference/connect.md lists exactly the options of connect", () => {
  const options = namesIn(
    "src/connect.ts",
    /export interface ConnectOptions<[^{]*\{\n([\s\S]*?)\n\}/,
    /^ {2}readonly (\w+)\??:/gm,
  );
  const rows = codeRowsOf(readPage("docs/reference/connect.md")).map(([name]) => unquoted(name));
  expect(rows.filter((name) => !name.includes(":")).toSorted()).toEqual(options.toSorted());
});

test("docs/reference/metrics.md lists exactly the metrics that the code records", () => {
  const rows = codeRowsOf(readPage("docs/reference/metrics.md"))
    .map(([name]) => unquoted(name))
    .filter((name) => name.includes("."));
  const named = namesIn("src/core/telemetry.ts", /export const METRICS = \{([^}]*)\}/, /"([a-z.]+)"/g);
  const own = [...readFileSync(join(root, "src/core/subscription.ts"), "utf8").matchAll(/"(signalbox\.[a-z.]+)"/g)];
  expect(rows.toSorted()).toEqual([...new Set([...named, ...own.map(([, name]) => name!)])].toSorted());
});
