/** Several processes on one file: they share groups and recipients, and hear each other, at full speed. */

import { afterEach, expect, test } from "vitest";
import { type Child, runChild } from "../../support/children.js";
import { until } from "../../support/wait.js";
import { connect, GROUP, newPath, open } from "./opening.js";

const NAMES = ["one", "two", "three"];
const EACH = 600;

const running: Child[] = [];
afterEach(() => Promise.all(running.splice(0).map((child) => child.stop())));

function started(child: Child): Child {
  running.push(child);
  return child;
}

function said(children: readonly Child[], key: string): unknown[] {
  return children.flatMap(({ messages }) =>
    messages.filter((message) => key in message).map((message) => message[key]),
  );
}

test("processes that publish and consume at the same time share everything, without duplicates or losses", async () => {
  const path = newPath();
  const { backend } = await open({ path });
  await backend.log.createGroup("s", "g", GROUP);
  const script = new URL("./sharing-child.ts", import.meta.url);
  const children = NAMES.map((name) => started(runChild(script, { args: [path, name] })));
  for (const child of children) await child.next((message) => "ready" in message);
  for (const child of children) child.send({ start: true });
  const all = NAMES.length * EACH;
  const done = (): boolean => said(children, "entry").length >= all && said(children, "item").length >= all;
  await until(done, { deadlineMs: 40_000, everyMs: 50, what: "all deliveries" });
  await until(() => said(children, "heard").length >= all, { what: "all broadcasts" });

  const expected = NAMES.flatMap((name) => Array.from({ length: EACH }, (_, index) => `${name}-${index}`)).sort();
  expect(said(children, "entry").map(String).sort()).toEqual(expected);
  expect(said(children, "item").map(String).sort()).toEqual(expected);
  expect(new Set(said(children, "attempt"))).toEqual(new Set([1]));
  expect(said(children, "reported")).toEqual([]);
  for (const child of children) {
    expect(said([child], "entry").length).toBeGreaterThan(0);
    // Everybody hears everybody, each in the order it was said.
    for (const name of NAMES) {
      const heard = said([child], "heard").filter((text) => String(text).startsWith(`${name} `));
      expect(heard).toEqual(Array.from({ length: EACH / 3 }, (_, index) => `${name} ${index * 3}`));
    }
  }
  await until(async () => (await backend.log.stats("s")).groups[0]?.pending === 0, { what: "all to be settled" });
  expect((await connect(path)).prepare("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
}, 60_000);
