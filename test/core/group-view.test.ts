/** Watching a group for several listeners at once. */

import { expect, onTestFinished, test } from "vitest";
import { openMemory } from "../../src/backends/memory/index.js";
import { systemClock } from "../../src/core/clock.js";
import { encodeNews, newsChannel } from "../../src/core/group-news.js";
import { GroupView } from "../../src/core/group-view.js";
import { until } from "../support/wait.js";

const GROUP = "presence:lobby";

test("a listener that throws is reported, and the others hear of every change", async () => {
  const { membership, broadcast } = await openMemory(
    {},
    { namespace: "n", clock: systemClock, report: () => undefined },
  );
  const reports: unknown[] = [];
  const events = { changed: () => undefined, listed: () => undefined, counted: () => undefined };
  const report = (error: unknown, where: string): void => void reports.push([error, where]);
  const view = new GroupView({ group: GROUP, membership, broadcast, clock: systemClock, report, events });
  onTestFinished(() => view.close());
  const failure = new Error("cannot listen");
  await view.add({
    changed() {
      throw failure;
    },
  });
  const heard: string[] = [];
  await view.add({ changed: (changes) => void heard.push(...changes.map(({ member }) => member.id)) });
  await membership.begin("holder", 60_000);
  for (const id of ["ada", "bob"]) {
    const change = await membership.join(GROUP, "holder", [{ id, meta: "null", connections: 1 }], { maxMembers: 10 });
    if (change === "lapsed") throw new Error("the holder has lapsed");
    await broadcast.publish(encodeNews(change).map((data) => ({ channel: newsChannel(GROUP), data })));
  }
  await until(() => heard.length === 2);
  expect(heard).toEqual(["ada", "bob"]);
  expect(reports).toEqual(["ada", "bob"].map(() => [failure, "telling who watches lobby"]));
});
