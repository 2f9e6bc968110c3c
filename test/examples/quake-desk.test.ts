/** The quake desk: what it counts is exact, however it was stopped. */

import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { connect } from "signalbox";
import { readArguments } from "../../examples/quake-desk/arguments.js";
import { contract, type Quake } from "../../examples/quake-desk/contract.js";
import { readFeed } from "../../examples/quake-desk/feed.js";
import { openLedger } from "../../examples/quake-desk/ledger.js";
import { play } from "../../examples/quake-desk/play.js";
import { removeDir, tempDir } from "../support/process.js";
import { startRedis } from "../support/redis-servers.js";
import {
  expectedSummary,
  feed,
  parkedEvents,
  readSummary,
  runDesk,
  startExample,
  type Summary,
  storedIds,
  untilPublished,
} from "./desk.js";

const ids = feed.map(({ id }) => id);
const inOrder = (summary: Summary): Summary => ({ ...summary, dead: summary.dead.toSorted() });
const summaryOf = (stdout: string): Summary => inOrder(readSummary(stdout));
const planned = inOrder(expectedSummary(feed));
/** A kill counts as an attempt, and so does a lease that runs out on a busy machine: more may be retried than planned. */
const expected: Summary = { ...planned, retried: expect.toSatisfy((retried: number) => retried >= planned.retried) };
const asLines = (quakes: readonly object[]): string => quakes.map((quake) => JSON.stringify(quake)).join("\n");
/** The feed in 3.4 seconds: time enough to stop it on the way. */
const slowly = ["--until-done", "--speed", "50"];

const LEASE_PASSED = "a delivery passed to another consumer before it was settled\n";

/** Runs a test in a directory of its own, where the desk keeps its store. */
const inDir = (body: (dir: string, url: string) => Promise<void>) => async (): Promise<void> => {
  const dir = await tempDir();
  try {
    await body(dir, `sqlite:${join(dir, "quake-desk.db")}`);
  } finally {
    await removeDir(dir);
  }
};

