/** Dead letters of pub/sub, its metrics and its log, the same on every backend. */

import { expect, test } from "vitest";
import { z } from "zod";
import { type Broker, deadLetter, defineContract, type Metric } from "../../src/index.js";
import { until } from "../support/wait.js";
import { byText, collect, onEveryBackend, recordingLogger } from "./support/lanes.js";

const contract = defineContract({
  channels: { "user.{id}": z.string(), "user.{id}.mail": z.string(), notifications: z.string() },
});

const CHANNELS = /^pubsub\.|^messaging\.client\.sent/;

function metricsOf(broker: Pick<Broker, "metrics">): Metric[] {
  return broker.metrics().filter(({ name }) => CHANNELS.test(name));
}

onEveryBackend("pub/sub letters and figures", (lane) => {
  test("what a handler parks is kept under its template, with its reason, and can be looked at from anywhere", async () => {
    const [here, there] = [await lane.open({ contract }), await lane.open({ contract })];
    const subscription = await here.pubsub.subscribe("user.{id}", { name: "mailer" }, (text, { attempt, params }) =>
      deadLetter(`${params.id} cannot take ${text} at attempt ${attempt}`),
    );
    const before = Date.now();
    const { id } = await there.pubsub.publish("user.7", "hello", { headers: { a: "b" } });
    await there.pubsub.publish("user.8", "you");
    await until(() => subscription.stats().failed === 2);
    const kept = await collect(there.pubsub.deadLetters("user.{id}"));
    expect(kept).toMatchObject([
      {
        channel: "user.7",
        attempts: 1,
        consumer: "mailer",
        reason: { kind: "rejected", message: "7 cannot take hello at attempt 1" },
        message: { id, channel: "user.7", data: "hello", headers: { a: "b" } },
      },
      { channel: "user.8", message: { data: "you" } },
    ]);
    expect(kept[0]?.at).toBeGreaterThanOrEqual(before - 5_000);
    expect(Buffer.from(kept[0]?.raw ?? []).toString()).toBe('"hello"');
    // A name of the template leads to the same letters, another template to its own.
    expect(await there.pubsub.inspect("user.9", kept[1]?.id ?? "")).toEqual(kept[1]);
    expect(await there.pubsub.inspect("user.9", "0-0")).toBeUndefined();
    expect(await collect(there.pubsub.deadLetters("user.{id}.mail"))).toEqual([]);
    expect(await there.pubsub.purge("user.{id}", { ids: [kept[0]?.id ?? ""] })).toBe(1);
    expect(await there.pubsub.purge("user.{id}")).toBe(1);
    expect(await there.pubsub.purge("user.{id}")).toBe(0);
  });

  test("redriving publishes again, with the same id, to whoever listens by then", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const prefix = lane.unique("p");
    let isMended = false;
    const seen: string[] = [];
    const options = { dedupe: true } as const;
    await here.pubsub.subscribe(`${prefix}.*`, options, (data, { channel, message }) =>
      isMended ? void seen.push(`${channel} ${String(data)} ${message.id}`) : deadLetter("not today"),
    );
    const receipts = await there.pubsub.publishMany(`${prefix}.a`, ["one", "two"]);
    const { id } = await there.pubsub.publish(`${prefix}.b`, "three");
    await until(async () => (await collect(here.pubsub.deadLetters(`${prefix}.*`))).length === 3);
    isMended = true;
    expect(await there.pubsub.redrive(`${prefix}.*`, { max: 1 })).toBe(1);
    expect(await there.pubsub.redrive(`${prefix}.*`)).toBe(2);
    expect(await there.pubsub.redrive(`${prefix}.*`)).toBe(0);
    await until(() => seen.length === 3);
    expect(seen.toSorted()).toEqual([
      `${prefix}.a one ${receipts[0]?.id}`,
      `${prefix}.a two ${receipts[1]?.id}`,
      `${prefix}.b three ${id}`,
    ]);
  });

  test("letters of sharded channels are their own", async () => {
    const broker = await lane.open();
    const name = lane.unique("shard");
    let isMended = false;
    const seen: unknown[] = [];
    await broker.pubsub.subscribe(name, { sharded: true }, (data) =>
      isMended ? void seen.push(data) : deadLetter("not today"),
    );
    await broker.pubsub.publish(name, 1, { sharded: true });
    await until(async () => (await collect(broker.pubsub.deadLetters(name, { sharded: true }))).length === 1);
    expect(await collect(broker.pubsub.deadLetters(name))).toEqual([]);
    isMended = true;
    expect(await broker.pubsub.redrive(name, { sharded: true })).toBe(1);
    await until(() => seen.length === 1);
  });

  test("letters are kept where no stream of events is, and those of sharded channels apart from all others", async () => {
    const broker = await lane.open();
    const name = lane.unique("shard");
    const park = (): unknown => deadLetter("not today");
    await broker.pubsub.subscribe(name, { sharded: true }, park);
    await broker.pubsub.publish(name, 1, { sharded: true });
    await broker.pubsub.subscribe(`sharded.${name}`, park);
    await broker.pubsub.publish(`sharded.${name}`, 2);
    const letters = async () => [
      (await collect(broker.pubsub.deadLetters(name, { sharded: true }))).map(({ message }) => message?.data),
      (await collect(broker.pubsub.deadLetters(`sharded.${name}`))).map(({ message }) => message?.data),
    ];
    await until(async () => (await letters()).flat().length >= 2);
    expect(await letters()).toEqual([[1], [2]]);
    for (const type of [`dead.sharded.${name}`, `dead.${name}`])
      expect((await broker.events.stats(type)).groups).toEqual([]);
  });

  test("[D31] metrics carry the template and never an id: published, delivered, dropped, subscribers, durations", async () => {
    const [here, there] = [await lane.open({ contract }), await lane.open({ contract })];
    let isHeld = true;
    let release: (() => void) | undefined;
    const options = { concurrency: 1, buffer: 0, name: "slow" } as const;
    const subscription = await here.pubsub.subscribe("user.{id}", options, async () => {
      if (isHeld) await new Promise<void>((resolve) => void (release = resolve));
    });
    await here.pubsub.subscribe("user.4711", { name: "exact" }, () => undefined);
    for (const id of ["4711", "4712", "4713"]) await there.pubsub.publish(`user.${id}`, "secret-4714");
    await until(() => subscription.stats().dropped === 2);
    isHeld = false;
    release?.();
    await until(() => subscription.stats().handled === 1);
    const metrics = [...metricsOf(here), ...metricsOf(there)];
    expect(JSON.stringify(metrics)).not.toMatch(/471\d/);
    const valueOf = (of: Metric[], name: string, labels: object): number =>
      of
        .filter((metric) => metric.name === name && JSON.stringify(metric.labels) === JSON.stringify(labels))
        .reduce((sum, metric) => sum + (metric.kind === "histogram" ? metric.count : metric.value), 0);
    const channel = "user.{id}";
    const [heard, said] = [metricsOf(here), metricsOf(there)];
    expect(valueOf(said, "pubsub.messages", { channel, type: "published" })).toBe(3);
    expect(valueOf(said, "messaging.client.sent.messages", { channel })).toBe(3);
    expect(valueOf(heard, "pubsub.messages", { channel, type: "delivered" })).toBe(2);
    expect(valueOf(heard, "pubsub.messages", { channel, type: "dropped" })).toBe(2);
    expect(valueOf(heard, "pubsub.subscribers", { channel })).toBe(2);
    expect(valueOf(heard, "pubsub.processing.duration", { channel, handler: "slow", result: "ok" })).toBe(1);
    await subscription.close();
    expect(valueOf(metricsOf(here), "pubsub.subscribers", { channel })).toBe(1);
  });

  test("[D31] without a contract the names of channels are no labels, as they may hold ids; patterns and templates are", async () => {
    const broker = await lane.open();
    const prefix = lane.unique("p");
    let seen = 0;
    for (const name of [`${prefix}.4711`, `${prefix}.*`, `${prefix}.{id}`])
      await broker.pubsub.subscribe(name, () => void (seen += 1));
    await broker.pubsub.publish(`${prefix}.4711`, 1);
    await until(() => seen === 3);
    const labels = new Set(metricsOf(broker).map((metric) => metric.labels["channel"]));
    expect([...labels].toSorted(byText)).toEqual(["*", `${prefix}.*`, `${prefix}.{id}`].toSorted(byText));
  });

  test("subscriptions, retries, dead letters and ends are logged, and messages that are published", async () => {
    const { logger, entries } = recordingLogger();
    const broker = await lane.open({ logger });
    const name = lane.unique("news");
    const options = { name: "mailer", retry: { initialMs: 1 } } as const;
    const subscription = await broker.pubsub.subscribe(name, options, (_, { attempt }) => {
      if (attempt === 1) throw new Error("not yet");
      return deadLetter("never");
    });
    const { id } = await broker.pubsub.publish(name, 1);
    await until(() => subscription.stats().failed === 1);
    await subscription.close();
    const of = { channel: name, reader: "mailer" };
    const logged = entries.map(({ fields }) => fields);
    expect(logged).toContainEqual({ event: "subscribing_to_channel", ...of });
    expect(logged).toContainEqual({ event: "message_published", channel: name, count: 1, id });
    expect(logged).toContainEqual(expect.objectContaining({ event: "message_retried", ...of, attempt: 1 }));
    expect(logged).toContainEqual(
      expect.objectContaining({ event: "message_dead_lettered", ...of, attempt: 2, kind: "rejected", reason: "never" }),
    );
    expect(logged).toContainEqual({ event: "unsubscribed_from_channel", ...of });
  });
});
