/** A long run of publishing with a fallback under chance: publishers are killed, the server is killed, frozen and absent. */

import { randomInt } from "node:crypto";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { connect } from "../../src/index.js";
import { type Child, runChild } from "../support/children.js";
import { removeDir, tempDir } from "../support/process.js";
import { startRedis } from "../support/redis-servers.js";
import { pause } from "../support/wait.js";
import { silentLogger } from "./support/lanes.js";

const TYPE = "order.created";
const RUN_MS = 90_000;

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

test("[E37] a minute and a half of outages, with publishers that share an outbox and die: all there, in order, none twice", async () => {
  const dir = await tempDir();
  undo.push(() => removeDir(dir));
  const fallback = `sqlite:${join(dir, "outbox.db")}`;
  const server = await startRedis({ appendonly: "always" });
  undo.push(() => server.stop());
  const publishers: Child[] = [];
  const start = (): Child => {
    const args = [server.url, fallback, TYPE, "0", String(publishers.length)];
    const child = runChild(new URL("support/outbox-child.ts", import.meta.url), { args });
    undo.push(() => child.stop());
    publishers.push(child);
    return child;
  };
  const running = [start(), start(), start()];
  const faults: string[] = [];
  const end = performance.now() + RUN_MS;
  while (performance.now() < end) {
    await pause(randomInt(5_000));
    const fault = ["kill", "absent", "frozen", "killed"][randomInt(4)] ?? "";
    faults.push(fault);
    if (fault === "kill") {
      const index = randomInt(running.length);
      running[index]?.kill("SIGKILL");
      running[index] = start();
    } else if (fault === "frozen") {
      server.pause();
      await pause(randomInt(8_000));
      server.resume();
    } else {
      await server.kill();
      if (fault === "absent") await pause(randomInt(6_000));
      await server.restart();
    }
  }
  for (const child of running) child.kill("SIGKILL");
  const exits = await Promise.all(publishers.map(({ exited }) => exited));
  // None of them has ended by itself: publishing never failed.
  expect(exits.map(({ signal }) => signal)).toEqual(exits.map(() => "SIGKILL"));

  // Whoever opens the outbox next empties it.
  const broker = await connect(server.url, { fallback, logger: silentLogger, onError: () => undefined });
  undo.push(() => broker.close({ drainMs: 0 }));
  for (const until = performance.now() + 60_000; performance.now() < until; await pause(200))
    if ((await broker.health()).status === "up") break;
  expect((await broker.health()).status).toBe("up");
  const ids: string[] = [];
  const arrived = new Map<string, number[]>();
  await broker.events.replay(TYPE, { from: "beginning" }, (data, { message }) => {
    const { publisher, number } = data as { publisher: string; number: number };
    ids.push(message.id);
    arrived.set(publisher, [...(arrived.get(publisher) ?? []), number]);
  });
  expect(new Set(ids).size).toBe(ids.length);
  let kept = 0;
  for (const [index, { messages }] of publishers.entries()) {
    const mine = arrived.get(String(index)) ?? [];
    const told = messages.flatMap(({ published }) => (published as number[] | undefined) ?? []);
    kept += messages.filter((message) => message["kept"] === true).length;
    // In order and without a gap; one batch may have been stored and not told before the kill.
    expect(mine).toEqual(Array.from(mine, (_, number) => number));
    expect(mine.length).toBeGreaterThanOrEqual(told.length);
    expect(mine.length).toBeLessThanOrEqual(told.length + 10);
  }
  expect(kept).toBeGreaterThan(0);
  expect(faults.length).toBeGreaterThan(10);
}, 300_000);
