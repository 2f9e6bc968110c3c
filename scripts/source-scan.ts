/** Finds string literals and blanks comments in TypeScript text, as much of the language as the checks here need. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, sep } from "node:path";

export interface StringLiteral {
  /** Offset of the opening quote. */
  readonly start: number;
  /** Text between the quotes; `${…}` in a template is left as written. */
  readonly text: string;
}

export interface Scan {
  /** The source at its original offsets, with comments, string contents and regular expressions turned into spaces. */
  readonly code: string;
  readonly strings: readonly StringLiteral[];
}

const STRING = /"(?:[^"\\\n]|\\[^])*"|'(?:[^'\\\n]|\\[^])*'/y;
const COMMENT = /\/\/[^\n]*|\/\*[^]*?\*\//y;
const REGEX = /\/(?![*/])(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
/** What stands before a slash that begins a regular expression and not a division. */
const BEFORE_REGEX = /(?:^|[-+*%=<>&|^!~?:;,([{}]|\b(?:return|typeof|case|in|of|delete|void|throw|await|yield))\s*$/;

/** Scans one file's text. Offsets in the result are offsets in the input. */
export function scan(source: string): Scan {
  const out = source.split("");
  const strings: StringLiteral[] = [];
  const blank = (from: number, to: number): void => {
    for (let i = from; i < to; i++) if (out[i] !== "\n") out[i] = " ";
  };
  const match = (pattern: RegExp, at: number): number => {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0].length ?? 0;
  };
  /** Walks code from `at` until the brace that closes a template's `${`, or the end; returns the offset behind it. */
  const walk = (at: number): number => {
    let depth = 0;
    for (let i = at; i < source.length; ) {
      const char = source[i] ?? "";
      let length = 1;
      if (char === "/") {
        length = match(COMMENT, i);
        if (length === 0 && BEFORE_REGEX.test(out.slice(Math.max(0, i - 40), i).join(""))) length = match(REGEX, i);
        if (length > 0) blank(i, i + length);
        length ||= 1;
      } else if (char === '"' || char === "'") {
        length = match(STRING, i) || 1;
        strings.push({ start: i, text: source.slice(i + 1, i + length - 1) });
        blank(i + 1, i + length - 1);
      } else if (char === "`") {
        length = template(i) - i;
      } else if (char === "{") {
        depth += 1;
      } else if (char === "}") {
        if (depth === 0) return i + 1;
        depth -= 1;
      }
      i += length;
    }
    return source.length;
  };
  /** Walks a template literal that opens at `at`; code inside `${…}` stays visible. */
  const template = (at: number): number => {
    const slot = strings.push({ start: at, text: "" }) - 1;
    let i = at + 1;
    while (i < source.length && source[i] !== "`") {
      if (source.startsWith("${", i)) {
        blank(i, i + 2);
        i = walk(i + 2);
        blank(i - 1, i);
        continue;
      }
      const length = source[i] === "\\" ? 2 : 1;
      blank(i, i + length);
      i += length;
    }
    strings[slot] = { start: at, text: source.slice(at + 1, i) };
    return i + 1;
  };
  let end = 0;
  while (end < source.length) end = walk(end);
  return { code: out.join(""), strings };
}

/** The 1-based line of an offset. */
export function lineAt(source: string, offset: number): number {
  return source.slice(0, offset).split("\n").length;
}

export interface SourceFile {
  /** Path from the repository's root, with forward slashes. */
  readonly path: string;
  readonly source: string;
}

/** Every TypeScript file below `folder`, in path order; none when the folder does not exist. */
export function readSources(root: string, folder: string): SourceFile[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => `${folder}/${path.split(sep).join("/")}`)
    .toSorted()
    .map((path) => ({ path, source: readFileSync(join(root, path), "utf8") }));
}
