/** What goes in comes out: payload bytes and header text, on every way through the store. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Backend, Bytes } from "../core/backend.js";
import { bytesOf } from "../core/bytes.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  allLetters,
  collect,
  collectOne,
  deadLetter,
  entry,
  first,
  GROUP,
  item,
  LIMITS,
  LONG_LEASE_MS,
  ROOMY,
  settled,
} from "./fixtures.js";
import { eventually } from "./waiting.js";

const EVERY_BYTE = Uint8Array.from({ length: 256 }, (_, index) => index);
/** Bytes in the middle of a larger buffer, as network reads give them. */
const A_PART = Uint8Array.from({ length: 64 }, (_, index) => 255 - index).subarray(10, 20);
const INVALID_UTF8 = Uint8Array.of(0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x80, 0x00, 0x0a, 0x0d);
const MEBIBYTE = Uint8Array.from({ length: 2 ** 20 }, (_, index) => (index * 31 + (index >> 8)) % 256);
const TEXT = "grüße, 世界 😀 \u0000 \u2028 \r\n \uFEFF e\u0301";

const PAYLOADS: readonly Bytes[] = [EVERY_BYTE, new Uint8Array(0), "", A_PART, INVALID_UTF8, TEXT, "plain", MEBIBYTE];

const HEADERS: readonly string[] = [
  "",
  "plain",
  TEXT.replace("\n", ""),
  '{"json":"\\n","quote":"\'"}',
  "\t\r\u0000\u001f\u007f\u0085",
  "%3A:%00/\\{}[]*?",
  "😀".repeat(16_384), // 64 KiB, the longest there is
];

/** What `bytes` must look like when it comes out: plain text of hexadecimal digits, as a difference in it can be read. */
function hex(bytes: Bytes): string {
  return Buffer.from(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes).toString("hex");
}

function expectBytes(got: readonly { readonly data: Uint8Array }[], given: readonly Bytes[]): void {
  equal(got.length, given.length);
  for (const [index, { data }] of got.entries()) {
    ok(data instanceof Uint8Array, "what comes out is always a Uint8Array");
    const [actual, expected] = [hex(data), hex(given[index] ?? "")];
    equal(data.length, expected.length / 2, `length of payload ${index}`);
    ok(actual === expected, `payload ${index}: ${actual.slice(0, 600)} instead of ${expected.slice(0, 600)}`);
  }
}

function expectHeaders(got: readonly { readonly header: string }[]): void {
  for (const [index, { header }] of got.entries()) {
    ok(header === HEADERS[index], `header ${index}: ${JSON.stringify(header.slice(0, 200))}`);
  }
}

async function throughQueue(store: ContractStore, backend: Backend, payloads: readonly Bytes[]): Promise<void> {
  const name = store.name();
  const items = payloads.map((data, index) => item(`${index}`, { data, header: HEADERS[index] ?? "h" }));
  await store.backend.queue.push(name, items, LIMITS);
  const consumer = { consumer: store.name(), leaseMs: LONG_LEASE_MS, maxAttempts: 3, maxDeadLetters: 100 };
  const feed = await backend.queue.open(name, "", consumer);
  const deliveries = await collect(store, feed, payloads.length);
  expectBytes(deliveries, payloads);
  expectHeaders(deliveries.slice(0, HEADERS.length));
  await settled(feed, ...deliveries.map((delivery) => deadLetter(delivery)));
  const letters = await allLetters(backend.queue.deadLetters(name, ""));
  expectBytes(letters, payloads);
  expectHeaders(letters.slice(0, HEADERS.length));
}

async function throughLog(store: ContractStore, backend: Backend, payloads: readonly Bytes[]): Promise<void> {
  const stream = store.name();
  const entries = payloads.map((data, index) => ({ data, header: HEADERS[index] ?? "h" }));
  await store.backend.log.append(stream, entries, ROOMY);
  const read = await backend.log.read(stream, { max: 100 });
  expectBytes(read, payloads);
  expectHeaders(read.slice(0, HEADERS.length));
  await backend.log.createGroup(stream, "group", GROUP);
  const feed = await backend.log.open(stream, "group", store.name());
  const deliveries = await collect(store, feed, payloads.length);
  expectBytes(deliveries, payloads);
  expectHeaders(deliveries.slice(0, HEADERS.length));
  await settled(feed, ...deliveries.map((delivery) => deadLetter(delivery)));
  const letters = await allLetters(backend.log.deadLetters(stream, "group"));
  expectBytes(letters, payloads);
  expectHeaders(letters.slice(0, HEADERS.length));
}

export const payloadCases: readonly ContractCase[] = [
  {
    title: "log: [E12] payloads and headers come out as they went in, from entries, deliveries and dead letters",
    run: async (store) => throughLog(store, await store.second(), PAYLOADS),
  },
  {
    title: "queue: payloads and headers come out as they went in, from deliveries and dead letters",
    run: async (store) => throughQueue(store, await store.second(), PAYLOADS),
  },
  {
    title: "broadcast: payloads come out as they went in",
    run: async (store) => {
      const channel = store.name();
      const backends = [store.backend, await store.second()];
      for (const backend of backends) {
        const heard: { data: Uint8Array }[] = [];
        const message = (_channel: string, data: Bytes): void => void heard.push({ data: bytesOf(data) });
        const unsubscribe = await backend.broadcast.subscribe({ channel }, { message, gap: () => {} });
        await store.backend.broadcast.publish(PAYLOADS.map((data) => ({ channel, data })));
        await eventually(store, () => heard.length >= PAYLOADS.length, "all payloads");
        expectBytes(heard, PAYLOADS);
        await unsubscribe();
      }
    },
  },
  {
    title: "log: what is stored is not touched by what its giver or a reader does with the bytes",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const given = Buffer.of(1, 2, 3);
      await log.append(stream, [{ ...entry("a"), data: given }], ROOMY);
      given.fill(9);
      const read = first(await log.read(stream, { max: 1 }));
      deepEqual([...read.data], [1, 2, 3]);
      read.data.fill(9);
      deepEqual([...first(await log.read(stream, { max: 1 })).data], [1, 2, 3]);
    },
  },
  {
    title: "queue: what is stored is not touched by what its giver or a consumer does with the bytes",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const given = Buffer.of(1, 2, 3);
      await queue.push(name, [item("a", { data: given })], LIMITS);
      given.fill(9);
      const consumer = { consumer: store.name(), leaseMs: LONG_LEASE_MS, maxAttempts: 3, maxDeadLetters: 10 };
      const feed = await queue.open(name, "", consumer);
      const delivery = await collectOne(store, feed);
      deepEqual([...delivery.data], [1, 2, 3]);
      delivery.data.fill(9);
      const { receipt } = delivery;
      await settled(feed, { receipt, as: "retry", delayMs: 0, counted: true });
      deepEqual([...(await collectOne(store, feed)).data], [1, 2, 3]);
    },
  },
];
