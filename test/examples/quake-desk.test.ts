/** The quake desk: what it counts is exact, however it was stopped. */

import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { removeDir, tempDir } from "../support/process.js";
import { startRedis } from "../support/redis-servers.js";
import {
  expectedSummary,
  feed,
  feedFile,
  readSummary,
  runDesk,
  startExample,
  storedIds,
  untilPublished,
} from "./desk.js";

const expected = expectedSummary(feed);
const sorted = <T extends { readonly dead: readonly string[] }>(summary: T): T => ({
  ...summary,
  dead: summary.dead.toSorted(),
});
/** The feed in 3.4 seconds: time enough to stop it on the way. */
const slowly = ["--until-done", "--speed", "50"];

describe("the quake desk", () => {
  let dir: string;
  let url: string;
  beforeEach(async () => {
    dir = await tempDir();
    url = `sqlite:${join(dir, "quake-desk.db")}`;
  });
  afterEach(async () => {
    await removeDir(dir);
  });

  test("plays the whole feed on SQLite and counts it exactly", async () => {
    const { code, stdout, stderr } = await runDesk(dir, ["--until-done"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(expected).toMatchObject({ published: 1_707, handled: 73, retried: 20 });
    expect(sorted(readSummary(stdout))).toEqual(sorted(expected));
    expect(await storedIds(url)).toEqual(feed.map(({ id }) => id));

    const again = await runDesk(dir, ["--until-done"]);
    expect(again.code).toBe(0);
    expect(again.stdout).toContain("had nothing left to publish");
    expect(sorted(readSummary(again.stdout))).toEqual(sorted(expected));
  });

  test("goes on after kill -9, again and again, and skips and doubles nothing", async () => {
    for (const atLeast of [300, 800, 1_300]) {
      const desk = startExample("quake-desk/main.ts", dir, slowly);
      await untilPublished(desk, atLeast);
      desk.kill("SIGKILL");
      expect(await desk.exited).toEqual({ code: null, signal: "SIGKILL" });
    }
    const { code, stdout, stderr } = await runDesk(dir, ["--until-done"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^Going on: 1,[3-6]\d\d of 1,707 quakes were published before/);
    // A kill counts as an attempt, so which alerts were retried depends on the moment.
    const { retried: _, ...exact } = sorted(expected);
    expect(sorted(readSummary(stdout))).toMatchObject(exact);
    expect(await storedIds(url)).toEqual(feed.map(({ id }) => id));
    const counted = readFileSync(join(dir, "quake-desk.db.ledger"), "utf8")
      .split("\n")
      .filter((line) => line.includes('"counted"'));
    expect(counted).toHaveLength(1_707);
  });

  test.each(["SIGINT", "SIGTERM"] as const)("ends in good order on %s, and goes on from there", async (signal) => {
    const desk = startExample("quake-desk/main.ts", dir, slowly);
    await untilPublished(desk, 500);
    const asked = performance.now();
    desk.kill(signal);
    desk.kill(signal); // as a terminal and npm do, both
    expect(await desk.exited).toEqual({ code: 0, signal: null });
    expect(performance.now() - asked).toBeLessThan(5_000);
    expect(desk.output("stdout")).toMatch(/^Stopped: [\d,]+ of 1,707 quakes are published\.$/m);

    const { code, stdout } = await runDesk(dir, ["--until-done"]);
    expect(code).toBe(0);
    expect(sorted(readSummary(stdout))).toEqual(sorted(expected));
  });

  test("plays on Redis as it does on SQLite", async () => {
    await using redis = await startRedis();
    const { code, stdout, stderr } = await runDesk(dir, ["--until-done", "--url", redis.url]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(sorted(readSummary(stdout))).toEqual(sorted(expected));
    expect(await storedIds(redis.url)).toEqual(feed.map(({ id }) => id));
  });

  test("a second desk on the same store helps, and both come to the same numbers", async () => {
    const first = startExample("quake-desk/main.ts", dir, slowly);
    await untilPublished(first, 200);
    const second = await runDesk(dir, slowly);
    expect(await first.exited).toEqual({ code: 0, signal: null });
    expect(second).toMatchObject({ code: 0, stderr: "" });
    for (const stdout of [first.output("stdout"), second.stdout]) {
      expect(sorted(readSummary(stdout))).toEqual(sorted(expected));
    }
    expect(await storedIds(url)).toEqual(feed.map(({ id }) => id));
  });

  test("--fresh plays from the beginning, and another feed is refused without it", async () => {
    const few = feed.slice(0, 5).map((quake) => JSON.stringify(quake));
    expect((await runDesk(dir, ["--until-done", "--input", "-"], few.join("\n"))).code).toBe(0);
    await writeFile(join(dir, "other.ndjson"), `${JSON.stringify({ ...feed[0], id: "other" })}\n`);

    const refused = await runDesk(dir, ["--until-done", "--input", "other.ndjson"]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("the store holds another feed");

    const fresh = await runDesk(dir, ["--until-done", "--fresh", "--input", "other.ndjson"]);
    expect(fresh.code).toBe(0);
    expect(readSummary(fresh.stdout)).toMatchObject({ published: 1, counted: 1 });
  });
});

describe.concurrent("what it is given", () => {
  let dir: string;
  beforeAll(async () => {
    dir = await tempDir();
  });
  afterAll(async () => {
    await removeDir(dir);
  });

  test("a handful of lines through stdin", async () => {
    const strong = feed
      .slice(5)
      .filter(({ magnitude }) => magnitude >= 4.5)
      .slice(0, 3);
    const quakes = [...feed.slice(0, 5), ...strong];
    const lines = quakes.map((quake) => JSON.stringify(quake)).join("\n");
    const { code, stdout } = await runDesk(dir, ["--until-done", "--url", "memory:", "--input", "-"], lines);
    expect(code).toBe(0);
    expect(readSummary(stdout)).toEqual(expectedSummary(quakes));
  });

  test.each([
    ["no JSON", '{"id":', "stdin, line 3 is not JSON"],
    [
      "no quake",
      '{"id":"x1","time":"noon","magnitude":1,"place":"here","net":"xx"}',
      "stdin, line 3 is no quake: time:",
    ],
    ["an id twice", readFileSync(feedFile, "utf8").split("\n")[0]!, "line 3: the id"],
  ])("a line that is %s is named, and nothing is played", async (_, line, problem) => {
    const input = `${JSON.stringify(feed[0])}\n\n${line}\n`;
    const { code, stdout, stderr } = await runDesk(dir, ["--url", "memory:", "--input", "-"], input);
    expect(code).toBe(1);
    expect(stderr).toContain(problem);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(stdout).toBe("");
  });

  test.each([
    [["--until-dine"], "Unknown option '--until-dine'"],
    [["week.ndjson"], "Unexpected argument 'week.ndjson'"],
    [["--speed", "fast"], '--speed takes a number of hours per second above 0, not "fast"'],
    [["--url"], "--url"],
    [["--url", "http://localhost"], 'has the scheme "http:"'],
    [["--url", "memory:", "--fresh"], "--fresh removes the file of a sqlite: URL"],
  ])("%j is refused with a helpful line and exit code 2", async (args, problem) => {
    const { code, stderr } = await runDesk(dir, args);
    expect(code).toBe(2);
    expect(stderr).toContain(problem);
    expect(stderr).not.toContain("    at ");
  });

  test("--help lists the options", async () => {
    const { code, stdout } = await runDesk(dir, ["--help"]);
    expect(code).toBe(0);
    for (const option of ["--until-done", "--speed", "--url", "--input", "--fresh"]) expect(stdout).toContain(option);
  });
});