// They mostly wait, so they wait together.
describe.concurrent("the quake desk", { timeout: 60_000 }, () => {
  test(
    "plays the whole feed on SQLite and counts it exactly; once done, it only reports",
    inDir(async (dir, url) => {
      expect(planned).toMatchObject({ published: 1_707, handled: 73, retried: 20 });
      expect(planned.dead).toHaveLength(12);

      const { code, stdout, stderr } = await runDesk(dir, ["--until-done"]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(summaryOf(stdout)).toEqual(expected);
      expect(stdout.match(/failed after 4: Error: nobody answers/g)).toHaveLength(4);
      expect(stdout).toMatch(/^Live +1,[67]\d\d notifications heard from 73 regions, most of them from California$/m);
      expect(stdout).toMatch(/^Running +alerting, alerts, feed, statistics$/m);

      const again = await runDesk(dir, []);
      expect(again).toMatchObject({ code: 0, stderr: "" });
      expect(again.stdout).toContain("had nothing left to publish");
      expect(summaryOf(again.stdout)).toEqual(expected);
      expect(await storedIds(url)).toEqual(ids);
    }),
  );

  test(
    "plays it on Redis to the same end",
    inDir(async (dir) => {
      await using redis = await startRedis();
      const { code, stdout, stderr } = await runDesk(dir, ["--until-done", "--url", redis.url]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(summaryOf(stdout)).toEqual(expected);
      expect(await storedIds(redis.url)).toEqual(ids);
    }),
  );

  test(
    "goes on after kill -9, again and again, and skips and doubles nothing",
    inDir(async (dir, url) => {
      for (const atLeast of [400, 1_100]) {
        const desk = startExample("quake-desk/main.ts", dir, slowly);
        await untilPublished(desk, atLeast);
        desk.kill("SIGKILL");
        expect(await desk.exited).toEqual({ code: null, signal: "SIGKILL" });
        // On a busy machine a lease of its own may run out: then it says so, and works twice.
        expect(desk.output("stderr").replaceAll(LEASE_PASSED, "")).toBe("");
      }
      const { code, stdout, stderr } = await runDesk(dir, ["--until-done"]);
      expect({ code, stderr: stderr.replaceAll(LEASE_PASSED, "") }).toEqual({ code: 0, stderr: "" });
      expect(await parkedEvents(url)).toEqual([]);
      expect(stdout).toMatch(/^Going on: 1,[1-6]\d\d of 1,707 quakes were published before/);
      expect(summaryOf(stdout)).toEqual(expected);
      expect(await storedIds(url)).toEqual(ids);
      const ledger = readFileSync(join(dir, "quake-desk.db.ledger"), "utf8").split("\n");
      expect(ledger.filter((line) => line.includes('"counted"'))).toHaveLength(feed.length);
    }),
  );

  test("publishes each quake once and in order, also where one becomes due while its neighbours are looked at", async () => {
    await using broker = await connect("memory:", { contract });
    // Played by a clock that passes a millisecond with each look at it: of three quakes the second is not due when it is
    // looked at, and the third is when its turn comes.
    const times = [
      0,
      ...Array.from({ length: 20 }, (_, index) => index * 10).flatMap((ms) => [9.8, 12.3, 12.4].map((at) => ms + at)),
    ];
    const quakes = times.map((ms, index): Quake => {
      return { id: `q${index}`, time: Math.round(ms * 1_000), magnitude: 1, place: "here", net: "xx" };
    });
    let now = 0;
    using _clock = vi.spyOn(performance, "now").mockImplementation(() => (now += 1));
    await play(broker, quakes, 1_000 / 3_600, openLedger(undefined), new AbortController().signal);
    const published: string[] = [];
    await broker.events.replay("quake.recorded", { from: "beginning" }, ({ id }) => void published.push(id));
    expect(published).toEqual(quakes.map(({ id }) => id));
  });

  test.each(["SIGINT", "SIGTERM"] as const)("ends in good order on %s, and goes on from there", async (signal) =>
    inDir(async (dir) => {
      const desk = startExample("quake-desk/main.ts", dir, slowly);
      await untilPublished(desk, 500);
      const asked = performance.now();
      desk.kill(signal);
      desk.kill(signal); // A terminal and npm both pass it on.
      expect(await desk.exited).toEqual({ code: 0, signal: null });
      expect(performance.now() - asked).toBeLessThan(5_000);
      expect(desk.output("stdout")).toMatch(/^Stopped: [\d,]+ of 1,707 quakes are published\.$/m);

      const { code, stdout } = await runDesk(dir, ["--until-done"]);
      expect(code).toBe(0);
      expect(summaryOf(stdout)).toEqual(expected);
    })(),
  );

  test(
    "two desks on one store, as when npm was killed and the desk was not, come to the same numbers",
    inDir(async (dir, url) => {
      const first = startExample("quake-desk/main.ts", dir, slowly);
      await untilPublished(first, 200);
      const second = await runDesk(dir, slowly);
      expect(await first.exited).toEqual({ code: 0, signal: null });
      expect(second).toMatchObject({ code: 0, stderr: "" });
      expect(summaryOf(first.output("stdout"))).toEqual(expected);
      expect(summaryOf(second.stdout)).toEqual(expected);
      expect(await storedIds(url)).toEqual(ids);
    }),
  );

  test(
    "takes a handful of lines from stdin; refuses to mix feeds; --fresh begins anew",
    inDir(async (dir) => {
      const quakes = [
        ...feed.slice(0, 5),
        ...feed.slice(5).filter(({ magnitude }) => magnitude >= 4.5 && magnitude < 5),
      ];
      const fromStdin = await runDesk(dir, ["--until-done", "--input", "-"], asLines(quakes));
      expect(fromStdin).toMatchObject({ code: 0, stderr: "" });
      expect(summaryOf(fromStdin.stdout)).toEqual(inOrder(expectedSummary(quakes)));

      await writeFile(join(dir, "other.ndjson"), asLines([{ ...feed[0], id: "other" }]));
      const refused = await runDesk(dir, ["--until-done", "--input", "other.ndjson"]);
      expect(refused).toMatchObject({ code: 1, stdout: "" });
      expect(refused.stderr).toContain("the store holds another feed");

      const fresh = await runDesk(dir, ["--until-done", "--fresh", "--input", "other.ndjson"]);
      expect(fresh).toMatchObject({ code: 0, stderr: "" });
      expect(readSummary(fresh.stdout)).toMatchObject({ published: 1, counted: 1, handled: 0 });
    }),
  );

  test(
    "triage by processes that compete: one is killed with alerts in hand, and none is lost",
    inDir(async (dir) => {
      const { code, stdout, stderr } = await runDesk(dir, ["--until-done", "--triage"]);
      expect({ code, stderr: stderr.replaceAll(LEASE_PASSED, "") }).toEqual({ code: 0, stderr: "" });
      expect(summaryOf(stdout)).toEqual(expected);
      expect(stdout).toMatch(
        /^Triage +3 processes .+; the first was killed with [12] in hand, and what it had went to/m,
      );
    }),
  );

  test(
    "afterwards puts back the alerts that failed, and reads the busiest day again without a trace",
    inDir(async (dir, url) => {
      const tooEarly = await runDesk(dir, ["--afterwards"]);
      expect(tooEarly).toMatchObject({ code: 1, stdout: "" });
      expect(tooEarly.stderr).toContain("nothing has been played yet");

      expect((await runDesk(dir, ["--until-done"])).code).toBe(0);
      const { code, stdout, stderr } = await runDesk(dir, ["--afterwards"]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      const failed = planned.dead.filter((line) => line.includes(": failed: "));
      expect(stdout).toContain(`Redrive     ${failed.length} dead letters put back`);
      expect(stdout).toContain(
        "Replay      301 quakes on 2018-02-04, the busiest day; 1,406 on other days passed over",
      );
      expect(stdout).toContain("read again by a group of its own: 301, the strongest M ");

      const again = await runDesk(dir, []);
      const dead = planned.dead.filter((line) => !failed.includes(line));
      expect(summaryOf(again.stdout)).toEqual({ ...expected, handled: planned.handled + failed.length, dead });
      expect((await runDesk(dir, ["--afterwards"])).stdout).toContain("nothing to put back");
      expect(await storedIds(url)).toEqual(ids);
      await using broker = await connect(url, { namespace: "quake-desk" });
      const groups = await broker.events.groups("quake.recorded");
      expect(groups.filter((group) => group.startsWith("day-"))).toEqual([]);
    }),
  );

  test(
    "names a line that is no quake, and plays nothing",
    inDir(async (dir) => {
      const input = `${asLines(feed.slice(0, 2))}\n\n{"id":"x1","time":"noon","magnitude":1,"place":"here","net":"xx"}\n`;
      const { code, stdout, stderr } = await runDesk(dir, ["--url", "memory:", "--input", "-"], input);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toMatch(/^quake-desk: stdin, line 4 is no quake: time: .+\n$/);
    }),
  );

  test(
    "refuses an unknown option and an unknown URL with exit code 2 and no stack",
    inDir(async (dir) => {
      const option = await runDesk(dir, ["--until-dine"]);
      expect(option).toMatchObject({ code: 2, stdout: "" });
      expect(option.stderr).toBe("quake-desk: Unknown option '--until-dine'\nnpm start -- --help lists the options\n");
      const url = await runDesk(dir, ["--url", "http://localhost"]);
      expect(url).toMatchObject({ code: 2, stdout: "" });
      expect(url.stderr).toMatch(/^quake-desk: .+ has the scheme "http:".+\n$/);
    }),
  );

  test(
    "--help lists the options",
    inDir(async (dir) => {
      const { code, stdout } = await runDesk(dir, ["--help"]);
      expect(code).toBe(0);
      for (const option of ["--until-done", "--speed", "--url", "--input", "--fresh"]) expect(stdout).toContain(option);
    }),
  );
});

test.each([
  [["week.ndjson"], "Unexpected argument 'week.ndjson'"],
  [["--speed", "fast"], '--speed takes a number of hours per second above 0, not "fast"'],
  [["--speed", "0"], '--speed takes a number of hours per second above 0, not "0"'],
  [["--url"], "--url <value>' argument missing"],
  [["--url", "memory:", "--fresh"], "--fresh removes the file of a sqlite: URL"],
])("the arguments %j are refused", (args, problem) => {
  expect(() => readArguments(args)).toThrow(
    expect.objectContaining({ message: expect.stringContaining(problem), exitCode: 2 }),
  );
});

test.each([
  ["cut off", '{"id":', "line 3 is not JSON"],
  ["no object", "7", "line 3 is no quake: Invalid input"],
  ["an id for the second time", JSON.stringify(feed[0]), `line 3: the id "${ids[0]}" stands on line 1 already`],
])("a line that is %s is refused", async (_, line, problem) =>
  inDir(async (dir) => {
    const file = join(dir, "feed.ndjson");
    await writeFile(file, `${JSON.stringify(feed[0])}\n\n${line}\n`);
    await expect(readFeed(file)).rejects.toThrow(problem);
  })(),
);
