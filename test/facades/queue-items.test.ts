/** The messages of a queue one by one: reading, listing, counting, acknowledging and deleting them, and why one did not come. */

import { expect, test } from "vitest";
import { connect, type Delivery, type Queue, type QueuedMessage, type QueuePage } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { until } from "../support/wait.js";
import { collect, onEveryBackend, silentLogger } from "./support/lanes.js";

const HOUR = 3_600_000;
const RECORDED = { keepAckedMs: HOUR, index: ["source", "target"] } as const;
const numbersTo = (count: number): number[] => Array.from({ length: count }, (_, number) => number);

/** All pages of what `read` gives, one after the other. */
async function allOf(read: (cursor: string | undefined) => Promise<QueuePage>): Promise<QueuedMessage[]> {
  const items: QueuedMessage[] = [];
  let cursor: string | undefined;
  do {
    const page = await read(cursor);
    items.push(...page.items);
    cursor = page.cursor;
  } while (cursor !== undefined);
  return items;
}

const dataOf = (items: readonly QueuedMessage[]): unknown[] => items.map(({ data }) => data);

/** Takes one message of a recipient, and settles it. */
async function settleOne(
  queue: Queue<unknown>,
  as: string,
  how: (delivery: Delivery) => Promise<void> = (delivery) => delivery.ack(),
): Promise<void> {
  const deliveries = queue.deliveries({ as, concurrency: 1 });
  const { value: delivery } = await deliveries.next();
  await how(delivery!);
  await deliveries.close();
}

const park = (delivery: Delivery): Promise<void> => delivery.deadLetter("no good");

