/** Everything that can be seen of a queue, held against a model of it. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ContractStore } from "./contract.js";
import {
  comesBefore,
  type ModelItem,
  type ModelShare,
  type Moment,
  type QueueModel,
  recordStatesOf,
  standingsOf,
  surely,
} from "./queue-model.js";
import { idsOf, type TestQueue } from "./test-queue.js";

/** What a call came to, and when by the store's clock. */
export async function timed<T>(store: ContractStore, call: () => Promise<T>): Promise<readonly [T, Moment]> {
  const from = await store.now();
  const result = await call();
  return [result, { from, to: await store.now() }];
}

/** The stats and the pages of one recipient. */
export async function checkRecipient(
  store: ContractStore,
  work: TestQueue,
  model: QueueModel,
  name: string,
): Promise<void> {
  const [[stats, shown], at] = await timed(store, async () => {
    const items = await work.browse(name, undefined, 1_000);
    return [await work.stats(name), idsOf(items)] as const;
  });
  model.settleExpired(at);
  const { isPaused, dead, expired } = model.recipient(name);
  const shares = model.open(name);
  for (const standing of ["waiting", "delayed", "leased"] as const) {
    const least = shares.filter((share) => surely(share, standing, at)).length;
    const most = shares.filter((share) => standingsOf(share, at).has(standing)).length;
    expectBetween(stats[standing], least, most, `${standing} for "${name}"`);
  }
  deepEqual([stats.paused, stats.dead, stats.dropped], [isPaused, dead.length, 0]);
  const most = expired.to + shares.filter((share) => standingsOf(share, at).has("expired")).length;
  expectBetween(stats.expired, expired.from, most, `expired for "${name}"`);
  checkShown(shares, shown, at);
}

/** What is shown is what there is, and in order. */
function checkShown(shares: readonly ModelShare[], shown: readonly string[], at: Moment): void {
  equal(new Set(shown).size, shown.length, "nothing is shown twice");
  const places = new Map(shown.map((id, index) => [id, index]));
  for (const share of shares) {
    if (!standingsOf(share, at).has("expired")) ok(places.has(share.item.id), `${share.item.id} is shown`);
  }
  const known = new Set(shares.map((share) => share.item.id));
  deepEqual(
    shown.filter((id) => !known.has(id)),
    [],
    "nothing else is shown",
  );
  const placeOf = (share: ModelShare): number => places.get(share.item.id) ?? -1;
  const ready = shares.filter((share) => surely(share, "waiting", at));
  const others = shares.filter((share) => surely(share, "delayed", at) || surely(share, "leased", at));
  for (const share of ready) {
    for (const other of ready) if (comesBefore(share, other)) ok(placeOf(share) < placeOf(other), "in order");
    for (const other of others) ok(placeOf(share) < placeOf(other), "what is ready comes first");
  }
}

/** The items and records of the whole queue. */
export async function checkItems(store: ContractStore, work: TestQueue, model: QueueModel): Promise<void> {
  const [count, at] = await timed(store, () => work.queue.count(work.name, {}));
  const items = [...model.items.values()];
  const surelyThere = items.filter(({ id }) => model.isHeld(id, at) === true);
  const perhapsThere = items.filter(({ id }) => model.isHeld(id, at) !== false);
  expectBetween(count, surelyThere.length, perhapsThere.length, "items and records");
  if (model.keepsRecords) await checkRecords(store, work, items);
}

async function checkRecords(store: ContractStore, work: TestQueue, items: readonly ModelItem[]): Promise<void> {
  const listed = await work.list();
  deepEqual(idsOf(listed).toSorted(), idsOf(items).toSorted(), "what is listed is what there is");
  const places = new Map(idsOf(listed).map((id, index) => [id, index]));
  const byAge = items.filter(({ age }) => age !== undefined).toSorted((a, b) => (b.age ?? 0) - (a.age ?? 0));
  deepEqual(
    idsOf(byAge),
    idsOf(byAge.toSorted((a, b) => (places.get(a.id) ?? 0) - (places.get(b.id) ?? 0))),
    "the newest first",
  );
  for (const kind of new Set(items.map((item) => item.kind))) {
    if (kind === "") continue;
    const count = await work.queue.count(work.name, { fields: { kind } });
    equal(count, items.filter((item) => item.kind === kind).length, kind);
  }
  for (const state of ["open", "acked", "dead", "expired"] as const) {
    const [count, at] = await timed(store, () => work.queue.count(work.name, { state }));
    const possible = items.filter((item) => recordStatesOf(item, at).has(state));
    const certain = possible.filter((item) => recordStatesOf(item, at).size === 1);
    expectBetween(count, certain.length, possible.length, `${state} ones`);
  }
}

function expectBetween(count: number, least: number, most: number, what: string): void {
  ok(count >= least && count <= most, `${count} ${what}, and ${least} to ${most} expected`);
}
