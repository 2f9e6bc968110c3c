/** The history checker: each property is found broken where it is, and only there. */

import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { tempDir } from "../support/process.js";
import { checkHistory, explain, type Verdict } from "./history.js";
import { broken, sound } from "./support/history-cases.js";
import { brokenItems } from "./support/history-items-broken.js";
import { soundItems } from "./support/history-items-sound.js";
import { RULES } from "./support/history-findings.js";
import { EVERYBODY } from "./support/history-items.js";
import { openHistory } from "./support/history-log.js";
import { historyFiles, readHistory } from "./support/history-read.js";
import { type Story, tellStory, TRAITS, WORK } from "./support/history-story.js";
import { Tail } from "./support/history-tail.js";

async function opened(): Promise<Story> {
  return (await tellStory()).publisher().consumer(1).consumer(2);
}

describe.concurrent("what is sound", () => {
  test.each(sound)("$title", async ({ tell }) => {
    const verdict = await tell(await opened()).check();
    expect(explain(verdict)).toBe("every property holds");
  });
});

describe.concurrent("what is broken", () => {
  test.each(broken)("$rule: $title", async ({ rule, tell }) => {
    const { broken: found } = await tell(await opened()).check();
    expect(Object.keys(found)).toContain(rule);
  });
});

describe.concurrent("what is sound of a queue", () => {
  test.each(soundItems)("$title", async ({ tell }) => {
    const verdict = await tell((await tellStory()).queue()).check();
    expect(explain(verdict)).toBe("every property holds");
  });
});

describe.concurrent("what is broken of a queue", () => {
  test.each(brokenItems)("$rule: $title", async ({ rule, tell }) => {
    const { broken: found } = await tell((await tellStory()).queue()).check();
    expect(Object.keys(found)).toContain(rule);
  });
});

test("every rule has a history that breaks it", () => {
  const found = new Set([...broken, ...brokenItems].map(({ rule }) => rule));
  expect(found).toEqual(new Set(Object.keys(RULES)));
});

test("a stream that may drop accounts for what it reports as dropped, and for no more", async () => {
  const drop = (count: number): Promise<Story> =>
    opened().then((s) => s.published(0).published(1).consumed(1, { op: "gone", count }).left());
  expect((await (await drop(2)).check({ mayDrop: true })).broken).toEqual({});
  expect((await (await drop(1)).check({ mayDrop: true })).broken).toEqual({ lost: 2 });
});

test("where the run ends early, what is left is accounted for, and no more", async () => {
  const end = (lag: number): Promise<Story> =>
    opened().then((s) => s.published(0).published(1).published(2).begin(1, { n: 0 }).left({ pending: 1, lag }));
  expect((await (await end(2)).check({ mayBeLeft: true })).broken).toEqual({});
  expect((await (await end(1)).check({ mayBeLeft: true })).broken).toEqual({ lost: 2, unfinished: 1 });
});

test("a finding names the message, and tells all that was done to it in its group", async () => {
  const story = (await opened())
    .consumer(3, { ...WORK, name: "audit" })
    .published(0)
    .published(1, 4)
    .handled(3, { n: 0 }, { n: 1 })
    .begin(1, { n: 1 })
    .handled(2, { n: 0 })
    .left()
    .left({}, "audit");
  const verdict = await story.check();
  expect(verdict.findings).toMatchObject([{ rule: "unfinished", group: "work", message: { p: 1, n: 1 } }]);
  const operations = verdict.findings[0]?.operations.map((line) => line.replace(/^ *[\d.]+ s +/, ""));
  expect(operations).toEqual([
    'publisher-1   {"op":"invoke","n":1,"k":4}',
    'publisher-1   {"op":"ok","n":1}',
    'consumer-1    {"op":"begin","p":1,"n":1,"a":1,"at":"5-1"}',
  ]);
  expect(explain(verdict)).toContain("unfinished in group work: message 1-1");
});

