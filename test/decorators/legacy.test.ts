/** Decorators in TypeScript's older mode: the fixture is compiled by `tsc` with `experimentalDecorators`, and run as it comes out. */

import { mkdirSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { startProcess } from "../support/process.js";
import { until } from "../support/wait.js";
import type * as fixture from "./legacy/desk.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
let out: string;
let complaints: readonly string[];
let legacy: typeof fixture;

beforeAll(async () => {
  mkdirSync(join(root, ".cache"), { recursive: true });
  out = await mkdtemp(join(root, ".cache/legacy-"));
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const project = join(root, "test/decorators/legacy");
  const compiler = startProcess(process.execPath, [tsc, "-p", project, "--outDir", out, "--pretty", "false"], {
    cwd: root,
    keepOutputBytes: 1_000_000,
  });
  await compiler.exited;
  // Errors in the library's own source are for `npm run types` to report.
  complaints = compiler
    .output("stdout")
    .split("\n")
    .filter((line) => line.includes("test/decorators/"));
  legacy = (await import(pathToFileURL(join(out, "test/decorators/legacy/desk.js")).href)) as typeof fixture;
}, 60_000);
afterAll(() => rmSync(out, { recursive: true, force: true }));

test("[D12] the older mode compiles, and refuses what the newer one refuses", () => {
  expect(complaints).toEqual([]);
});

test("[D12] decorated methods of the older mode are subscribed, by a broker of another copy of the package", async () => {
  await using broker = await connect("memory:", { logger: silentLogger });
  const desk = new legacy.Desk();
  await using registered = await broker.register(desk);
  await broker.events.publish("order.created", 1);
  await broker.queue("parcels").publish(2);
  await broker.queue("letters").publish(3);
  await broker.pubsub.publish("chat.kitchen", 4);
  await until(() => desk.heard.length === 4);
  expect(desk.heard).toEqual(
    expect.arrayContaining([
      ["created", 1, "order.created"],
      ["parcel", 2],
      ["parcel", 3],
      ["kitchen", 4],
    ]),
  );
  expect(registered.stats()).toHaveLength(4);
});

test("[D12] a class below has what is above it in the older mode as well", async () => {
  await using broker = await connect("memory:", { logger: silentLogger });
  const loud = new legacy.Loud();
  await using registered = await broker.register(loud);
  expect(registered.stats()).toMatchObject([
    { channel: "order.created" },
    { channels: ["chat.{room}"] },
    { channel: "letters" },
  ]);
  await broker.events.publish("order.created", 1);
  await broker.queue("letters").publish(3);
  await until(() => loud.heard.length === 2);
  expect(loud.heard).toEqual(
    expect.arrayContaining([
      ["loud", 1],
      ["loud parcel", 3],
    ]),
  );
  await using above = await broker.register(new legacy.Desk());
  expect(above.stats()).toHaveLength(4);
});

test("static members and accessors are refused in the older mode, where the class is made", () => {
  expect(legacy.decorateStatic).toThrow('@Consume stands at "on", which is static');
  expect(legacy.decorateAccessor).toThrow('@Consume stands at "on", which is no method');
});
