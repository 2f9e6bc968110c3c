/** Audiences whose publisher or consumers are killed: everybody gets what was published, each his own, and once. */

import { describe, expect, test } from "vitest";
import { type Broker, connect, type Queue } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { pause, until } from "../support/wait.js";
import { said, START_MS, startProgram } from "./support/programs.js";
import { STORES } from "./support/stores.js";
import { RECOVERY_MS } from "./support/survive.js";

/** Too many for one step, on any store. */
const MANY = 900;
const DEATHS = 4;
const LEASE_MS = 1_000;

async function register(queue: Queue<unknown>, count: number): Promise<readonly string[]> {
  const names = Array.from({ length: count }, (_, index) => `reader-${index}`);
  await Promise.all(names.map((name) => queue.register(name)));
  return names;
}

describe.concurrent("audiences", { timeout: 60_000 }, () => {
  for (const [where, start] of Object.entries(STORES)) {
    test(`fault 32: a publisher that is killed in the midst of telling ${MANY} recipients on ${where}: all get it, or nobody`, async () => {
      await using store = await start();
      await using broker = await connect(store.url, { logger: silentLogger });
      const queue: Queue<unknown> = broker.queue("notices");
      await register(queue, MANY);
      const tried: unknown[] = [];
      const acked: unknown[] = [];
      for (let death = 0; death < DEATHS; death += 1) {
        await using child = startProgram("announcing", [store.url, `publisher-${death}`]);
        await child.next((message) => "acked" in message, START_MS);
        await pause(7 * death); // to meet it somewhere else each time
        child.kill("SIGKILL");
        await child.exited;
        tried.push(...said(child, "tried"));
        acked.push(...said(child, "acked"));
        expect(said(child, "recipients").every((count) => count === MANY)).toBe(true);
      }
      expect(tried.length, "killed in the midst of it").toBeGreaterThan(acked.length);
      // Whoever consumes goes on with what publishers have left.
      await queue.subscribe({ as: "one-more" }, () => undefined);
      const ids = [...new Set(tried)].map(String);
      const recipientsOf = async (id: string): Promise<number> => (await queue.get(id))?.recipients.length ?? 0;
      for (const id of ids) {
        const isWhole = async (): Promise<boolean> => [0, MANY].includes(await recipientsOf(id));
        await until(isWhole, { deadlineMs: 15_000, everyMs: 20, what: `${id} to be with all or with nobody` });
        if (acked.includes(id)) expect(await recipientsOf(id)).toBe(MANY);
      }
      expect((await queue.stats("reader-0")).waiting).toBe((await queue.stats(`reader-${MANY - 1}`)).waiting);
    });

    test(`[E27] fault 32: consumers of an audience that are killed on ${where}: each recipient's share comes again to itself`, async () => {
      await using store = await start();
      await using broker = await connect(store.url, { logger: silentLogger });
      const queue: Queue<unknown> = broker.queue("work");
      const names = ["ada", "bob", "cyd"];
      for (const name of names) await queue.register(name);
      const got = new Map(names.map((name) => [name, [] as [unknown, number][]]));
      const consume = async (name: string): Promise<unknown> =>
        await queue.subscribe({ as: name, leaseMs: LEASE_MS }, (data, { attempt }) => {
          got.get(name)?.push([data, attempt]);
        });
      await consume("ada");
      const children = ["bob", "bob", "cyd"].map((name) =>
        startProgram("hanging", [store.url, "queue", LEASE_MS, name]),
      );
      try {
        const numbers = [1, 2, 3];
        await queue.publishMany(numbers, { audience: "registered" });
        const held = (): number => children.reduce((sum, child) => sum + said(child, "holds").length, 0);
        await until(() => held() === 6, { deadlineMs: START_MS, what: "bob and cyd to hold theirs" });
        for (const child of children) child.kill("SIGKILL");
        await Promise.all(children.map((child) => child.exited));
        const killedAt = performance.now();
        await Promise.all(["bob", "cyd"].map(consume));
        const isDone = (): boolean => names.every((name) => got.get(name)?.length === numbers.length);
        await until(isDone, { deadlineMs: LEASE_MS + RECOVERY_MS, what: "all to have theirs" });
        expect(performance.now() - killedAt).toBeLessThan(LEASE_MS + RECOVERY_MS);
        const inOrder = (name: string) => got.get(name)?.toSorted(([a], [b]) => Number(a) - Number(b));
        expect(inOrder("ada")).toEqual(numbers.map((number) => [number, 1]));
        for (const name of ["bob", "cyd"]) expect(inOrder(name)).toEqual(numbers.map((number) => [number, 2]));
        await until(async () => (await queue.count()) === 0, { what: "all to be finished" });
      } finally {
        await Promise.all(children.map((child) => child.stop()));
      }
    });

    test(`bad input 35: processes that consume as one recipient on ${where} share what it has, and each message goes to one of them`, async () => {
      await using store = await start();
      const brokers: Broker[] = [];
      for (let count = 0; count < 3; count += 1) brokers.push(await connect(store.url, { logger: silentLogger }));
      try {
        const got = brokers.map(() => [] as [unknown, number][]);
        for (const [index, broker] of brokers.entries()) {
          await broker.queue("work").subscribe({ as: "coder", concurrency: 2 }, async (data, { attempt }) => {
            got[index]?.push([data, attempt]);
            await pause(5);
          });
        }
        const numbers = Array.from({ length: 200 }, (_, number) => number);
        const queue = brokers[0]?.queue("work");
        await queue?.publishMany(numbers.slice(0, 150), { target: "coder" });
        // It is one recipient, however many consume as it.
        for (const number of numbers.slice(150))
          expect(await queue?.publish(number, { audience: "registered" })).toMatchObject({ recipients: 1 });
        const all = (): [unknown, number][] => got.flat();
        await until(() => all().length >= numbers.length, { deadlineMs: 15_000, what: "all to be handled" });
        await until(async () => (await queue?.stats("coder"))?.leased === 0);
        expect(all().toSorted(([a], [b]) => Number(a) - Number(b))).toEqual(numbers.map((number) => [number, 1]));
        for (const some of got) expect(some.length).toBeGreaterThan(0);
        // One that leaves takes nothing with it.
        await brokers[1]?.close();
        await queue?.publish("last", { target: "coder" });
        await until(() => all().some(([data]) => data === "last"), { what: "the others to go on" });
      } finally {
        await Promise.all(brokers.map((broker) => broker.close({ drainMs: 0 })));
      }
    });
  }
});
