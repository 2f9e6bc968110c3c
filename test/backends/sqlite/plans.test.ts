/** No statement reads a table from end to end: what it costs to append, take and settle does not grow with what is stored. */

import { expect, test } from "vitest";
import type { Backend, Delivery, Membership, Outcome, Queue } from "../../../src/core/backend.js";
import { connect, driverThat, GROUP, newPath, open, ROOMY } from "./opening.js";
import { AUDIENCE, CONSUMER, FOR_ALL, item, items as itemsOf } from "./queueing.js";

/** Lists that stay short, whatever is stored: who listens, what they have still to hear, the groups of one stream. */
const SHORT = /sb1_(listeners|backends|broadcasts|readers)|signalbox_layout|sqlite_schema|DISTINCT/;
/** What is read in its order, or looked through as it is short: what consumers have in hands, and what is held. */
const IN_HANDS = /sb1_(leased|parked|waiting)|state (=|<>) 'out'|DELETE FROM sb1_turns WHERE reader = \?$/;
const MANY = 100_000;

/** Every statement that a backend prepares. */
async function statementsOf(path: string): Promise<readonly string[]> {
  const prepared = new Set<string>();
  const driver = await driverThat((database) => ({
    ...database,
    prepare<Row>(sql: string) {
      prepared.add(sql);
      return database.prepare<Row>(sql);
    },
  }));
  const { queue } = (await open({ path }, { driver })).backend;
  // How items are counted is made up as it is asked.
  await queue.configure("counted", { keepAckedMs: 0, maxRecords: 0, index: ["a", "b"] });
  for (const fields of [{ a: "1" }, { a: "1", b: "2" }])
    for (const filter of [{ fields }, { fields, state: "open" } as const]) await queue.count("counted", filter);
  return [...prepared].filter((sql) => /^\s*(SELECT|INSERT|UPDATE|DELETE)/.test(sql));
}

async function fill({ log, queue, membership }: Backend): Promise<void> {
  for (const order of ["none", "key"] as const) await log.createGroup("s", order, { ...GROUP, order, maxHeld: 1_000 });
  for (let count = 0; count < MANY; count += 1_000) {
    const entries = Array.from({ length: 1_000 }, (_, index) => {
      const number = count + index;
      return { header: "h", data: `${number}`, key: `${number % 5_000}`, dedupeId: `${number}` };
    });
    await log.append("s", entries, { maxEntries: 10 * MANY, overflow: "reject" });
  }
  const items = Array.from({ length: 10_000 }, (_, index) => {
    return { id: `${index}`, recipient: "", header: "h", data: "d", priority: index % 10, delayMs: 0, ttlMs: 600_000 };
  });
  for (let from = 0; from < items.length; from += 1_000)
    await queue.push("q", items.slice(from, from + 1_000), { maxItems: MANY });
  await fillQueue(queue, "records", MANY / 10);
  await fillMembers(membership);
}

async function fillMembers(membership: Membership): Promise<void> {
  for (let count = 0; count < 10_000; count += 1_000) {
    const holder = `h${count}`;
    await membership.begin(holder, 60_000);
    const members = Array.from({ length: 1_000 }, (_, index) => ({
      id: `m${count / 2 + index}`,
      meta: "",
      connections: 1,
    }));
    for (const group of ["g", `g${count}`]) await membership.join(group, holder, members, { maxMembers: MANY });
  }
}

/** Items that wait, some of them delayed, and about as many records, and recipients of which each has something. */
async function fillQueue(queue: Queue, name: string, count: number): Promise<void> {
  await queue.configure(name, { keepAckedMs: 3_600_000, maxRecords: count, index: ["source"] });
  const recipients = Array.from({ length: Math.min(count, 3_000) }, (_, index) => `r${index}`);
  await Promise.all(recipients.map((recipient) => queue.register(name, recipient, AUDIENCE)));
  await queue.push(name, [item("for all", { recipient: FOR_ALL })], { maxItems: MANY });
  for (const state of ["finished", "waiting", "delayed"]) {
    for (let from = 0; from < count; from += 1_000) {
      const size = Math.min(1_000, count - from);
      const more = { ttlMs: 3_600_000, delayMs: state === "delayed" ? 60_000 : 0 };
      const pushed = Array.from({ length: size }, (_, index) =>
        item(`${state}${from + index}`, { ...more, priority: index % 10, fields: { source: `${index % 100}` } }),
      );
      await queue.push(name, pushed, { maxItems: MANY });
      if (state === "finished")
        await queue.acknowledge(
          name,
          "",
          pushed.map(({ id }) => id),
        );
    }
  }
}

