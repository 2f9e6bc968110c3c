/** Groups that do not get on are named by `health()`. By the store's clock, so on memory with a clock that the test moves. */

import { expect, test } from "vitest";
import { connect, type ConnectOptions, defer } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { until } from "../support/wait.js";
import { onEveryBackend, silentLogger } from "./support/lanes.js";

onEveryBackend("health", (lane) => {
  test("[E29] names a group that nobody reads, and is well again once it has caught up", async () => {
    const broker = await lane.open({ groupIdleMs: 150 });
    const type = lane.unique("t");
    const options = { group: "g", from: "beginning" } as const;
    const first = await broker.events.subscribe(type, options, () => undefined);
    await first.close();
    await broker.events.publish(type, 1);
    expect((await broker.health()).status).toBe("up");
    const { details } = await until(async () => {
      const health = await broker.health();
      return health.status === "degraded" && health;
    });
    expect(details.groups).toEqual([
      {
        stream: type,
        group: "g",
        paused: false,
        lag: 1,
        pending: 0,
        retrying: 0,
        idleMs: expect.any(Number),
        error: expect.stringContaining("nobody reads it"),
      },
    ]);
    expect(details.groups[0]?.idleMs).toBeGreaterThanOrEqual(150);
    await broker.events.subscribe(type, options, () => undefined);
    await until(async () => (await broker.health()).status === "up");
    // Somebody else's streams are somebody else's business.
    const stranger = await lane.open({ groupIdleMs: 1 });
    expect((await stranger.health()).details.groups).toEqual([]);
  });
});

async function open(options: ConnectOptions = {}) {
  const clock = createFakeClock();
  const broker = await connect("memory:", { clock, logger: silentLogger, ...options });
  return { clock, broker };
}

test("a group is idle from when it has something to do, not from when it last did something", async () => {
  const { clock, broker } = await open();
  const sub = await broker.events.subscribe("t", { group: "g", from: "beginning" }, () => undefined);
  await broker.events.publish("t", 1);
  await clock.advance(1_000);
  await sub.close();
  await clock.advance(86_400_000);
  expect((await broker.health()).details.groups).toEqual([]);
  await broker.events.publish("t", 2);
  expect((await broker.health()).status).toBe("up");
  await clock.advance(599_999);
  expect((await broker.health()).status).toBe("up");
  await clock.advance(1);
  expect((await broker.health()).details.groups).toMatchObject([{ group: "g", idleMs: 600_000 }]);
  await broker.close();
});

test("so is one that was paused and forgotten, and one whose handler never ends", async () => {
  const { clock, broker } = await open({ groupIdleMs: 60_000 });
  const hang = (): Promise<void> => new Promise(() => undefined);
  const sub = await broker.events.subscribe("t", { group: "hangs", from: "beginning" }, hang);
  await broker.events.subscribe("t", { group: "paused", from: "beginning" }, () => undefined);
  await broker.events.group("t", "paused").pause();
  await broker.events.publish("t", 1);
  await until(() => sub.stats()[0]?.running === 1);
  await clock.advance(70_000);
  const { details, status } = await broker.health();
  expect(status).toBe("degraded");
  expect(details.groups).toMatchObject([
    { group: "hangs", pending: 1, lag: 0, paused: false },
    { group: "paused", pending: 0, lag: 1, paused: true, error: expect.stringContaining("it is paused") },
  ]);
  const closing = broker.close({ drainMs: 0 });
  await clock.advance(10_000);
  await closing;
});

test("of a group that only waits for its retries it is said", async () => {
  const { clock, broker } = await open({ groupIdleMs: 60_000 });
  const sub = await broker.events.subscribe("t", { group: "g", from: "beginning" }, () =>
    defer({ delayMs: 3_600_000 }),
  );
  await broker.events.publish("t", 1);
  await until(async () => sub.stats()[0]?.settled === 1);
  await clock.advance(70_000);
  const { groups } = (await broker.health()).details;
  expect(groups).toMatchObject([{ lag: 0, retrying: 1, error: expect.stringContaining("retries are not due yet") }]);
  const closing = broker.close({ drainMs: 0 });
  await clock.advance(10_000);
  await closing;
});

test("declared streams are trimmed for age by the clock, until the broker closes", async () => {
  const errors: string[] = [];
  const { clock, broker } = await open({
    streams: { old: { maxAgeMs: 100_000 }, young: { maxAgeMs: 2_000 }, plain: {} },
    onError: (_, where) => void errors.push(where),
  });
  await broker.events.publish("old", 1);
  await broker.events.publish("young", 1);
  await clock.advance(4_000);
  expect((await broker.events.stats("young")).length).toBe(0);
  expect((await broker.events.stats("old")).length).toBe(1);
  // Looked at every tenth of the age.
  await clock.advance(107_000);
  expect((await broker.events.stats("old")).length).toBe(0);
  expect(errors).toEqual([]);
  await broker.close();
  expect(clock.pending()).toBe(0);
});
