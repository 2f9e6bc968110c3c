/** Wake-ups between processes, and what is left of them without a bell. */

import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { expect, test } from "vitest";
import type { Backend, Feed } from "../../../src/core/backend.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { until } from "../../support/wait.js";
import { driverThat, GROUP, newPath, open, ROOMY } from "./opening.js";

async function openFeed({ log }: Backend, stream: string): Promise<Feed> {
  await log.createGroup(stream, "g", GROUP);
  return log.open(stream, "g", "c");
}

function append({ log }: Backend, stream: string): Promise<unknown> {
  return log.append(stream, [{ header: "h", data: "d" }], ROOMY);
}

test("another backend's message is found without the clock moving, whichever of many streams it is on", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { backend } = await open({ path }, { clock });
  const other = (await open({ path }, { clock })).backend;
  const streams = Array.from({ length: 40 }, (_, index) => `stream-${index}`);
  const found: string[] = [];
  for (const stream of streams) {
    const feed = await openFeed(backend, stream);
    void feed
      .take({ max: 1, waitMs: 60_000 }, [])
      .then(({ deliveries }) => deliveries.length > 0 && found.push(stream));
  }
  await append(other, "stream-7");
  await until(() => found.length === 1);
  // More topics in one commit than are named one by one.
  await Promise.all(streams.map((stream) => append(other, stream)));
  await until(() => found.length === streams.length);
  expect(found[0]).toBe("stream-7");
});

test("a bell that was removed delays messages of other processes by a second at most", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { backend } = await open({ path }, { clock });
  const feed = await openFeed(backend, "s");
  rmSync(`${path}-bell`);
  const other = (await open({ path }, { clock })).backend;
  const taken = feed.take({ max: 1, waitMs: 60_000 }, []);
  await append(other, "s");
  await clock.advance(1_000);
  expect((await taken).deliveries).toHaveLength(1);
});

test("where there can be no bell it is reported once, and messages of other processes are found within a second", async () => {
  const path = newPath();
  const clock = createFakeClock();
  mkdirSync(`${path}-bell`);
  const { backend, reports } = await open({ path }, { clock });
  const feed = await openFeed(backend, "s");
  const other = (await open({ path }, { clock })).backend;
  const taken = feed.take({ max: 1, waitMs: 60_000 }, []);
  await append(other, "s");
  await append(other, "s");
  await clock.advance(1_000);
  expect((await taken).deliveries).toHaveLength(1);
  expect(reports).toEqual([expect.stringMatching(/found once a second: ConfigError/)]);
});

test.runIf(existsSync("/dev/full"))("a bell on a full disk is one typed report, and no call fails for it", async () => {
  const path = newPath();
  symlinkSync("/dev/full", `${path}-bell`);
  const { backend, reports } = await open({ path });
  for (let times = 0; times < 20; times += 1) await append(backend, "s");
  expect((await backend.log.stats("s")).length).toBe(20);
  expect(reports).toEqual([expect.stringMatching(/^ringing .*-bell: .*: OutOfMemoryError: no room .* ENOSPC/)]);
});

test("a ring that cannot be looked into wakes everybody, and harms nobody", async () => {
  const path = newPath();
  const clock = createFakeClock();
  let broken = false;
  const driver = await driverThat((database) => ({
    ...database,
    prepare<Row>(sql: string) {
      const statement = database.prepare<Row>(sql);
      if (!sql.includes("data_version")) return statement;
      return {
        ...statement,
        get(...values) {
          if (broken) throw Object.assign(new Error("disk I/O error"), { errcode: 10 });
          return statement.get(...values);
        },
      };
    },
  }));
  const { backend, reports } = await open({ path }, { clock, driver });
  const feed = await openFeed(backend, "s");
  const taken = feed.take({ max: 1, waitMs: 60_000 }, []);
  broken = true;
  await append((await open({ path }, { clock })).backend, "s");
  expect((await taken).deliveries).toHaveLength(1);
  expect(reports).toEqual([]);
});
