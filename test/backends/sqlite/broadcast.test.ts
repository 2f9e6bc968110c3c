/** Broadcasts between processes, beyond what the contract asks: what is written, what is missed, who is taken for dead. */

import { expect, test } from "vitest";
import type { Backend } from "../../../src/core/backend.js";
import { textOf } from "../../../src/core/bytes.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { until } from "../../support/wait.js";
import { connect, newPath, open } from "./opening.js";

interface Ear {
  readonly heard: string[];
  readonly gaps: string[];
}

async function listen(backend: Backend): Promise<Ear> {
  const ear: Ear = { heard: [], gaps: [] };
  await backend.broadcast.subscribe(
    { channel: "c" },
    {
      message: (_channel, data) => void ear.heard.push(textOf(data)),
      gap: (reason) => void ear.gaps.push(reason),
    },
  );
  return ear;
}

function say(backend: Backend, text: string): Promise<readonly number[]> {
  return backend.broadcast.publish([{ channel: "c", data: text }]);
}

function insert(id: string, text: string): string {
  return `INSERT INTO sb1_broadcasts (id, namespace, origin, channel, data, at, bytes_before)
    VALUES (${id}, 'test', 'somebody', 'c', CAST('${text}' AS BLOB), 0, 0)`;
}

test("what only this process hears is heard at once and never written", async () => {
  const path = newPath();
  const { backend } = await open({ path }, { clock: createFakeClock() });
  const ear = await listen(backend);
  expect(await say(backend, "a")).toEqual([1]);
  expect(ear.heard).toEqual(["a"]);
  const other = await connect(path);
  expect(other.prepare("SELECT count(*) AS count FROM sb1_broadcasts").get()).toEqual({ count: 0 });
});

test("the count tells how many backends listen to the channel", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const [one, two, three] = await Promise.all([1, 2, 3].map(async () => (await open({ path }, { clock })).backend));
  await listen(one!);
  await listen(two!);
  expect(await say(one!, "a")).toEqual([2]);
  expect(await say(three!, "b")).toEqual([2]);
  await two!.close();
  expect(await say(three!, "c")).toEqual([1]);
});

test("messages that were removed before they could be read are told of as a gap", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { backend } = await open({ path }, { clock });
  const ear = await listen(backend);
  const other = await connect(path);
  other.exec(insert("1", "read"));
  other.exec(insert("5", "behind the gap"));
  await clock.advance(1_000);
  expect(ear.heard).toEqual(["read", "behind the gap"]);
  expect(ear.gaps).toEqual(["3 messages were removed before this process came to read them"]);
});

test("old messages are removed as new ones come, and the newest stays", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const [one, two] = await Promise.all([1, 2].map(async () => (await open({ path }, { clock })).backend));
  const ear = await listen(one!);
  for (let count = 0; count < 20; count += 1) await say(two!, String(count));
  await clock.advance(61_000);
  await say(two!, "newest");
  await clock.advance(1_000);
  expect(ear).toEqual({ heard: [...Array.from({ length: 20 }, (_, count) => String(count)), "newest"], gaps: [] });
  const other = await connect(path);
  expect(other.prepare("SELECT count(*) AS count FROM sb1_broadcasts").get()).toEqual({ count: 1 });
});

test("a backend that died without a word is forgotten after a minute, and nothing is written for it any more", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { backend } = await open({ path }, { clock });
  const other = await connect(path);
  other.exec(`INSERT INTO sb1_backends VALUES ('dead', ${clock.now()});
    INSERT INTO sb1_listeners VALUES ('test', 'dead', 0, 'c');
    UPDATE sb1_versions SET version = version + 1`);
  expect(await say(backend, "a")).toEqual([1]);
  await clock.advance(61_000);
  await say(backend, "b");
  expect(await say(backend, "c")).toEqual([0]);
});

test("a backend that was silent too long is told of a gap, and hears again", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const [one, two] = await Promise.all([1, 2].map(async () => (await open({ path }, { clock })).backend));
  const ear = await listen(one!);
  const other = await connect(path);
  other.exec("DELETE FROM sb1_backends; DELETE FROM sb1_listeners; UPDATE sb1_versions SET version = version + 1");
  expect(await say(two!, "unheard")).toEqual([0]);
  await clock.advance(15_000);
  expect(ear.gaps).toEqual([expect.stringContaining("silent")]);
  expect(await say(two!, "heard")).toEqual([1]);
  await until(() => ear.heard.length > 0);
  expect(ear.heard).toEqual(["heard"]);
});
