/** A process that is killed in the middle of its commits: what it was told to be stored is stored, and nothing else. */

import { expect, test } from "vitest";
import type { Backend } from "../../../src/core/backend.js";
import { runChild } from "../../support/children.js";
import { pause } from "../../support/wait.js";
import { connect, GROUP, newPath, open } from "./opening.js";

/** What the killed processes have said, over all runs. */
interface Told {
  readonly tried: Set<unknown>;
  readonly appended: Map<unknown, unknown>;
  readonly acked: Set<unknown>;
}

async function runAndKill(path: string, run: string, told: Told): Promise<void> {
  await using child = runChild(new URL("./crash-child.ts", import.meta.url), { args: [path, run] });
  await child.next((message) => "acked" in message);
  await pause(100 + Math.random() * 200);
  child.kill("SIGKILL");
  await child.exited;
  for (const message of child.messages) {
    expect(message["reported"]).toBeUndefined();
    if ("trying" in message) told.tried.add(message["trying"]);
    if ("appended" in message) told.appended.set(message["appended"], message["positions"]);
    if (Array.isArray(message["acked"])) for (const number of message["acked"]) told.acked.add(number);
  }
}

async function expectWhole({ log }: Backend, told: Told): Promise<void> {
  const entries = await log.read("s", { max: 1_000_000 });
  const positions = new Map<string, string[]>();
  for (const { header, position } of entries) positions.set(header, [...(positions.get(header) ?? []), position]);
  for (const [batch, numbers] of told.appended) expect(positions.get(String(batch))).toEqual(numbers);
  for (const [batch, numbers] of positions) {
    expect(told.tried).toContain(batch);
    expect(numbers).toHaveLength(3);
  }
}

test("kill -9 in mid-commit: the file is sound, every acknowledged append is there, and nothing else", async () => {
  const path = newPath();
  const setup = await open({ path });
  await setup.backend.log.createGroup("s", "g", { ...GROUP, leaseMs: 500 });
  await setup.backend.close();
  const told: Told = { tried: new Set(), appended: new Map(), acked: new Set() };
  for (const run of ["a", "b", "c"]) {
    await runAndKill(path, run, told);
    const beside = await connect(path);
    expect(beside.prepare("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
    const { backend } = await open({ path });
    await expectWhole(backend, told);
    await backend.close();
  }
  expect(told.appended.size).toBeGreaterThan(30);

  // What the dead consumers held comes again as the next attempt, and what they settled does not.
  const { backend } = await open({ path });
  const feed = await backend.log.open("s", "g", "survivor");
  const left = new Set<string>();
  const { length, groups } = await backend.log.stats("s");
  const expected = (groups[0]?.lag ?? 0) + (groups[0]?.pending ?? 0) + (groups[0]?.retrying ?? 0);
  while (left.size < expected) {
    const { deliveries } = await feed.take({ max: 1_000, waitMs: 1_000 }, []);
    for (const { position } of deliveries) {
      expect(told.acked).not.toContain(position);
      left.add(position);
    }
    await feed.take(
      { max: 0, waitMs: 0 },
      deliveries.map(({ receipt }) => ({ receipt, as: "ack" })),
    );
  }
  expect(left.size + told.acked.size).toBeLessThanOrEqual(length);
}, 60_000);
