/** The Lua scripts as files, and how they get to the server. */

import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadScript } from "../../../src/backends/redis/scripts.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { open, standalone } from "./connection-support.js";
import { entry, openPorts, ROOMY } from "./log-queue-support.js";

const folder = new URL("../../../src/backends/redis/lua/", import.meta.url);
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".lua"))
  .map((file) => file.slice(0, -".lua".length));
/** Under memory pressure these are refused before they have written anything; all others go on. */
const PUBLISHING = ["log-append", "log-redrive", "membership-intend", "membership-join", "queue-push", "queue-redrive"];

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

describe("the files", () => {
  test("scripts that publish stop when memory is full, and scripts that drain go on", () => {
    expect(names).toEqual(expect.arrayContaining(PUBLISHING));
    for (const name of names) {
      const [first] = loadScript(name).source.split("\n");
      expect(`${name} ${first}`).toBe(`${name} ${PUBLISHING.includes(name) ? "#!lua" : "#!lua flags=allow-oom"}`);
    }
  });

  test("each says what it does, and which keys, arguments and replies it has", () => {
    for (const name of names) {
      const lines = readFileSync(new URL(`${name}.lua`, folder), "utf8")
        .split("\n")
        .slice(1);
      const header = lines
        .slice(
          0,
          lines.findIndex((line) => !line.startsWith("-- ")),
        )
        .join("\n");
      for (const part of ["KEYS  1 ", "ARGV  1 ", "Reply "]) expect(`${name}: ${header}`).toContain(part);
    }
  });

  test("whichever makes keys that it was not given is given one that never exists", () => {
    const making = names.filter((name) => loadScript(name).source.includes("local PREFIX"));
    expect(making.length).toBeGreaterThan(10);
    for (const name of making)
      expect(`${name}: ${loadScript(name).source}`).toMatch(/-- KEYS .*\bone that never exists/);
  });

  test("parts that scripts share are put in their place", () => {
    for (const name of names) expect(loadScript(name).source).not.toContain("--@");
    expect(loadScript("log-append").source).toContain("local function earlierResult");
  });

  test("each compiles", async () => {
    for (const name of names) expect(await server.cli("SCRIPT", "LOAD", loadScript(name).source)).toHaveLength(40);
  });
});

describe("sending", () => {
  test("a script that the server knows travels by its hash", async () => {
    const { connections } = await open(standalone(server));
    const script = loadScript("queue-extend");
    await server.cli("SCRIPT", "LOAD", script.source);
    const connection = connections.shared("key");
    const sent: string[] = [];
    const spy = {
      ...connection,
      command: (...call: Parameters<typeof connection.command>) => {
        sent.push(String(call[0][0]));
        return connection.command(...call);
      },
    };
    await script.run(spy, ["leased", "attempts"], ["1000", "ticket", "0"]);
    await server.cli("SCRIPT", "FLUSH");
    await script.run(spy, ["leased", "attempts"], ["1000", "ticket", "0"]);
    await script.run(spy, ["leased", "attempts"], ["1000", "ticket", "0"]);
    expect(sent).toEqual(["EVALSHA", "EVALSHA", "EVAL", "EVALSHA"]);
  });

  test("a script's own error is passed on, and not taken for a missing script", async () => {
    const { connections } = await open(standalone(server));
    await server.cli("SET", "a-string", "x");
    const run = loadScript("queue-extend").run(connections.shared("x"), ["a-string", "x"], ["1000", "ticket", "0"]);
    await expect(run).rejects.toThrow("WRONGTYPE");
  });

  test("batches that find the server without its scripts are stored all the same, in order", async () => {
    const { log } = await openPorts(server);
    const texts = Array.from({ length: 40 }, (_, index) => `e${index}`);
    await server.cli("SCRIPT", "FLUSH");
    await Promise.all(texts.map((text) => log.append("flushed", [entry(text)], ROOMY)));
    const read = await log.read("flushed", { max: 100 });
    expect(read.map(({ data }) => Buffer.from(data).toString())).toEqual(texts);
  });
});
