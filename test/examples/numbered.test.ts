/** The numbered examples run and print what they promise. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { removeDir, tempDir } from "../support/process.js";
import { pause, until } from "../support/wait.js";
import { finish, startExample } from "./desk.js";

let cwd: string;
beforeAll(async () => {
  cwd = await tempDir();
});
afterAll(async () => {
  await removeDir(cwd);
});

async function linesOf(name: string): Promise<string[]> {
  const { code, stdout, stderr } = await finish(startExample(name, cwd));
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout.trimEnd().split("\n");
}

describe.concurrent("the examples", () => {
  test("01: each group gets the events that it asked for, also those from before it existed", async () => {
    const lines = await linesOf("01-publish-and-subscribe.ts");
    expect(lines[0]).toBe("order 1 is stored, as safely as memory");
    expect(lines.filter((line) => line.startsWith("accounting"))).toEqual([
      "accounting: order 1, 30 euros so far",
      "accounting: order 2, 50 euros so far",
      "accounting: order 3, 100 euros so far",
    ]);
    expect(lines.filter((line) => line.startsWith("shipping"))).toEqual([
      "shipping: sends order 2",
      "shipping: sends order 3",
    ]);
    expect(lines).toHaveLength(6);
  });

  test("02: what fails is retried, and parked with its reason when it cannot succeed", async () => {
    const lines = await linesOf("02-retry-and-dead-letters.ts");
    const attempts = (card: string): number => lines.filter((line) => line.startsWith(`${card}: attempt`)).length;
    expect(["good", "flaky", "broken", "stolen"].map(attempts)).toEqual([1, 3, 3, 1]);
    expect(lines.slice(-2)).toEqual([
      "dead letter: stolen, rejected after 1: reported as stolen",
      "dead letter: broken, failed after 3: Error: the bank knows no such card",
    ]);
  });

  test("03: the most urgent comes first, and an inbox is read by its recipient alone", async () => {
    expect(await linesOf("03-queue-with-priorities.ts")).toEqual([
      "anyone: stop the flood",
      "anyone: mend the roof",
      "anyone: paint the fence",
      "anyone: oil the door",
      "ada: trim Ada's roses",
      "0 left",
    ]);
  });

  test("04: what is redriven, replayed or sought comes again, and a handler that goes by the id counts it once", async () => {
    expect(await linesOf("04-replay-and-redrive.ts")).toEqual([
      "stored: 4, stored twice: 0",
      "first: 10 kWh billed in 5 calls, dead letters: 1",
      "redriven: 9 kWh billed in 6 calls, dead letters: 0",
      "replayed: reading-1, west 2",
      "replayed: reading-2, east -1",
      "from the beginning: 9 kWh billed in 11 calls, dead letters: 0",
    ]);
  });

  test("[C45] [C46] 05: three consumers share a queue, answer in the step that acknowledges, and on SIGTERM finish what they have begun", async () => {
    const running = startExample("05-ask-and-stop.ts", cwd);
    await until(() => running.output("stdout").includes("they work"), {
      deadlineMs: 20_000,
      what: "the consumers to work",
      giveUp: () => (running.running() ? undefined : `it has ended: ${running.output()}`),
    });
    await pause(200);
    running.kill("SIGTERM");
    const { code, stdout, stderr } = await finish(running);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^answered: \{"square":49,"by":"agent_[123]"\}$/);
    const [, begun, finished] = /^(\d+) begun, (\d+) finished$/.exec(lines.at(-1) ?? "") ?? [];
    expect(Number(begun)).toBeGreaterThan(3);
    expect(Number(begun)).toBeLessThan(1_001);
    expect(finished).toBe(begun);
  });

  test("06: whoever listens hears it once, wherever it was published; a rule passes over what fails", async () => {
    expect(await linesOf("06-pubsub.ts")).toEqual([
      "heard by 1 broker",
      "alaska: magnitude 5.1",
      "california: magnitude 2.4",
      "somebody cares for quakes.alaska alone",
      "notice: the desk closes at six",
      "heard by 0",
    ]);
  });

  test("07: a member joins with its first device and leaves with its last, and everybody is told", async () => {
    expect(await linesOf("07-presence.ts")).toEqual([
      "at first: ada (online)",
      "joined: bob (online)",
      "updated: ada (away)",
      "updated: bob (on the phone), on 2 devices",
      "ada is here: true, carl is here: false, 2 in all",
      "updated: bob (online)",
      "left: bob",
      "left: ada",
    ]);
  });
});
