/** A long run of forwarding under chance: forwarders are killed and frozen, the server is killed, again and again. */

import { randomInt } from "node:crypto";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { type Broker, connect } from "../../src/index.js";
import { type Child, runChild } from "../support/children.js";
import { removeDir, tempDir } from "../support/process.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { silentLogger } from "./support/lanes.js";
import { expectWhole, ORDERS, ordersIn, publishOrders } from "./support/orders.js";

const RUN_MS = 120_000;
/** Longer than a turn lasts, half of the time. */
const LONGEST_FREEZE_MS = 20_000;

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function open(url: string): Promise<Broker> {
  const broker = await connect(url, { logger: silentLogger, onError: () => undefined, commandTimeoutMs: 1_500 });
  undo.push(() => broker.close({ drainMs: 0 }));
  return broker;
}

function startForwarder(file: string, server: RedisServer): Child {
  const child = runChild(new URL("support/forwarding-child.ts", import.meta.url), { args: [file, server.url, ORDERS] });
  undo.push(() => child.stop());
  return child;
}

test("[E37] two minutes of kills and freezes: all there, in order, none twice", async () => {
  const dir = await tempDir();
  undo.push(() => removeDir(dir));
  const file = `sqlite:${join(dir, "events.db")}`;
  const server = await startRedis({ appendonly: "always" });
  undo.push(() => server.stop());
  const [source, target] = [await open(file), await open(server.url)];
  const children = [1, 2, 3].map(() => startForwarder(file, server));
  const ids: string[] = [];
  const faults: string[] = [];
  const end = performance.now() + RUN_MS;
  const publishing = (async () => {
    for (let each = 0; performance.now() < end; each += 50) {
      ids.push(...(await publishOrders(source, each, 200)));
      await pause(randomInt(100));
    }
  })();
  while (performance.now() < end) {
    await pause(randomInt(6_000));
    const index = randomInt(children.length);
    const fault = ["kill", "freeze", "server"][randomInt(3)] ?? "";
    faults.push(fault);
    if (fault === "server") {
      await server.kill();
      await pause(randomInt(4_000));
      await server.restart();
    } else if (fault === "freeze") {
      children[index]?.send({ freezeMs: randomInt(LONGEST_FREEZE_MS) });
    } else {
      children[index]?.kill("SIGKILL");
      children[index] = startForwarder(file, server);
    }
  }
  await publishing;
  const last = await source.events.forward(ORDERS, target);
  await last.caughtUp({ signal: AbortSignal.timeout(90_000) });
  expectWhole(await until(() => ordersIn(target), { deadlineMs: 30_000 }), ids);
  expect(faults.length).toBeGreaterThan(20);
}, 300_000);
