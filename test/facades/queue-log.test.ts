/** What a queue tells the log: the names that its operators know, stable fields, and never a payload. */

import { expect, test } from "vitest";
import { connect, type Logger } from "../../src/index.js";
import { until } from "../support/wait.js";
import { onEveryBackend, recordingLogger } from "./support/lanes.js";

type Entries = ReturnType<typeof recordingLogger>["entries"];

/** The fields of the entries of one event, without it. */
function told(entries: Entries, event: string): Record<string, unknown>[] {
  return entries.flatMap(({ fields: { event: name, ...fields } }) => (name === event ? [fields] : []));
}

const SECRET = "the payload is nobody's business";

onEveryBackend("the log of a queue", (lane) => {
  test("[C41] [C43] tells of each message that is published, with its id, source, target and priority, and of none of its data", async () => {
    const { logger, entries } = recordingLogger();
    const broker = await lane.open({ logger });
    const tasks = broker.queue(lane.unique("tasks"));
    const options = { source: "agent_1", target: "agent_2", priority: 10, headers: { note: SECRET } };
    const { id } = await tasks.publish({ text: SECRET }, options);
    const many = await tasks.publishMany([SECRET, SECRET]);
    expect(told(entries, "message_published")).toEqual([
      { channel: tasks.name, message_id: id, source: "agent_1", target: "agent_2", priority: 10 },
      ...many.map((receipt) => ({ channel: tasks.name, message_id: receipt.id, source: "signalbox", priority: 0 })),
    ]);
    await tasks.pending("agent_2");
    expect(told(entries, "pending_messages_retrieved")).toEqual([{ channel: tasks.name, reader: "agent_2", count: 1 }]);
    await tasks.acknowledge(id, { recipient: "agent_2" });
    expect(told(entries, "message_acknowledged")).toEqual([
      { channel: tasks.name, reader: "agent_2", count: 1, message_id: id },
    ]);
    await tasks.clear({ confirm: tasks.name });
    expect(told(entries, "messages_cleared")).toEqual([{ channel: tasks.name, count: 2 }]);
    expect(JSON.stringify(entries)).not.toContain(SECRET);
    // Messages one by one are debug, what an operator does is info.
    const levels = new Map(entries.map(({ level, fields }) => [fields["event"], level]));
    expect(Object.fromEntries(levels)).toMatchObject({
      message_published: "debug",
      message_acknowledged: "debug",
      pending_messages_retrieved: "debug",
      messages_cleared: "info",
    });
  });

  test("[C42] tells of consumers that begin and end, and of what is not there or cannot be done", async () => {
    const { logger, entries } = recordingLogger();
    const broker = await lane.open({ logger, onError: () => undefined });
    const tasks = broker.queue(lane.unique("tasks"), { maxItems: 1 });
    const sub = await tasks.subscribe({ as: "ada" }, () => undefined);
    await sub.close();
    expect(told(entries, "subscribing_to_channel")).toEqual([{ channel: tasks.name, reader: "ada" }]);
    expect(told(entries, "unsubscribed_from_channel")).toEqual([{ channel: tasks.name, reader: "ada" }]);
    await tasks.acknowledgeMany(["gone", "never"], { recipient: "ada" });
    expect(told(entries, "message_not_found")).toEqual([
      { channel: tasks.name, reader: "ada", message_id: "gone" },
      { channel: tasks.name, reader: "ada", message_id: "never" },
    ]);
    await tasks.publish(1);
    await expect(tasks.publish(2)).rejects.toMatchObject({ code: "LIMIT" });
    expect(told(entries, "message_publish_failed")).toMatchObject([
      { channel: tasks.name, count: 1, err: { code: "LIMIT" } },
    ]);
    // Mistakes of the caller's are told to the caller alone.
    await expect(tasks.list()).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await expect(tasks.get("")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(entries.filter(({ fields }) => String(fields["event"]).endsWith("_failed"))).toHaveLength(1);
  });

  test("[C43] takes whatever logger fits pino's shape, and says nothing of single messages where nobody reads it", async () => {
    const lines: [string, Record<string, unknown>][] = [];
    class Pino implements Logger {
      readonly level = "info";
      isLevelEnabled(level: string): boolean {
        return level !== "debug" && this.level === "info";
      }
      debug(fields: object): void {
        this.#write("debug", fields);
      }
      info(fields: object): void {
        this.#write("info", fields);
      }
      warn(fields: object): void {
        this.#write("warn", fields);
      }
      error(fields: object): void {
        this.#write("error", fields);
      }
      #write(level: string, fields: object): void {
        lines.push([level, { ...fields }]);
      }
    }
    const broker = await lane.open({ logger: new Pino() });
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publish(1);
    await tasks.acknowledge("unknown");
    await until(() => lines.some(([, { event }]) => event === "message_not_found"));
    expect(lines.filter(([, { event }]) => event === "message_published")).toEqual([]);
  });

  test("a logger whose level cannot be asked is asked to write, and one that throws takes no message with it", async () => {
    const broken: Logger = {
      ...recordingLogger().logger,
      debug() {
        throw new Error("the disk is full");
      },
      isLevelEnabled() {
        throw new Error("no idea");
      },
    };
    const broker = await lane.open({ logger: broken });
    const written: string[] = [];
    const write = process.stderr.write;
    process.stderr.write = (chunk: string) => written.push(chunk) > 0;
    try {
      await broker.queue(lane.unique("tasks")).publish(1);
    } finally {
      process.stderr.write = write;
    }
    expect(written.join("")).toContain("the logger threw");
  });
});

test("an acknowledgement and a reading that fail are told under their own names", async () => {
  const { logger, entries } = recordingLogger();
  const broker = await connect("memory:", { logger });
  const tasks = broker.queue("tasks");
  await broker.close();
  // Closed by its owner: that is no failure of the store.
  await expect(tasks.get("1")).rejects.toMatchObject({ code: "CLOSED" });
  expect(told(entries, "get_message_failed")).toEqual([]);
});
