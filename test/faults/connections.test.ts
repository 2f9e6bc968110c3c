/** Connections that are killed, cut, slowed down and chopped up: replies stay with their commands, and nothing is lost. */

import { describe, expect, test } from "vitest";
import { pause, until } from "../support/wait.js";
import { clientsOf } from "./support/clients.js";
import type { Load } from "./support/load.js";
import { startProxy } from "./support/proxy.js";
import type { Flaw } from "./support/proxy-flaws.js";
import { startMasters, startStandalone, type System } from "./support/systems.js";
import { moreAcked, survive } from "./support/survive.js";

const KILLS: readonly (readonly string[])[] = [
  ["TYPE", "normal"],
  ["TYPE", "pubsub"],
  ["SKIPME", "yes"],
];

const SYSTEMS: Readonly<Record<string, () => Promise<System>>> = {
  "a single Redis": () => startStandalone(),
  "a Cluster": () => startMasters({ replicas: 0 }),
};

describe.concurrent("connections", { timeout: 60_000 }, () => {
  for (const [title, start] of Object.entries(SYSTEMS)) {
    test(`fault 5: CLIENT KILL in the midst of everything, again and again, on ${title}`, async () => {
      const { url, nodes, stop } = await start();
      const count = async (): Promise<number> => (await Promise.all(nodes.map(clientsOf))).flat().length;
      try {
        const inject = async (loads: readonly Load[]): Promise<void> => {
          const before = await count();
          for (const how of Array.from({ length: 6 }, () => KILLS).flat()) {
            await Promise.all(nodes.map((node) => node.cli("CLIENT", "KILL", ...how)));
            await moreAcked(loads, 20);
          }
          // One made anew for each that was killed, and no more.
          await until(async () => (await count()) === before, { what: "as many connections as before" });
        };
        const loads = await survive(url, inject, { publishingUntil: "healed" });
        // What was under way is asked about again, and nobody is told that it failed.
        for (const { failures } of loads) expect(failures).toEqual([]);
      } finally {
        await stop();
      }
    });
  }

  const flaws: Readonly<Record<string, Flaw>> = {
    "swallowed one way, for ever": { kind: "hole", direction: "down", afterwards: "silence" },
    "reset at once": { kind: "cut" },
    "closed half by the client": { kind: "half-close", direction: "up" },
    "closed half by the server": { kind: "half-close", direction: "down" },
    "cut in the middle of a command": { kind: "truncate", direction: "up", afterBytes: 333 },
    "cut in the middle of a reply": { kind: "truncate", direction: "down", afterBytes: 333 },
    "late by 300 ms": { kind: "delay", ms: 300 },
    "down to one byte a second": { kind: "trickle" },
    "taken apart into a few bytes each": { kind: "split" },
    "merged into large pieces": { kind: "merge", ms: 100 },
    "swallowed for a while": { kind: "hole", direction: "both", afterwards: "flow" },
  };
  for (const [title, flaw] of Object.entries(flaws)) {
    test(`fault 9: bytes that are ${title}`, async () => {
      const { server, stop } = await startStandalone();
      await using proxy = await startProxy({ target: server.port });
      try {
        const inject = async (): Promise<void> => {
          for (let times = 0; times < 3; times += 1) {
            proxy.impose(flaw);
            await pause(600);
            proxy.heal();
            await pause(50);
          }
        };
        // What is swallowed without a trace is noticed by its deadline alone, which has to leave room within the 5 s.
        const connect = { commandTimeoutMs: 1_000 };
        await survive(`redis://127.0.0.1:${proxy.port}`, inject, { connect, publishingUntil: "healed" });
      } finally {
        await stop();
      }
    });
  }
});