onEveryBackend("the messages of a queue", (lane) => {
  test("[C8] [C26] [X7] acknowledging is each recipient's own: what one has finished the others still have", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"), RECORDED);
    for (const recipient of ["ada", "bob"]) await tasks.register(recipient);
    const { id } = await tasks.publish("to all", { audience: "registered" });
    expect(await tasks.acknowledge(id, { recipient: "ada" })).toBe(true);
    expect(await tasks.acknowledge(id, { recipient: "ada" })).toBe(false);
    expect(await tasks.acknowledge(id)).toBe(false);
    expect(await tasks.acknowledge("unknown", { recipient: "bob" })).toBe(false);
    expect((await tasks.pending("ada")).items).toEqual([]);
    expect(dataOf((await tasks.pending("bob")).items)).toEqual(["to all"]);
    const item = await tasks.get(id);
    expect(item).toMatchObject({ acknowledged: false, state: "open" });
    expect(item?.recipients.map(({ recipient, state }) => [recipient, state])).toEqual([
      ["bob", "waiting"],
      ["ada", "acked"],
    ]);
    // A handler's return is the other way, and also that recipient's alone.
    await settleOne(tasks, "bob");
    expect(await tasks.get(id)).toMatchObject({ acknowledged: true, state: "acked" });
  });

  test("an acknowledgement by id beats whoever holds the message: that one's outcome changes nothing", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const { id } = await tasks.publish("held", { target: "ada" });
    const deliveries = tasks.deliveries({ as: "ada" });
    const { value: delivery } = await deliveries.next();
    expect((await tasks.pending("ada")).items).toMatchObject([{ state: "leased", attempts: 1 }]);
    expect(await tasks.acknowledge(id, { recipient: "ada" })).toBe(true);
    await expect(delivery!.retry()).rejects.toMatchObject({ code: "LEASE_LOST" });
    expect(await tasks.count()).toBe(0);
    await deliveries.close();
  });

  test("[C9] what any recipient has not finished is read in pages, whoever is there to consume it", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publishMany(numbersTo(250), { target: "agent_2" });
    await tasks.publish("another's", { target: "agent_3" });
    const first = await tasks.pending("agent_2");
    expect(first.items.length).toBeLessThanOrEqual(100);
    const items = await allOf((cursor) =>
      tasks.pending("agent_2", cursor === undefined ? { limit: 60 } : { limit: 60, cursor }),
    );
    expect(dataOf(items)).toEqual(numbersTo(250));
    expect(new Set(items.map(({ state }) => state))).toEqual(new Set(["waiting"]));
    // Reading acknowledges nothing.
    expect(await tasks.stats("agent_2")).toMatchObject({ waiting: 250 });
    await expect(tasks.pending("agent_2", { limit: 1_001 })).rejects.toMatchObject({ code: "CONFIG" });
  });

  test("[C28] they come by priority, then age, the filter applied before the limit", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publish("later", { target: "ada", priority: 99, delayMs: 60_000 });
    for (const [data, priority] of [
      ["low", -3],
      ["old", 0],
      ["new", 0],
      ["high", 10],
    ] as const)
      await tasks.publish(data, { target: "ada", priority });
    expect(dataOf((await tasks.pending("ada")).items)).toEqual(["high", "old", "new", "low", "later"]);
    const ready = await allOf((cursor) =>
      tasks.pending("ada", { state: "waiting", limit: 2, ...(cursor && { cursor }) }),
    );
    expect(dataOf(ready)).toEqual(["high", "old", "new", "low"]);
    expect((await tasks.pending("ada", { state: "delayed", limit: 1 })).items).toMatchObject([
      { data: "later", state: "delayed", priority: 99 },
    ]);
    // What somebody holds is no longer ready, and counts with it.
    const deliveries = tasks.deliveries({ as: "ada", concurrency: 1 });
    await deliveries.next();
    expect(dataOf((await tasks.pending("ada", { state: "leased" })).items)).toEqual(["high"]);
    expect(dataOf((await tasks.pending("ada")).items)).toEqual(["old", "new", "low", "later", "high"]);
    await deliveries.close();
  });

  test("[C19] a record keeps every field, its metadata and its last change, through a retry to its end", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"), RECORDED);
    const metadata = { trace: "t1", "content-language": "de" };
    const { id } = await tasks.publish(
      { steps: [1, 2] },
      { source: "agent_1", target: "agent_2", priority: 5, ttlMs: HOUR, headers: metadata, correlationId: "c1" },
    );
    const before = (await tasks.get(id))!;
    const deliveries = tasks.deliveries({ as: "agent_2" });
    const { value: delivery } = await deliveries.next();
    await delivery!.retry({ delayMs: 60_000 });
    const retried = (await tasks.get(id))!;
    expect(retried.recipients).toMatchObject([{ state: "delayed", attempts: 1 }]);
    expect(retried.updatedAt).toBeGreaterThanOrEqual(before.updatedAt);
    expect(await tasks.acknowledge(id, { recipient: "agent_2" })).toBe(true);
    await deliveries.close();
    const record = (await tasks.get(id))!;
    expect(record).toMatchObject({
      id,
      data: { steps: [1, 2] },
      priority: 5,
      state: "acked",
      acknowledged: true,
      createdAt: before.createdAt,
      expiresAt: before.createdAt + HOUR,
      message: {
        id,
        channel: tasks.name,
        source: "agent_1",
        target: "agent_2",
        correlationId: "c1",
        headers: metadata,
        priority: 5,
      },
      recipients: [{ recipient: "agent_2", state: "acked" }],
    });
    expect(record.updatedAt).toBeGreaterThanOrEqual(retried.updatedAt);
  });

  test("[C29] a message is read by its id; one that expired, was finished or never was is absent", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const [kept, short, done] = [
      await tasks.publish("kept", { priority: 10 }),
      await tasks.publish("short", { ttlMs: 1 }),
      await tasks.publish("done"),
    ];
    await tasks.acknowledge(done.id);
    await until(async () => (await tasks.get(short.id)) === undefined);
    expect(await tasks.get(kept.id)).toMatchObject({ data: "kept", priority: 10, acknowledged: false });
    expect(await tasks.get(done.id)).toBeUndefined();
    expect(await tasks.get("unknown")).toBeUndefined();
    await expect(tasks.get("")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    // Also where a record of it is kept.
    const recorded = broker.queue(lane.unique("tasks"), RECORDED);
    const { id } = await recorded.publish("short", { ttlMs: 1 });
    await until(async () => (await recorded.count({ state: "expired" })) === 1);
    expect(await recorded.get(id)).toBeUndefined();
  });

  test("[C27] acknowledging what has expired changes nothing, and leaves nothing behind", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"), RECORDED);
    const { id } = await tasks.publish("short", { target: "ada", source: "s", ttlMs: 1 });
    await until(async () => (await tasks.count({ state: "expired" })) === 1);
    expect(await tasks.acknowledge(id, { recipient: "ada" })).toBe(false);
    expect(await tasks.count({ acknowledged: true })).toBe(0);
    expect(await tasks.count({ acknowledged: false })).toBe(0);
    expect((await tasks.list({ filter: { source: "s" } })).items).toMatchObject([
      { state: "expired", acknowledged: false },
    ]);
    expect(await tasks.get(id)).toBeUndefined();
  });

  test("[C30] messages are listed newest first, filtered by the index and paged", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"), RECORDED);
    for (const number of numbersTo(60))
      await tasks.publish(number, { source: `agent_${number % 2}`, ...(number % 3 === 0 && { target: "ada" }) });
    const listed = (filter: object): Promise<QueuedMessage[]> =>
      allOf((cursor) => tasks.list({ filter, limit: 7, ...(cursor && { cursor }) }));
    const expected = (keep: (number: number) => boolean): number[] => numbersTo(60).filter(keep).toReversed();
    expect(dataOf(await listed({}))).toEqual(expected(() => true));
    expect(dataOf(await listed({ source: "agent_1" }))).toEqual(expected((number) => number % 2 === 1));
    expect(dataOf(await listed({ source: "agent_0", target: "ada" }))).toEqual(expected((number) => number % 6 === 0));
    const newest = (await tasks.list({ limit: 1 })).items[0]!;
    await tasks.acknowledge(newest.id);
    expect(dataOf(await listed({ acknowledged: true }))).toEqual([59]);
    expect(dataOf(await listed({ acknowledged: false, source: "agent_1" }))).toEqual(
      expected((number) => number % 2 === 1 && number !== 59),
    );
    expect(dataOf(await listed({ state: "waiting", target: "ada" }))).toEqual(
      numbersTo(20).map((number) => number * 3),
    );
  });

  test("[C31] counts are exact, by filter and without one, and beyond a page", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"), RECORDED);
    await tasks.publishMany(numbersTo(1_500), { source: "bulk", target: "ada" });
    await tasks.publish("one", { source: "other" });
    await tasks.publish("held back", { source: "bulk", target: "ada", delayMs: 60_000 });
    const ids = (await tasks.pending("ada", { limit: 300 })).items.map(({ id }) => id);
    const done = (await tasks.acknowledgeMany(ids, { recipient: "ada" })).filter(Boolean).length;
    expect(done).toBe(ids.length);
    await settleOne(tasks, "ada", park);
    expect(await tasks.count()).toBe(1_502);
    expect(await tasks.count({})).toBe(1_502);
    expect(await tasks.count({ source: "bulk" })).toBe(1_501);
    expect(await tasks.count({ source: "bulk", acknowledged: true })).toBe(done);
    expect(await tasks.count({ acknowledged: false })).toBe(1_501 - done);
    expect(await tasks.count({ state: "dead" })).toBe(1);
    expect(await tasks.count({ source: "nobody" })).toBe(0);
    expect(await tasks.count({ state: "waiting", target: "ada" })).toBe(1_499 - done);
    expect(await tasks.count({ state: "delayed", target: "ada" })).toBe(1);
    // Without an index the whole can be counted all the same.
    const plain = broker.queue(lane.unique("tasks"));
    await plain.publishMany(numbersTo(5));
    expect(await plain.count()).toBe(5);
  });

  test("what is not indexed is not looked for: the error names the option", async () => {
    const broker = await lane.open();
    const plain = broker.queue(lane.unique("tasks"));
    await plain.publish(1);
    await expect(plain.list()).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("index"),
    });
    await expect(plain.count({ source: "a" })).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("index"),
    });
    const bySource = broker.queue(lane.unique("tasks"), { index: ["source"] });
    await bySource.publish(1, { source: "a", target: "ada" });
    expect((await bySource.list({ filter: { source: "a", state: "open" } })).items).toHaveLength(1);
    await expect(bySource.list({ filter: { target: "ada" } })).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining('"target"'),
    });
    // How a message stands with one recipient needs no index, and a name.
    expect((await plain.list({ filter: { state: "waiting", target: "ada" } })).items).toEqual([]);
    for (const filter of [{ state: "waiting" }, { state: "leased", target: "ada", source: "a" }] as const) {
      await expect(bySource.list({ filter })).rejects.toMatchObject({ code: "UNSUPPORTED" });
      await expect(bySource.count(filter)).rejects.toMatchObject({ code: "UNSUPPORTED" });
    }
    await expect(bySource.list({ filter: { acknowledged: true, state: "acked" } })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(bySource.list({ filter: { colour: "red" } as object })).rejects.toMatchObject({ code: "CONFIG" });
  });

  test("[C32] deleting removes every trace of a message; clearing wants its queue's name, and empties that alone", async () => {
    const broker = await lane.open();
    const [tasks, others] = [broker.queue(lane.unique("tasks"), RECORDED), broker.queue(lane.unique("tasks"))];
    await others.publish("another queue's");
    const { id } = await tasks.publish("gone", { source: "a", target: "ada" });
    expect(await tasks.delete(id)).toBe(true);
    expect(await tasks.delete(id)).toBe(false);
    expect(await tasks.get(id)).toBeUndefined();
    expect((await tasks.pending("ada")).items).toEqual([]);
    expect((await tasks.list({ filter: { source: "a" } })).items).toEqual([]);
    expect(await tasks.stats("ada")).toMatchObject({ waiting: 0 });
    await tasks.publishMany([1, 2, 3], { target: "ada" });
    await tasks.publish("parked", { target: "bob", id: "own" });
    await settleOne(tasks, "bob", park);
    await settleOne(tasks, "ada");
    for (const options of [undefined, {}, { confirm: "" }, { confirm: others.name }, { confirm: true }])
      await expect(tasks.clear(options as never)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(`"${tasks.name}"`),
      });
    // Two that wait, two that are finished.
    expect(await tasks.clear({ confirm: tasks.name })).toBe(4);
    expect(await tasks.count()).toBe(0);
    expect((await tasks.list()).items).toEqual([]);
    expect(await collect(tasks.deadLetters("bob"))).toEqual([]);
    expect((await collect(tasks.recipients())).map(({ recipient }) => recipient)).toEqual(["bob", "ada"]);
    // Also what it remembers of ids.
    expect(await tasks.publish("again", { id: "own" })).toMatchObject({ duplicate: false });
    expect(await others.count()).toBe(1);
  });

  test("[C15] a namespace separates everything, clearing included", async () => {
    const name = lane.unique("tasks");
    const [here, there] = [
      (await lane.open({ namespace: `${name}-here` })).queue(name, RECORDED),
      (await lane.open({ namespace: `${name}-there` })).queue(name, RECORDED),
    ];
    const { id } = await here.publish("mine", { id: "same", source: "a", target: "ada" });
    expect(await there.publish("theirs", { id: "same", source: "a", target: "ada" })).toMatchObject({
      duplicate: false,
    });
    await here.register("eve");
    await here.pause("ada");
    expect(await collect(there.recipients())).toEqual([]);
    expect(await there.stats("ada")).toMatchObject({ paused: false, waiting: 1 });
    expect(await there.acknowledge(id, { recipient: "ada" })).toBe(true);
    expect(await here.get(id)).toMatchObject({ data: "mine", acknowledged: false });
    expect(await there.clear({ confirm: name })).toBe(1);
    expect(await here.count()).toBe(1);
    expect(dataOf((await here.list({ filter: { source: "a" } })).items)).toEqual(["mine"]);
  });

  test("[C44] the seven basic operations from start to end: open, publish, retrieve, pending, acknowledge, delete, clear", async () => {
    const broker = await lane.open();
    const queue = broker.queue(lane.unique("agent_communication"), RECORDED);
    expect(await broker.ping()).toBeGreaterThanOrEqual(0);
    for (const agent of ["agent_1", "agent_2"]) await queue.register(agent);
    const targeted = await queue.publish(
      { task: "process_data" },
      { source: "agent_1", target: "agent_2", priority: 10 },
    );
    const broadcast = await queue.publish({ type: "system_update" }, { source: "system", audience: "registered" });
    expect(await queue.get(targeted.id)).toMatchObject({ data: { task: "process_data" }, priority: 10 });
    expect((await queue.pending("agent_2")).items.map(({ id }) => id)).toEqual([targeted.id, broadcast.id]);
    expect((await queue.pending("agent_1")).items.map(({ id }) => id)).toEqual([broadcast.id]);
    expect(await queue.acknowledge(targeted.id, { recipient: "agent_2" })).toBe(true);
    expect((await queue.pending("agent_2")).items.map(({ id }) => id)).toEqual([broadcast.id]);
    expect(await queue.delete(broadcast.id)).toBe(true);
    expect((await queue.pending("agent_1")).items).toEqual([]);
    expect(await queue.clear({ confirm: queue.name })).toBe(1);
    expect(await queue.count()).toBe(0);
  });

  test("[C49] why a message did not come: not expired, for somebody else, acknowledged already, in another queue", async () => {
    const broker = await lane.open();
    const [tasks, results] = [broker.queue(lane.unique("tasks"), RECORDED), broker.queue(lane.unique("results"))];
    // Did it expire?
    const expired = await tasks.publish("short", { target: "ada", ttlMs: 1 });
    await until(async () => (await tasks.explain(expired.id)).expired);
    expect(await tasks.explain(expired.id, { recipient: "ada" })).toMatchObject({
      found: true,
      expired: true,
      acknowledged: false,
      summary: expect.stringMatching(/expired at \d{4}-.*before "ada" had finished it/),
    });
    // Is it for whoever waits for it?
    const { id } = await tasks.publish("for Ada", { source: "planner", target: "ada" });
    expect(await tasks.explain(id, { recipient: "bob" })).toMatchObject({
      found: true,
      target: "ada",
      matchesRecipient: false,
      expired: false,
      acknowledged: false,
      summary: `"${id}" is in the queue "${tasks.name}": it is for "ada", and not for "bob"`,
    });
    expect(await tasks.explain(id, { recipient: "ada" })).toMatchObject({
      matchesRecipient: true,
      paused: false,
      summary: expect.stringContaining('is ready for "ada"'),
    });
    // Was it acknowledged already?
    await tasks.acknowledge(id, { recipient: "ada" });
    expect(await tasks.explain(id)).toMatchObject({
      found: true,
      acknowledged: true,
      summary: expect.stringMatching(/was acknowledged by "ada" at \d{4}-/),
    });
    // Is it in another queue?
    const elsewhere = await results.publish("elsewhere");
    expect(await tasks.explain(elsewhere.id)).toMatchObject({
      found: false,
      channel: tasks.name,
      foundIn: [results.name],
      summary: expect.stringContaining(`but in "${results.name}"`),
    });
    expect(await tasks.explain("unknown")).toMatchObject({
      found: false,
      foundIn: [],
      summary: expect.stringContaining("keepAckedMs"),
    });
  });

  test("[C49] and: held until then, delayed, paused, parked, one of several", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const delayed = await tasks.publish("later", { target: "ada", delayMs: 60_000 });
    const told = await tasks.explain(delayed.id);
    expect(told).toMatchObject({
      found: true,
      target: "ada",
      leasedUntil: undefined,
      summary: expect.stringContaining("not delivered before"),
    });
    expect(told.delayedUntil).toBeGreaterThan((await tasks.get(delayed.id))!.createdAt + 59_000);
    await tasks.pause("ada");
    expect(await tasks.explain(delayed.id)).toMatchObject({
      paused: true,
      summary: expect.stringContaining("is paused"),
    });
    await tasks.resume("ada");
    const { id } = await tasks.publish("held", { target: "bob" });
    const deliveries = tasks.deliveries({ as: "bob", leaseMs: 30_000 });
    const { value: delivery } = await deliveries.next();
    const held = await tasks.explain(id);
    expect(held).toMatchObject({ summary: expect.stringContaining('is held by a consumer of "bob" until') });
    expect(held.leasedUntil).toBeGreaterThan((await tasks.get(id))!.createdAt);
    await delivery!.deadLetter("no good");
    await deliveries.close();
    expect(await tasks.explain(id, { recipient: "bob" })).toMatchObject({
      dead: true,
      acknowledged: false,
      summary: expect.stringContaining('is a dead letter of "bob"'),
    });
    await tasks.register("ada");
    const all = await tasks.publish("to all", { audience: "registered" });
    expect(await tasks.explain(all.id)).toMatchObject({
      found: true,
      matchesRecipient: undefined,
      recipients: expect.objectContaining({ length: 2 }),
      summary: expect.stringContaining("for several"),
    });
    expect(await tasks.explain(all.id, { recipient: "ada" })).toMatchObject({ matchesRecipient: true });
    // Who has finished it, and who was never meant, cannot be told apart without a record.
    await tasks.acknowledge(all.id, { recipient: "ada" });
    expect(await tasks.explain(all.id, { recipient: "ada" })).toMatchObject({
      matchesRecipient: undefined,
      acknowledged: false,
      summary: expect.stringContaining('"ada" has finished it, or was not registered'),
    });
    const shared = await tasks.publish("anyone's");
    expect(await tasks.explain(shared.id, { recipient: "ada" })).toMatchObject({
      target: undefined,
      matchesRecipient: false,
      summary: expect.stringContaining("it is for whoever consumes the queue, and not for"),
    });
    await expect(tasks.explain(all.id, { recipient: "" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("an abort gives up waiting, and calls take plain options alone", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const signal = AbortSignal.abort(new Error("enough"));
    for (const use of [
      () => tasks.pending(undefined, { signal }),
      () => tasks.get("1", { signal }),
      () => tasks.list({ signal }),
      () => tasks.count({}, { signal }),
      () => tasks.acknowledge("1", { signal }),
      () => tasks.delete("1", { signal }),
      () => tasks.clear({ confirm: tasks.name, signal }),
      () => tasks.explain("1", { signal }),
      () => tasks.register("ada", { signal }),
      () => tasks.unregister("ada", { signal }),
      () => collect(tasks.recipients({ signal })),
      () => tasks.pause(undefined, { signal }),
      () => tasks.resume(undefined, { signal }),
      () => tasks.stats(undefined, { signal }),
      () => tasks.request(1, { signal }),
      () => tasks.publish(1, { signal }),
    ])
      await expect(use(), use.toString()).rejects.toThrow("enough");
    for (const use of [
      () => tasks.get("1", { recipient: "ada" } as object),
      () => tasks.acknowledge("1", { recipient: "ada", id: "1" } as object),
      () => tasks.register("ada", { ttlMs: 5 }),
      () => tasks.stats("ada", { all: true } as object),
    ])
      await expect(use(), use.toString()).rejects.toMatchObject({ code: "CONFIG" });
    await expect(tasks.register("{fanout}:1")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(tasks.acknowledgeMany(["a", 5 as never])).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(tasks.acknowledgeMany(Array<string>(50_001).fill("a"))).rejects.toMatchObject({ code: "LIMIT" });
  });
});

test("records stay for as long as they are kept, and the first that were finished go first", async () => {
  const clock = createFakeClock();
  await using broker = await connect("memory:", { clock, logger: silentLogger });
  const tasks = broker.queue("tasks", { keepAckedMs: 60_000, maxRecords: 2, index: [] });
  const ids = (await tasks.publishMany([1, 2, 3])).map(({ id }) => id);
  for (const id of ids) {
    await tasks.acknowledge(id);
    await clock.advance(1_000);
  }
  expect(dataOf((await tasks.list({ filter: { acknowledged: true } })).items)).toEqual([3, 2]);
  await clock.advance(59_000);
  expect(await tasks.count()).toBe(0);
});
