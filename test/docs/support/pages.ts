/** The pages of the documentation: their text, their headings, and the code in them. */

import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root: string = fileURLToPath(new URL("../../..", import.meta.url));

export interface Page {
  /** From the repository's root, with forward slashes. */
  readonly path: string;
  readonly lines: readonly string[];
}

/** One fenced block. */
export interface Block {
  /** `docs/start.md:12`: where its code begins. */
  readonly place: string;
  readonly language: string;
  readonly code: string;
}

/** The pages at the repository's root that are part of the documentation. */
const ROOT_PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];

export function readPage(path: string): Page {
  return { path, lines: readFileSync(join(root, path), "utf8").split("\n") };
}

export function allPages(): Page[] {
  const below = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => relative(root, join(root, "docs", name)).replaceAll("\\", "/"))
    .toSorted();
  return [...ROOT_PAGES, ...below].map(readPage);
}

const FENCE = /^```(\S*)\s*$/;

export function blocksOf({ path, lines }: Page): Block[] {
  const blocks: Block[] = [];
  let open: { language: string; start: number } | undefined;
  for (const [index, line] of lines.entries()) {
    const language = FENCE.exec(line)?.[1];
    if (language === undefined) continue;
    if (open === undefined) {
      open = { language, start: index + 1 };
    } else {
      const code = lines.slice(open.start, index).join("\n");
      blocks.push({ place: `${path}:${open.start + 1}`, language: open.language, code });
      open = undefined;
    }
  }
  if (open !== undefined) throw new Error(`${path}:${open.start}: the block is never closed`);
  return blocks;
}

/** The lines that are no code. */
export function proseOf({ lines }: Page): string[] {
  let inside = false;
  return lines.filter((line) => {
    const isFence = FENCE.test(line);
    if (isFence) inside = !inside;
    return !inside && !isFence;
  });
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf(page: Page): Set<string> {
  const headings = proseOf(page).flatMap((line) => /^#{1,6} (.*)$/.exec(line)?.[1] ?? []);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .trim()
        .replaceAll(" ", "-"),
    ),
  );
}

/** The cells of each row of a page's tables whose first cell is `code`. */
export function codeRowsOf(page: Page): string[][] {
  return proseOf(page).flatMap((line) => {
    const cells = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
    return /^`[^`]+`$/.test(cells[1] ?? "") ? [cells.slice(1, -1)] : [];
  });
}
