/** The reference pages list what the code has, no more and no less. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as signalbox from "signalbox";
import { expect, test } from "vitest";
import { readSources } from "../../scripts/source-scan.js";
import { openMemory } from "../../src/backends/memory/index.js";
import { codeRowsOf, readPage, root } from "./support/pages.js";

const unquoted = (cell: string | undefined): string => (cell ?? "").replaceAll("`", "");

/** The members of an interface, or of a union of strings, as they stand in a source file. */
function namesIn(file: string, declaration: RegExp, member: RegExp): string[] {
  const source = readFileSync(join(root, file), "utf8");
  const body = declaration.exec(source)?.[1];
  if (body === undefined) throw new Error(`${file} holds nothing that matches ${declaration}`);
  return [...body.matchAll(member)].map(([, name]) => name!);
}

test("[X9] one event-id list, stable, documented: docs/reference/log-events.md holds exactly the ids and levels of LOG_EVENTS", () => {
  const rows = codeRowsOf(readPage("docs/reference/log-events.md"));
  const documented = rows.map(([id, level]) => `${unquoted(id)} ${unquoted(level)}`);
  const known = Object.entries(signalbox.LOG_EVENTS).map(([id, { level }]) => `${id} ${level}`);
  expect(documented.toSorted()).toEqual(known.toSorted());
});

test("docs/reference/errors.md lists exactly the error classes and codes that there are", () => {
  const rows = codeRowsOf(readPage("docs/reference/errors.md"));
  const classes = Object.entries(signalbox)
    .filter(([, value]) => typeof value === "function" && value.prototype instanceof signalbox.SignalboxError)
    .map(([name]) => name);
  const codes = namesIn("src/core/errors.ts", /export type ErrorCode =([^;]*);/, /"([A-Z_]+)"/g);
  expect(rows.map(([name]) => unquoted(name)).toSorted()).toEqual(classes.toSorted());
  expect(rows.map(([, code]) => unquoted(code)).toSorted()).toEqual(codes.toSorted());
});

