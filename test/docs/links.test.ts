/** The documentation's links lead somewhere. */

import { existsSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";
import { allPages, anchorsOf, type Page, proseOf, readPage, root } from "./support/pages.js";

const pages = allPages();

/** Targets of `[text](target)`, without those on other sites. */
function linksOf(page: Page): string[] {
  return proseOf(page)
    .flatMap((line) => [...line.replaceAll(/`[^`]*`/g, "").matchAll(/\]\(([^()\s]+)\)/g)].map(([, target]) => target!))
    .filter((target) => !/^[a-z]+:/.test(target));
}

/** What is wrong with a link, or nothing. */
function problemOf(page: Page, link: string): string | undefined {
  const [file = "", anchor] = link.split("#");
  const path = file === "" ? page.path : normalize(join(dirname(page.path), file)).replaceAll("\\", "/");
  if (!existsSync(join(root, path))) return `${page.path}: ${link} leads nowhere`;
  if (anchor === undefined || anchorsOf(readPage(path)).has(anchor)) return undefined;
  return `${page.path}: ${link} names a heading that ${path} has not`;
}

test("[X10] every internal link of the documentation resolves, its heading included", () => {
  const problems = pages.flatMap((page) => linksOf(page).flatMap((link) => problemOf(page, link) ?? []));
  expect(problems).toEqual([]);
});

test("[X10] every page below docs is reached from its index", () => {
  const index = readPage("docs/README.md");
  const listed = new Set(linksOf(index).map((link) => normalize(join("docs", link.split("#")[0] ?? ""))));
  const missing = pages.map(({ path }) => path).filter((path) => path.startsWith("docs/") && !listed.has(path));
  expect(missing).toEqual(["docs/README.md"]);
});
