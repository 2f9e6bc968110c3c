/** Processes that share a group with order by key, and of which some die with deliveries in their hands. */

import { afterEach, expect, test } from "vitest";
import type { DeadLetter } from "../../../src/core/backend.js";
import { type Child, runChild } from "../../support/children.js";
import { until } from "../../support/wait.js";
import { connect, GROUP, newPath, open } from "./opening.js";

const KEYS = "abcdefghij";
const COUNT = 140;
const LEASE_MS = 3_000;
/** After how many deliveries each process dies; those with 0 live on. */
const DEATHS = [0, 0, 2, 5, 11];
/** As many as a process takes at once. */
const IN_HANDS = 3;

const running: Child[] = [];
afterEach(() => Promise.all(running.splice(0).map((child) => child.stop())));

function start(path: string, death: number, index: number): Child {
  const script = new URL("./ordered-child.ts", import.meta.url);
  const child = runChild(script, { args: [path, `child-${index}`, KEYS, String(COUNT), String(death)] });
  running.push(child);
  return child;
}

test("[E36] while processes are killed, each id is stored once, each key is handled in order, and nothing is lost", async () => {
  const path = newPath();
  const { log } = (await open({ path })).backend;
  const settings = { leaseMs: LEASE_MS, maxAttempts: 50, maxDeadLetters: 1_000, maxHeld: 1_000 };
  await log.createGroup("s", "g", { ...GROUP, ...settings, order: "key" });
  const children = DEATHS.map((death, index) => start(path, death, index));
  for (const child of children) await child.next((message) => "ready" in message);
  for (const child of children) child.send({ start: true });
  const all = KEYS.length * COUNT;
  const unfinished = async (): Promise<number> => {
    const { length, groups } = await log.stats("s");
    const [group] = groups;
    return all - length + (group ? group.lag + group.pending + group.retrying : all);
  };
  await until(async () => (await unfinished()) === 0, { deadlineMs: 40_000, everyMs: 50, what: "all to be handled" });

  const stored = running.flatMap(({ messages }) => messages.flatMap((message) => message["stored"] ?? []));
  expect(new Set(stored).size).toBe(stored.length);
  expect(await log.read("s", { max: 10_000 })).toHaveLength(all);
  const journal = await log.read("journal", { max: 100_000 });
  for (const key of KEYS) {
    const numbers = journal.filter(({ header }) => header.startsWith(key)).map(({ data }) => numberIn(data));
    // Repeated where it was retried or its consumer died, but never out of order.
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    expect(new Set(numbers).size).toBe(COUNT);
  }
  const { letters } = await log.deadLetters("s", "g").list({ max: 1_000 });
  expect(letters.map(textOf).toSorted()).toEqual(
    KEYS.split("")
      .flatMap((key) => [20, 40, 60, 80, 100, 120, 140].map((number) => `${key}:${number}`))
      .toSorted(),
  );
  // What the dead held came again, as a further attempt, and only that.
  const again = journal.filter(({ header, data }) => !header.endsWith("#1") && numberIn(data) % 7 !== 0);
  const dead = DEATHS.filter((death) => death > 0);
  expect(await Promise.all(children.slice(-dead.length).map(({ exited }) => exited))).toEqual(
    dead.map(() => expect.objectContaining({ signal: "SIGKILL" })),
  );
  expect(again.length).toBeGreaterThanOrEqual(dead.length);
  expect(again.length).toBeLessThanOrEqual(IN_HANDS * dead.length);
  const file = await connect(path);
  expect(file.prepare("SELECT count(*) AS count FROM sb1_turns").get()).toEqual({ count: 0 });
  expect(file.prepare("SELECT held FROM sb1_readers").get()).toEqual({ held: 0 });
  expect(file.prepare("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  expect(running.flatMap(({ messages }) => messages.filter((message) => "reported" in message))).toEqual([]);
}, 90_000);

function textOf({ data }: Pick<DeadLetter, "data">): string {
  return Buffer.from(data).toString();
}

function numberIn(data: Uint8Array): number {
  return Number(textOf({ data }).split(":")[1]);
}