test("[E35] every statement finds its rows by an index, before and after SQLite has counted them", async () => {
  const path = newPath();
  const { backend } = await open({ path });
  const statements = await statementsOf(path);
  expect(statements.length).toBeGreaterThan(80);
  await fill(backend);
  const other = await connect(path);
  const scans = (): string[] =>
    statements.flatMap((sql) =>
      other
        .prepare<{ detail: string }>(`EXPLAIN QUERY PLAN ${sql}`)
        .all()
        .filter(({ detail }) => {
          if (/ PRIMARY KEY \((reader|stream)=\?\)/.test(detail)) return !IN_HANDS.test(sql);
          if (detail.includes("TEMP B-TREE")) return !SHORT.test(sql);
          return /\bSCAN (?!\(|CONSTANT)/.test(detail) && !SHORT.test(detail);
        })
        .map(({ detail }) => `${detail}: ${sql}`),
    );
  expect(scans()).toEqual([]);
  other.exec("ANALYZE");
  expect(scans()).toEqual([]);
}, 60_000);

function ack({ receipt }: Delivery): Outcome {
  return { receipt, as: "ack" };
}

/** Middle one of several times, in ms of this process's own, so that a busy machine does not matter. */
async function timeOf(step: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < 15; round += 1) {
    const start = process.cpuUsage();
    await step();
    const { user, system } = process.cpuUsage(start);
    times.push((user + system) / 1_000);
  }
  return times.toSorted((a, b) => a - b)[7] ?? 0;
}

test("appending, taking and settling cost the same however much is stored", async () => {
  const { backend } = await open({ path: newPath(), synchronous: "normal" });
  const { log } = backend;
  const batch = (prefix: string): { header: string; data: string; key: string; dedupeId: string }[] =>
    Array.from({ length: 100 }, (_, index) => {
      return { header: "h", data: "d", key: `${prefix}${index}`, dedupeId: `${prefix}${index}` };
    });
  let round = 0;
  const measure = async (): Promise<number[]> => {
    const append = await timeOf(() => log.append("s", batch(`${(round += 1)}-`), ROOMY));
    const takes: number[] = [];
    for (const order of ["none", "key"] as const) {
      const feed = await log.open("s", order, "c");
      let outcomes: Outcome[] = [];
      takes.push(
        await timeOf(async () => {
          const { deliveries } = await feed.take({ max: 100, waitMs: 0 }, outcomes);
          expect(deliveries).toHaveLength(100);
          outcomes = deliveries.map(ack);
        }),
      );
      await feed.take({ max: 0, waitMs: 0 }, outcomes);
    }
    return [append, ...takes];
  };
  for (const order of ["none", "key"] as const) await log.createGroup("s", order, { ...GROUP, order });
  await measure();
  const few = await measure();
  await fill(backend);
  const many = await measure();
  // Were they to read what is stored, they would take a hundred times as long.
  for (const [index, ms] of many.entries()) expect(ms).toBeLessThan(10 * (few[index] ?? 0) + 5);
}, 60_000);

test("pushing, taking, settling and looking cost the same however much a queue holds", async () => {
  const { queue } = (await open({ path: newPath(), synchronous: "normal" })).backend;
  let round = 0;
  const measure = async (name: string): Promise<readonly number[]> => {
    const feed = await queue.open(name, "", CONSUMER);
    let outcomes: Outcome[] = [];
    const push = async (): Promise<unknown> => {
      round += 1;
      const more = { priority: 20, fields: { source: "new" }, ttlMs: 60_000 };
      return queue.push(name, itemsOf(`${round}-`, 100, more), { maxItems: MANY });
    };
    const steps: readonly (() => Promise<unknown>)[] = [
      push,
      async () => {
        const { deliveries } = await feed.take({ max: 100, waitMs: 0 }, outcomes);
        expect(deliveries).toHaveLength(100);
        outcomes = deliveries.map(ack);
      },
      () => queue.browse(name, "", { max: 10 }),
      () => queue.browse(name, "", { max: 10 }, "delayed"),
      () => queue.get(name, "waiting7"),
      () => queue.list(name, { fields: { source: "7" }, state: "open" }, { max: 10 }),
      () => queue.list(name, { state: "acked" }, { max: 10 }),
      () => queue.recipients(name, { max: 10 }),
      () => queue.push(name, [item("7", { recipient: "r7" })], { maxItems: MANY }),
    ];
    const times: number[] = [];
    for (const step of steps) times.push(await timeOf(step));
    return times;
  };
  await fillQueue(queue, "warm", 1_000);
  await measure("warm");
  await fillQueue(queue, "few", 1_000);
  const few = await measure("few");
  await fillQueue(queue, "many", 20_000);
  const many = await measure("many");
  // Were they to read what is stored, they would take twenty times as long.
  for (const [index, ms] of many.entries()) expect(ms, `step ${index}`).toBeLessThan(5 * (few[index] ?? 0) + 5);
}, 60_000);
