/** SQLite: locked by others, full, read-only, damaged, killed, and without power. */

import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadDriver } from "../../src/backends/sqlite/driver.js";
import { connect, type Durability } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { tempDir } from "../support/process.js";
import { pause, until } from "../support/wait.js";
import { channelOf } from "./support/consuming.js";
import { FACADES, type Load } from "./support/load.js";
import { said, START_MS, startProgram } from "./support/programs.js";
import { survive } from "./support/survive.js";
import { createUnreliable } from "./support/unreliable.js";

/** Holds the file's write lock for as long as `work` takes, as another program does. */
async function locked(path: string, work: () => Promise<unknown>): Promise<void> {
  const database = (await loadDriver()).open(path, 1_000);
  try {
    database.exec("BEGIN IMMEDIATE");
    await work();
    database.exec("ROLLBACK");
  } finally {
    database.close();
  }
}

describe.concurrent("SQLite", { timeout: 60_000 }, () => {
  test("fault 46: another program that holds the lock for a second is waited for", async () => {
    const path = join(await tempDir(), "messages.db");
    const inject = (): Promise<void> => locked(path, () => pause(1_000));
    const loads = await survive(`sqlite:${path}`, inject, { publishingUntil: "healed" });
    for (const { failures, reports } of loads) expect([...failures, ...reports]).toEqual([]);
  });

  for (const facade of FACADES) {
    test(`fault 47: a full disk refuses ${facade} as OutOfMemoryError, and once there is room all goes on`, async () => {
      const disk = await createUnreliable();
      await using child = startProgram(
        "toiling",
        [`sqlite:${join(disk.dir, "messages.db")}`, facade, "fsync", "consume"],
        disk.env,
      );
      try {
        await until(() => said(child, "handled").length > 100, { deadlineMs: START_MS, what: "it to get going" });
        disk.set({ diskFull: true });
        await child.next(({ failed }) => failed === "OUT_OF_MEMORY", START_MS);
        await child.next(({ reported }) => reported === "OUT_OF_MEMORY", START_MS);
        disk.set({});
        const acked = said(child, "acked").length;
        await until(() => said(child, "acked").length > acked + 100, { what: "publishing to go on" });
        const known = ["OUT_OF_MEMORY", "PUBLISH_INDETERMINATE", "CONNECTION"];
        expect(
          [...said(child, "failed"), ...said(child, "reported")].filter((code) => !known.includes(String(code))),
        ).toEqual([]);
        const promised = said(child, "acked");
        const missing = (): number => {
          const handled = new Set(said(child, "handled"));
          return promised.filter((number) => !handled.has(number)).length;
        };
        await until(() => missing() === 0, { deadlineMs: 10_000, everyMs: 100, what: "all of it to be handled" });
      } finally {
        await child.stop();
        await disk.close();
      }
    });
  }

  test("fault 47: a file that may only be read is a ConfigError, and so is a directory", async () => {
    const attempt = async (file: number, directory: number): Promise<unknown> => {
      const path = join(await tempDir(), "messages.db");
      const url = `sqlite:${path}`;
      await (await connect(url, { logger: silentLogger })).close();
      // Not all drivers remove it; with it beside the file, the directory need not be written to.
      for (const name of readdirSync(dirname(path))) if (name !== "messages.db") rmSync(join(dirname(path), name));
      chmodSync(path, file);
      chmodSync(dirname(path), directory);
      await using child = startProgram("read-only", [url]);
      return await child.next((message) => "code" in message || "opened" in message, START_MS);
    };
    const refused = { code: "CONFIG", message: expect.stringMatching(/cannot be (?:written|opened)/) };
    expect(await attempt(0o444, 0o777)).toMatchObject(refused);
    expect(await attempt(0o666, 0o555)).toMatchObject(refused);
    expect(await attempt(0o666, 0o777)).toMatchObject({ opened: true });
  });

  test.each(FACADES)(
    "fault 47: %s: damage is a typed error wherever it is met, the process lives, and nothing is built anew over it",
    async (facade) => {
      const path = join(await tempDir(), "messages.db");
      const url = `sqlite:${path}`;
      const sound = await connect(url, { logger: silentLogger });
      const texts = Array.from({ length: 200 }, (_, number) => `${number}`.padEnd(2_000, "."));
      await channelOf(sound, facade, "work").publishMany(texts);
      await sound.close();
      const bytes = readFileSync(path);
      // Behind the pages of the schema, where the entries are.
      const from = bytes.length - 4_096 * 90;
      bytes.fill(0x5a, from);
      writeFileSync(path, bytes);
      const reports: unknown[] = [];
      const damaged = await connect(url, { logger: silentLogger, onError: (error) => void reports.push(error) });
      await channelOf(damaged, facade, "work")
        .subscribe({}, () => undefined)
        .catch((error: unknown) => reports.push(error));
      await until(() => reports.length > 0, { what: "the damage to be met" });
      for (const report of reports) expect(report).toMatchObject({ code: "CONFIG" });
      expect(String(reports[0])).toContain(".recover");
      await damaged.close({ drainMs: 0 }).catch((error: unknown) => expect(error).toMatchObject({ code: "CONFIG" }));
      expect(statSync(path).size).toBeGreaterThanOrEqual(bytes.length);
      expect(readFileSync(path).subarray(from, bytes.length).equals(bytes.subarray(from))).toBe(true);

      const head = Buffer.from(bytes);
      head.fill(0x5a, 0, 100);
      writeFileSync(path, head);
      await expect(connect(url, { logger: silentLogger })).rejects.toMatchObject({ code: "CONFIG" });
      expect(readFileSync(path).equals(head)).toBe(true);
    },
  );

  const ends: readonly { durability: Durability; by: "kill -9" | "a power cut"; keeps: boolean }[] = [
    { durability: "fsync", by: "kill -9", keeps: true },
    { durability: "fsync", by: "a power cut", keeps: true },
    { durability: "memory", by: "kill -9", keeps: true },
    // The loss shows that the rig does cut the power.
    { durability: "memory", by: "a power cut", keeps: false },
  ];
  for (const facade of FACADES) {
    for (const { durability, by, keeps } of ends) {
      const title = keeps ? "takes nothing" : "may take something";
      test(`fault 48: ${by} ${title} of ${facade} that were acknowledged as ${durability}`, async () => {
        const disk = await createUnreliable();
        const url = `sqlite:${join(disk.dir, "messages.db")}`;
        await using child = startProgram("toiling", [url, facade, durability], disk.env);
        try {
          await until(() => said(child, "acked").length > 300, { deadlineMs: START_MS, what: "it to get going" });
          child.kill("SIGKILL");
          await child.exited;
          if (by === "a power cut") await disk.cutPower();
          expect(new Set(said(child, "durability"))).toEqual(new Set([durability]));
          await using broker = await connect(url, { logger: silentLogger });
          const handled = new Set<unknown>();
          const handler = (data: unknown): void => void handled.add(data);
          if (facade === "events") await broker.events.subscribe("work", { group: "g", from: "beginning" }, handler);
          else await broker.queue("work").subscribe({}, handler);
          await until(async () => {
            if (facade === "queue") {
              const { waiting, leased } = await broker.queue("work").stats();
              return waiting + leased === 0;
            }
            const [group] = (await broker.events.stats("work")).groups;
            return group?.lag === 0 && group.pending === 0;
          });
          const lost = said(child, "acked").filter((number) => !handled.has(number));
          if (keeps) expect(lost.length, "lost").toBe(0);
          else expect(lost.length).toBeGreaterThan(0);
          const tried = new Set(said(child, "tried"));
          expect([...handled].filter((number) => !tried.has(number)).length, "handled and never tried").toBe(0);
        } finally {
          await disk.close();
        }
      });
    }
  }
});

// By itself: the other tests would take the time that this one measures.
test("fault 46: another program that keeps the lock is a TimeoutError after five seconds, and then all goes on", async () => {
  const path = join(await tempDir(), "messages.db");
  const inject = async (loads: readonly Load[]): Promise<void> => {
    const startedAt = performance.now();
    const haveFailed = (): boolean => loads.every(({ failures }) => failures.length > 0);
    await locked(path, () => until(haveFailed, { deadlineMs: 20_000, what: "a publish of each to fail" }));
    expect(performance.now() - startedAt).toBeGreaterThan(4_000);
    expect(performance.now() - startedAt).toBeLessThan(12_000);
  };
  const loads = await survive(`sqlite:${path}`, inject, { publishingUntil: "healed" });
  for (const failure of loads.flatMap(({ failures }) => failures))
    expect(failure).toMatchObject({ code: "TIMEOUT", retryable: true });
});