test("it counts what was published, delivered, repeated and recovered", async () => {
  const story = (await opened())
    .published(0)
    .published(1)
    .publish({ op: "invoke", n: 2 })
    .publish({ op: "fail", n: 2, error: "x" })
    .begin(1, { n: 0 })
    .end(1, { n: 0 }, "retry")
    .handled(2, { n: 0, a: 2 }, { n: 1 })
    .direct({ op: "fault", number: 1, kind: "test", stalls: true, rollsBack: false, quiet: false })
    .wait(700)
    .direct({ op: "writable", number: 1, killedAt: 1_000e9, work: ["events"] })
    .wait(300)
    .publish({ op: "invoke", n: 3 })
    .publish({ op: "ok", n: 3 })
    .handled(1, { n: 3 })
    .consumed(1, { op: "settled", count: 1 })
    .consumed(2, { op: "settled", count: 1 })
    .direct({ op: "over", number: 1 })
    .left();
  const { broken: found, published, groups, recovery } = await story.check();
  expect(found).toEqual({});
  expect(published).toEqual({ tried: 4, ok: 3, fail: 1, unknown: 0 });
  expect(groups).toEqual({ work: { delivered: 3, repeated: 1, acked: 3, dead: 0, lost: 0 } });
  expect(recovery).toMatchObject({
    faults: 1,
    byKind: { test: 1 },
    recovery: { count: 1, p50: 306, max: 306 },
    killToWrite: { count: 1, p50: 717 },
  });
});

test("a log keeps what was flushed, and is read back in the order of time", async () => {
  const dir = await tempDir();
  const one = openHistory(join(dir, "consumer-1.ndjson"));
  const other = openHistory(join(dir, "consumer-2.ndjson"));
  one.write({ op: "rss", t: 1, bytes: 1 });
  other.write({ op: "rss", t: 2, bytes: 2 });
  one.write({ op: "rss", t: 3, bytes: 3 });
  one.flush();
  await other.flushed();
  const read = [...readHistory(dir)].map(({ op, source }) => [op.t, source]);
  expect(read).toEqual([
    [1, "consumer-1"],
    [2, "consumer-2"],
    [3, "consumer-1"],
  ]);
  expect(historyFiles(dir)).toHaveLength(2);
  one.close();
  other.close();
});

test("a tail sees who works, and what the slowest group has left", async () => {
  const dir = await tempDir();
  const publisher = openHistory(join(dir, "publisher-1.ndjson"));
  const consumer = openHistory(join(dir, "consumer-1.ndjson"));
  const tail = new Tail(dir);
  publisher.write({ op: "opened", t: 1, process: "publisher", number: 1 });
  consumer.write({ op: "opened", t: 1, process: "consumer", number: 1, group: WORK });
  publisher.flush();
  consumer.flush();
  tail.poll();
  expect([tail.backlog, tail.of("publisher-1")]).toEqual([0, { lastOkAt: 0, lastSettledAt: 0 }]);
  for (const n of [0, 1, 5_000]) publisher.write({ op: "ok", t: 10 + n, n });
  // One was not even known to be stored; one is finished twice.
  for (const n of [0, 9, 0]) consumer.write({ op: "end", t: 20, p: 1, n, a: 1, as: "ack" });
  consumer.write({ op: "end", t: 20, p: 1, n: 1, a: 1, as: "retry" });
  consumer.write({ op: "settled", t: 30, count: 2 });
  publisher.flush();
  consumer.flush();
  tail.poll();
  expect([tail.ok, tail.finished, tail.backlog]).toEqual([3, 3, 2]);
  expect(tail.of("publisher-1").lastOkAt).toBe(5_010);
  expect(tail.of("consumer-1").lastSettledAt).toBe(30);
  publisher.write({ op: "ok", t: 6_000, n: 9 });
  publisher.flush();
  tail.poll();
  expect(tail.backlog).toBe(2);
  const queue = openHistory(join(dir, "queue-publisher-1.ndjson"));
  queue.write({ op: "opened", t: 1, process: "publisher", number: 1, queue: TRAITS });
  queue.write({ op: "ok", t: 7_000, n: 3, count: 1 });
  queue.flush();
  tail.poll();
  // A queue's messages have numbers of their own.
  expect([tail.ok, tail.items, tail.backlog, tail.of("queue-publisher-1").lastOkAt]).toEqual([4, 1, 2, 7_000]);
  tail.close();
  queue.close();
  publisher.close();
  consumer.close();
});

test("it counts what a queue was given, and how much of that had to wait while others came", async () => {
  const story = (await tellStory())
    .queue()
    .item(0)
    .item(1, { to: EVERYBODY, priority: 5 })
    .item(2, { priority: 5 })
    .push({ op: "itemInvoke", n: 3, to: "ada", priority: 0 })
    .push({ op: "fail", n: 3, error: "x" })
    .wait(50)
    .done(1, { n: 2 }, { n: 0 }, { r: "ada", n: 1 })
    .taken(2, { r: "bob", n: 1 })
    .settled(2, { r: "bob", n: 1 }, "retry")
    .done(1, { r: "bob", n: 1, a: 2 })
    .rest();
  const { broken: found, queue } = await story.check();
  expect(found).toEqual({});
  expect(queue?.published).toEqual({ tried: 4, ok: 3, fail: 1, unknown: 0 });
  const counts = { delivered: 1, repeated: 0, acked: 1, dead: 0, expired: 0, lost: 0, compared: 0 };
  expect(queue?.recipients).toEqual({
    "": { ...counts, delivered: 2, acked: 2, compared: 1 },
    ada: counts,
    bob: { ...counts, repeated: 1 },
  });
});

