/** Payloads that nobody can read, through every facade: dead letters with their reason and raw bytes, and the next message is handled. */

import { afterEach, describe, expect, test } from "vitest";
import { z } from "zod";
import {
  type Broker,
  type Codec,
  CodecError,
  connect,
  type ConnectOptions,
  type DeadLetter,
  deadLetter,
  defineContract,
  type Handler,
  SchemaError,
  when,
} from "../../src/index.js";
import { msgpackCodec } from "../../src/codecs/msgpack.js";
import { collect, silentLogger } from "../facades/support/lanes.js";
import { until } from "../support/wait.js";

const open: Broker[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((broker) => broker.close({ drainMs: 0 })));
});

let stores = 0;

/** A broker that writes bytes as they are, under whatever content type, and one that reads with these options. */
async function openPair<C extends object>(contentType: string, options: ConnectOptions<C>) {
  stores += 1;
  const url = `memory:payloads-${stores}`;
  const raw: Codec = {
    contentType,
    encode: (value) => (value as { bytes: Uint8Array }).bytes,
    decode: (bytes) => bytes,
  };
  const writer = await connect(url, { codec: raw, logger: silentLogger });
  const reader = await connect(url, { logger: silentLogger, ...options });
  open.push(writer, reader);
  return { writer, reader: reader as Broker };
}

interface Kept {
  publish(broker: Broker, data: unknown, options?: object): Promise<unknown>;
  consume(broker: Broker, handler: Handler<unknown>): Promise<unknown>;
  letters(broker: Broker): Promise<DeadLetter[]>;
}

const facades: readonly (Kept & { readonly facade: string })[] = [
  {
    facade: "events",
    publish: (broker, data, options) => broker.events.publish("orders", data, options),
    consume: (broker, handler) => broker.events.subscribe("orders", { group: "g", from: "beginning" }, handler),
    letters: (broker) => collect(broker.events.group("orders", "g").deadLetters()),
  },
  {
    facade: "queue",
    publish: (broker, data, options) => broker.queue("orders").publish(data, options),
    consume: (broker, handler) => broker.queue("orders").subscribe({}, handler),
    letters: (broker) => collect(broker.queue("orders").deadLetters()),
  },
  {
    facade: "pubsub",
    publish: (broker, data, options) => broker.pubsub.publish("orders", data, options),
    consume(broker, handler) {
      // What cannot be read is reported, unless a rule keeps it.
      broker.pubsub.onError(when(CodecError, SchemaError), ({ message }) => deadLetter(message));
      return broker.pubsub.subscribe("orders", handler);
    },
    letters: (broker) => collect(broker.pubsub.deadLetters("orders")),
  },
];

/** Publishes the bad bytes, then a good message: the one is parked as it came, the other handled. */
async function park(kept: Kept, pair: { writer: Broker; reader: Broker }, bad: Uint8Array, good: Uint8Array) {
  const heard: unknown[] = [];
  await kept.consume(pair.reader, (data) => void heard.push(data));
  await kept.publish(pair.writer, { bytes: bad });
  await kept.publish(pair.writer, { bytes: good });
  await until(() => heard.length === 1);
  await until(async () => (await kept.letters(pair.reader)).length === 1);
  const [letter] = await kept.letters(pair.reader);
  expect(new Uint8Array(letter?.raw ?? [])).toEqual(new Uint8Array(bad));
  return { heard, letter };
}

describe.each(facades)("$facade", (kept) => {
  test("fault 38: JSON of 100,000 levels is a dead letter and no full stack; __proto__ is inert", async () => {
    const pair = await openPair("json", {});
    const deep = Buffer.from(`${'{"a":['.repeat(50_000)}${"]}".repeat(50_000)}`);
    const proto = Buffer.from('{"__proto__":{"admin":true},"a":1}');
    const { heard, letter } = await park(kept, pair, deep, proto);
    expect(letter?.reason.message).toContain("1000 levels");
    expect(heard).toEqual([{ a: 1 }]);
    expect(Object.assign({}, heard[0])).not.toHaveProperty("admin");
  });

  test("fault 39: bytes that are no msgpack are a dead letter, raw", async () => {
    const pair = await openPair("msgpack", { codec: msgpackCodec });
    const good = msgpackCodec.encode({ a: 1 }) as Uint8Array;
    const { heard, letter } = await park(kept, pair, Uint8Array.from([0x91, 0xc7, 0x01, 0x70, 0x00]), good);
    expect(letter?.reason.message).toContain("extension type");
    expect(heard).toEqual([{ a: 1 }]);
  });

  test("fault 40, bad input 68: a schema version from the future is a dead letter, raw, and older ones are upgraded", async () => {
    const entry = {
      schema: z.object({ euros: z.number() }),
      version: 3,
      upgrade: (data: unknown, from: number) => (from < 3 ? { euros: (data as { cents: number }).cents / 100 } : data),
    };
    const contract = defineContract({
      channels: { orders: entry },
      events: { orders: entry },
      queues: { orders: entry },
    });
    const pair = await openPair("json", { contract });
    const heard: unknown[] = [];
    await kept.consume(pair.reader, (data) => void heard.push(data));
    const future = Buffer.from('{"dollars":1}');
    await kept.publish(pair.writer, { bytes: future }, { schemaVersion: 999 });
    await kept.publish(pair.writer, { bytes: Buffer.from('{"cents":100}') }, { schemaVersion: 2 });
    await kept.publish(pair.writer, { bytes: Buffer.from('{"cents":200}') });
    await kept.publish(pair.reader, { euros: 3 });
    await until(() => heard.length === 3);
    expect(heard).toEqual([1, 2, 3].map((euros) => ({ euros })));
    await until(async () => (await kept.letters(pair.reader)).length === 1);
    const [letter] = await kept.letters(pair.reader);
    expect(Buffer.from(letter?.raw ?? [])).toEqual(future);
    expect(letter?.message).toMatchObject({ schemaVersion: 999, data: { dollars: 1 } });
    expect(letter?.reason.message).toContain("version 999");
  });

  test("what is published carries the contract's version, and no other that its publisher makes up", async () => {
    const entry = { schema: z.number(), version: 7 };
    const contract = defineContract({
      channels: { orders: entry },
      events: { orders: entry },
      queues: { orders: entry },
    });
    const pair = await openPair("json", { contract });
    const versions: unknown[] = [];
    await kept.consume(pair.reader, (_, { message }) => void versions.push(message.schemaVersion));
    await expect(kept.publish(pair.reader, 1, { schemaVersion: 6 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await kept.publish(pair.reader, 1);
    await kept.publish(pair.reader, 2, { schemaVersion: 7 });
    await until(() => versions.length === 2);
    expect(versions).toEqual([7, 7]);
  });
});
