/** Every `ts` block of the documentation is a whole program: it compiles, runs to its end, and prints what it says. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { allPages, blocksOf } from "./support/pages.js";
import { compileBlocks, type Programs, promisedOutput } from "./support/programs.js";

const pages = allPages();
const blocks = pages.flatMap(blocksOf);
const programs = blocks.filter(({ language }) => language === "ts");

let compiled: Programs;
beforeAll(async () => {
  compiled = await compileBlocks(programs);
});
afterAll(() => compiled.dispose());

test("[X10] every code block of the documentation is marked as what it is", () => {
  // `text` is what shows a type, a fragment or a layout; `sh`, `json` and the like speak for themselves.
  const known = ["ts", "sh", "text", "json"];
  expect(blocks.filter(({ language }) => !known.includes(language)).map(({ place }) => place)).toEqual([]);
  expect(programs.length).toBeGreaterThan(20);
});

test("[X10] every ts block of the documentation compiles", () => {
  expect(compiled.complaints).toEqual([]);
});

describe.concurrent("the documentation's programs", () => {
  test.each(programs)("[X10] $place runs to its end and prints what it says", async (block) => {
    const { code, stdout, stderr } = await compiled.run(block);
    expect({ place: block.place, code, stderr: code === 0 ? "" : stderr }).toEqual({
      place: block.place,
      code: 0,
      stderr: "",
    });
    const printed = stdout.split("\n").map((line) => line.trim());
    expect(printed).toEqual(expect.arrayContaining(promisedOutput(block)));
  });
});