test("docs/reference/connect.md lists exactly the options of connect", () => {
  const options = namesIn(
    "src/connect-options.ts",
    /export interface ConnectOptions<[^{]*\{\n([\s\S]*?)\n\}/,
    /^ {2}readonly (\w+)\??:/gm,
  );
  const rows = codeRowsOf(readPage("docs/reference/connect.md")).map(([name]) => unquoted(name));
  expect(rows.filter((name) => !name.includes(":")).toSorted()).toEqual(options.toSorted());
});

/** The functions of an object, by name. */
function functionsOf(object: object): string[] {
  return Object.entries(object).flatMap(([name, value]) => (typeof value === "function" ? [name] : []));
}

test("docs/reference/connect.md lists exactly what a broker, its events, its groups and its queues can do", async () => {
  const { lines } = readPage("docs/reference/connect.md");
  const listed = new Map(lines.flatMap((line) => (line.startsWith("broker.") ? [split(line)] : [])));
  await using broker = await signalbox.connect("memory:");
  const parts = {
    "broker.pubsub": broker.pubsub,
    "broker.events": broker.events,
    "broker.events.group(type, name)": broker.events.group("type", "name"),
    "broker.queue(name, options?)": broker.queue("name"),
    "broker.presence(name, { maxMembers }?)": broker.presence("name"),
  };
  for (const [part, object] of Object.entries(parts))
    expect({ part, names: listed.get(part)?.split(", ").toSorted() }).toEqual({
      part,
      names: functionsOf(object).toSorted(),
    });
  const own = [...listed.keys()].map((member) => /^broker\.(\w+)/.exec(member)?.[1] ?? "");
  expect([...new Set(own)].toSorted()).toEqual(Object.keys(broker).toSorted());
});

/** `broker.ping()   round trip` → what is called, and what is said of it. */
function split(line: string): [string, string] {
  const [member = "", ...said] = line.split(/ {2,}/);
  return [member, said.join(" ").trim()];
}

test("docs/reference/queue.md lists exactly the options, the fields and the calls of a queue", async () => {
  const { lines } = readPage("docs/reference/queue.md");
  const section = (title: string): string[] => {
    const start = lines.indexOf(`## ${title}`);
    const end = lines.findIndex((line, index) => index > start && line.startsWith("## "));
    return lines.slice(start, end < 0 ? undefined : end);
  };
  const rowsOf = (title: string): string[] =>
    section(title)
      .filter((line) => line.startsWith("| `"))
      .flatMap((row) => [...(row.split("|")[1] ?? "").matchAll(/`(\w+)`/g)].map(([, name]) => name!));
  for (const [title, file, ...interfaces] of [
    ["Options", "src/queue/options.ts", "QueueOptions"],
    ["QueuedMessage", "src/queue/view.ts", "QueuedMessage<[^>]*>"],
    ["Explanation", "src/queue/explain.ts", "Explanation"],
  ] as const) {
    const declared = interfaces.flatMap((name) =>
      namesIn(file, new RegExp(`export interface ${name} \\{([\\s\\S]*?)\\n\\}`), /^ {2}readonly (\w+)\??:/gm),
    );
    expect({ title, listed: rowsOf(title).toSorted() }).toEqual({ title, listed: declared.toSorted() });
  }
  const publishing = ["Addressed", "PublishQueueOptions [^{]*"].flatMap((name) =>
    namesIn(
      "src/queue/publish.ts",
      new RegExp(`interface ${name}[^{]*\\{([\\s\\S]*?)\\n\\}`),
      /^ {2}readonly (\w+)\??:/gm,
    ),
  );
  const ofMessages = namesIn(
    "src/core/message.ts",
    /export interface MessageOptions \{([\s\S]*?)\n\}/,
    /^ {2}readonly (\w+)\??:/gm,
  );
  expect(rowsOf("Publishing").toSorted()).toEqual([...new Set([...publishing, ...ofMessages])].toSorted());
  await using broker = await signalbox.connect("memory:");
  const calls = section("Calls").flatMap((line) => [...line.matchAll(/(?:^|, )(\w+)\(/g)].map(([, name]) => name!));
  expect(calls.toSorted()).toEqual(functionsOf(broker.queue("name")).toSorted());
});

test("docs/reference/outcomes.md lists exactly the options of consuming", () => {
  const { lines } = readPage("docs/reference/outcomes.md");
  const rows = lines.slice(lines.indexOf("## Options of consuming")).filter((line) => line.startsWith("| `"));
  const listed = rows.flatMap((row) => [...(row.split("|")[1] ?? "").matchAll(/`(\w+)`/g)].map(([, name]) => name!));
  const declared = [
    ["src/core/consuming.ts", "ConsumeOptions", "HandlerOptions", "BatchOptions"],
    ["src/events/consume.ts", "ConsumeEventOptions"],
    ["src/queue/consume.ts", "ConsumeQueueOptions"],
  ].flatMap(([file = "", ...names]) =>
    names.flatMap((name) =>
      namesIn(file, new RegExp(`export interface ${name} [^{]*\\{([\\s\\S]*?)\\n\\}`), /^ {2}readonly (\w+)\??:/gm),
    ),
  );
  expect(listed.toSorted()).toEqual(declared.toSorted());
});

test("docs/guides/writing-a-backend.md lists exactly the members of the ports", async () => {
  const { lines } = readPage("docs/guides/writing-a-backend.md");
  const context = { namespace: "docs", clock: signalbox.systemClock, report: () => undefined };
  const backend = await openMemory({}, context);
  const settings = { leaseMs: 1_000, maxAttempts: 1, maxDeadLetters: 1, order: "none", maxHeld: 1 } as const;
  await backend.log.createGroup("stream", "group", { from: "new", ...settings });
  const ports = {
    Log: backend.log,
    Queue: backend.queue,
    Feed: await backend.log.open("stream", "group", "consumer"),
    DeadLetters: backend.log.deadLetters("stream", "group"),
    Broadcast: backend.broadcast,
    Membership: backend.membership,
  };
  for (const [port, object] of Object.entries(ports)) {
    const row = lines.find((line) => line.startsWith("| ") && line.includes(`\`${port}\``));
    const listed = [...(row?.split("|")[2] ?? "").matchAll(/`(\w+)`/g)].map(([, name]) => name!);
    expect({ port, listed: listed.toSorted() }).toEqual({ port, listed: functionsOf(object).toSorted() });
  }
  await backend.close();
});

test("docs/reference/metrics.md lists exactly the metrics that the code records", () => {
  const rows = codeRowsOf(readPage("docs/reference/metrics.md"))
    .map(([name]) => unquoted(name))
    .filter((name) => name.includes("."));
  const named = namesIn("src/core/telemetry.ts", /export const METRICS = \{([^}]*)\}/, /"([a-z.]+)"/g);
  const own = readSources(root, "src").flatMap(({ source }) => [...source.matchAll(/"(signalbox\.[a-z.]+)"/g)]);
  expect(rows.toSorted()).toEqual([...new Set([...named, ...own.map(([, name]) => name!)])].toSorted());
});
