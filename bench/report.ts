/** From rows to ratios and verdicts, and to what is printed and written. */

import type { Contender, Row } from "./harness.js";
import type { PathName } from "./options.js";

/** What a path measured. */
export interface Report {
  readonly path: PathName;
  readonly rows: readonly Row[];
  /** null: what it compares was not measured. */
  readonly ratios: Readonly<Record<string, number | null>>;
}

/** One figure over another, and what is asked of it. */
export interface RatioSpec {
  readonly name: string;
  readonly of: Figure;
  /** A number is a target in the unit of the figure. */
  readonly over: Figure | number;
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Another ratio that counts instead where this one asks for more than that one's floor itself does. */
  readonly unlessBeyond?: Figure;
}

/** A field of a row; `bytes` of the measured memory. */
export interface Figure {
  readonly row: string;
  readonly field: Exclude<keyof Row, "name"> | "bytes";
}

export type Verdict = "pass" | "short" | "beyond the floor" | "";

export interface Judged {
  readonly name: string;
  readonly reached: number | null;
  readonly asked: string;
  readonly verdict: Verdict;
}

export function rate(row: string): Figure {
  return { row, field: "perSecond" };
}

export function cpu(row: string): Figure {
  return { row, field: "cpuMicros" };
}

export function judge(
  specs: readonly RatioSpec[],
  rows: readonly Row[],
  bytes: ReadonlyMap<string, number>,
): readonly Judged[] {
  const read = (figure: Figure | number): number | null => {
    if (typeof figure === "number") return figure;
    if (figure.field === "bytes") return bytes.get(figure.row) ?? null;
    return rows.find(({ name }) => name === figure.row)?.[figure.field] ?? null;
  };
  return specs.map((spec) => {
    const [of, over] = [read(spec.of), read(spec.over)];
    const reached = of === null || over === null || over === 0 ? null : Number((of / over).toFixed(3));
    return { name: spec.name, reached, asked: askedText(spec), verdict: verdictOf(spec, reached, over, read) };
  });
}

function verdictOf(
  { atLeast, atMost, unlessBeyond }: RatioSpec,
  reached: number | null,
  over: number | null,
  read: (figure: Figure) => number | null,
): Verdict {
  if (reached === null || over === null || (atLeast === undefined && atMost === undefined)) return "";
  if (reached >= (atLeast ?? 0) && reached <= (atMost ?? Number.POSITIVE_INFINITY)) return "pass";
  const limit = unlessBeyond === undefined ? null : read(unlessBeyond);
  return limit !== null && (atLeast ?? 0) * over > limit ? "beyond the floor" : "short";
}

function askedText({ atLeast, atMost }: RatioSpec): string {
  if (atLeast !== undefined) return `≥ ${atLeast}`;
  return atMost === undefined ? "" : `≤ ${atMost}`;
}

export function toReport(path: PathName, rows: readonly Row[], judged: readonly Judged[]): Report {
  return { path, rows, ratios: Object.fromEntries(judged.map(({ name, reached }) => [name, reached])) };
}

export function describe(
  path: PathName,
  rows: readonly Row[],
  judged: readonly Judged[],
  bytes: ReadonlyMap<string, number>,
  legend: readonly Contender[],
): string {
  const figures = rows.map((row) => [
    row.name,
    row.perSecond === null ? "" : Math.round(row.perSecond).toLocaleString("en"),
    ...[row.cpuMicros, row.redisCpuMicros, row.p50Ms, row.p99Ms].map((value) => (value === null ? "" : String(value))),
  ]);
  const sections = [
    `${path}: medians of the rounds; CPU in µs a message`,
    table(["", "messages/s", "CPU", "Redis CPU", "p50 ms", "p99 ms"], figures),
  ];
  if (bytes.size > 0) {
    const sizes = [...bytes].map(([name, size]) => [name, size.toFixed(0)]);
    sections.push(table(["a waiting message in Redis", "bytes"], sizes));
  }
  const verdicts = judged
    .filter(({ reached }) => reached !== null)
    .map(({ name, reached, asked, verdict }) => [name, asked, String(reached), verdict]);
  sections.push(table(["ratio", "asked", "reached", ""], verdicts));
  const meanings = new Map(legend.map(({ name, is }) => [`${name}: ${is}`, undefined]));
  sections.push([...meanings.keys()].sort().join("\n"));
  return `${sections.join("\n\n")}\n`;
}

/** The first column to the left, the others to the right. */
function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...lines.map((line) => line[column]?.length ?? 0)));
  const render = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ")
      .trimEnd();
  return [render(head), widths.map((width) => "-".repeat(width)).join("  "), ...lines.map(render)].join("\n");
}
