/** Stores in a SQLite file, on a fake clock; without vitest, as other runtimes run the cases too. */

import { statfsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqlite } from "../../../src/backends/sqlite/index.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { type LaneStore, laneStore } from "./lane-store.js";
import type { RemoteHost } from "./remote-backend.js";

/** More than all the files of a run. */
const ROOM_BYTES = 2 ** 30;
/** In memory, where the system has room for files there: no case cuts the power, and thousands of syncs take their time. */
const DIRECTORY = hasRoom("/dev/shm") ? "/dev/shm" : tmpdir();

let opened = 0;

/** A database file of its own; all its backends are in this process. */
export async function openSqliteStore(): Promise<LaneStore> {
  const clock = createFakeClock();
  const dir = await mkdtemp(join(DIRECTORY, "signalbox-contract-"));
  return laneStore({
    open: (context) => openSqlite({ path: join(dir, "events.db") }, context),
    clock,
    elapse: (ms) => clock.advance(ms),
    now: async () => clock.now(),
    release: () => rm(dir, { recursive: true, force: true }),
  });
}

/** A database file of its own, whose second and further backends are in the host's process. */
export async function openSharedSqliteStore(host: RemoteHost): Promise<LaneStore> {
  const clock = createFakeClock();
  const dir = await mkdtemp(join(DIRECTORY, "signalbox-contract-"));
  const path = join(dir, "events.db");
  const test = (opened += 1);
  return laneStore({
    open: (context) => openSqlite({ path }, context),
    openSecond: ({ namespace, report }) =>
      host.open({ path, namespace, test, now: clock.now() }, (text) => report(text, "in the other process")),
    clock,
    elapse: async (ms) => {
      await clock.advance(ms);
      await host.advance(test, ms);
    },
    now: async () => clock.now(),
    release: () => rm(dir, { recursive: true, force: true }),
  });
}

function hasRoom(directory: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize >= ROOM_BYTES;
  } catch {
    return false;
  }
}