test("a queue that may drop accounts for what it counts as dropped, and for no more", async () => {
  const drop = async (dropped: number): Promise<Story> =>
    (await tellStory()).queue().item(0).item(1, { ttlMs: 100 }).rest({ "": { dropped } });
  expect((await (await drop(2)).check({ mayDrop: true })).broken).toEqual({});
  expect((await (await drop(1)).check({ mayDrop: true })).broken).toEqual({ lost: 1 });
});

/** What two hundred thousand messages take in typed arrays, which lie outside the heap; they grow by doubling. */
async function bytesOfChecking(dir: string): Promise<{ readonly verdict: Verdict; readonly bytes: number }> {
  const before = process.memoryUsage();
  const verdict = await checkHistory(dir);
  return { verdict, bytes: process.memoryUsage().arrayBuffers - before.arrayBuffers };
}

test("two hundred thousand messages are checked in little memory", async () => {
  const dir = await tempDir();
  const messages = 200_000;
  const publisher = openHistory(join(dir, "publisher-1.ndjson"));
  const consumer = openHistory(join(dir, "consumer-1.ndjson"));
  const director = openHistory(join(dir, "director.ndjson"));
  publisher.write({ op: "opened", t: 0, process: "publisher", number: 1 });
  consumer.write({ op: "opened", t: 0, process: "consumer", number: 1, group: WORK });
  for (let n = 0; n < messages; n += 1) {
    publisher.write({ op: "invoke", t: 10 * n, n, k: n % 500 });
    publisher.write({ op: "ok", t: 10 * n + 1, n });
    consumer.write({ op: "begin", t: 10 * n + 2, p: 1, n, a: 1, at: `5-${n}` });
    consumer.write({ op: "end", t: 10 * n + 3, p: 1, n, a: 1, as: "ack" });
    if (n % 1_000 === 0) for (const log of [publisher, consumer]) log.flush();
  }
  director.write({ op: "left", t: 10 * messages, group: WORK.name, lag: 0, pending: 0, retrying: 0, dead: 0 });
  for (const log of [publisher, consumer, director]) log.close();
  const { verdict, bytes } = await bytesOfChecking(dir);
  expect(verdict.broken).toEqual({});
  expect(verdict.groups[WORK.name]?.acked).toBe(messages);
  // What the parser leaves behind is collected now and then.
  expect(bytes).toBeLessThan(120 * messages);
});

test("two hundred thousand messages of a queue are checked in little memory, for each recipient", async () => {
  const dir = await tempDir();
  const messages = 200_000;
  const publisher = openHistory(join(dir, "queue-publisher-1.ndjson"));
  const consumer = openHistory(join(dir, "queue-consumer-1.ndjson"));
  const director = openHistory(join(dir, "director.ndjson"));
  publisher.write({ op: "opened", t: 0, process: "publisher", number: 1, queue: TRAITS });
  consumer.write({ op: "opened", t: 0, process: "consumer", number: 1, queue: TRAITS });
  for (let n = 0; n < messages; n += 1) {
    const t = 10 * n;
    const of = { r: "", p: 1, n, a: 1 };
    publisher.write({ op: "itemInvoke", t, n, to: "", priority: n % 7 });
    publisher.write({ op: "ok", t: t + 1, n });
    consumer.write({ op: "itemBegin", t: t + 4, ...of, at: `id-${n}`, from: t + 2, until: t + 3 });
    consumer.write({ op: "itemEnd", t: t + 5, ...of, as: "ack" });
    if (n % 1_000 === 0) for (const log of [publisher, consumer]) log.flush();
  }
  const none = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0, dropped: 0 };
  for (const r of ["", ...TRAITS.audience]) director.write({ op: "itemsLeft", t: 10 * messages, r, ...none });
  for (const log of [publisher, consumer, director]) log.close();
  const { verdict, bytes } = await bytesOfChecking(dir);
  expect(verdict.broken).toEqual({});
  expect(verdict.queue?.recipients[""]?.acked).toBe(messages);
  expect(bytes).toBeLessThan(120 * (1 + TRAITS.audience.length) * messages);
});
