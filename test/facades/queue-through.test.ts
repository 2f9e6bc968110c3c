/** What all messages pass through, on queues: middleware, payload transforms, versions and rules, in every form there is. */

import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { z } from "zod";
import {
  type Broker,
  CodecError,
  type ConnectOptions,
  defineContract,
  encryption,
  type HandlerRun,
  type Middleware,
  type PayloadPlace,
  type Publication,
  type Queue,
  type QueueContext,
  RequestError,
  retry,
  SchemaError,
  skip,
  stop,
  when,
} from "../../src/index.js";
import { until } from "../support/wait.js";
import { collect, type Lane, onEveryBackend } from "./support/lanes.js";

const HOUR = 3_600_000;
const RECORDED = { keepAckedMs: HOUR, index: ["source", "target"] } as const;
const FAST = { initialMs: 1, maxMs: 2, maxAttempts: 2 } as const;
const SOON = { timeoutMs: 10_000 } as const;

class NetworkError extends Error {}

/** What a promise rejects with. */
const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

/** A recipient's messages that wait, the most urgent first. */
const waitingOf = async (queue: Queue<unknown>, recipient: string): Promise<readonly unknown[]> =>
  (await queue.pending(recipient)).items.map(({ data }) => data);

onEveryBackend("middleware on queues", (lane) => {
  test("stands around each call that publishes, requests as well, and may change what is said of them", async () => {
    const seen: Publication[] = [];
    const stamp: Middleware = {
      name: "stamp",
      publish(messages, next) {
        seen.push(...messages);
        return next(messages.map((each) => ({ ...each, options: { ...each.options, headers: { tenant: "z" } } })));
      },
    };
    const broker = await lane.open({ middleware: [stamp] });
    const tasks = broker.queue(lane.unique("tasks"));
    const heard: unknown[] = [];
    await tasks.subscribe({ as: "coder" }, (task, ctx) => {
      heard.push([task, ctx.message.headers]);
      if (ctx.message.replyTo !== undefined) ctx.reply(`${String(task)} done`);
    });
    const { id } = await tasks.publish("one", { target: "coder", id: "own" });
    await tasks.publishMany(["two", "three"], { target: "coder", priority: 1 });
    expect(await tasks.request("four", { ...SOON, target: "coder" })).toBe("four done");
    expect(id).toBe("own");
    await until(() => heard.length === 4);
    expect(heard).toEqual(
      expect.arrayContaining(["one", "two", "three", "four"].map((task) => [task, { tenant: "z" }])),
    );
    expect(seen.map(({ facade, name, data }) => [facade, name, data])).toEqual(
      ["one", "two", "three", "four"].map((data) => ["queue", tasks.name, data]),
    );
    // What makes a request of it is not the middleware's to lose.
    expect(seen.at(-1)?.options).not.toHaveProperty("request");
  });

  test("a request is answered although its options were replaced, and one that is refused is not sent", async () => {
    const replacing: Middleware = {
      name: "replacing",
      async publish(messages, next) {
        if (messages[0]?.data === "refused") throw new Error("not on a Sunday");
        await next(messages.map((each) => ({ ...each, options: {} })));
      },
    };
    const broker = await lane.open({ middleware: [replacing] });
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.subscribe({}, (task, ctx) => ctx.reply(task));
    expect(await tasks.request("asked", SOON)).toBe("asked");
    await expect(tasks.request("refused", SOON)).rejects.toThrow("not on a Sunday");
    const adding: Middleware = {
      name: "adding",
      publish: (messages, next) => next(messages.map((each) => ({ ...each, options: { delayMs: 5 } as never }))),
    };
    const wrong = await lane.open({ middleware: [adding] });
    await expect(wrong.queue(tasks.name).request("x", SOON)).rejects.toThrow(/queue\.request.*"delayMs"/);
  });

  test("stands around each run of a handler, of a batch once, and may decide for it", async () => {
    const runs: Pick<HandlerRun, "facade" | "channel">[] = [];
    const sizes: number[] = [];
    const guard: Middleware = {
      name: "guard",
      handle({ facade, channel, deliveries }, next) {
        runs.push({ facade, channel });
        sizes.push(deliveries.length);
        return deliveries[0]?.message.data === "forbidden" ? skip() : next();
      },
    };
    const broker = await lane.open({ middleware: [guard] });
    const tasks = broker.queue(lane.unique("tasks"), RECORDED);
    const heard: unknown[] = [];
    await tasks.publishMany(["forbidden", "allowed"]);
    await tasks.subscribe({ concurrency: 1 }, (task, ctx: QueueContext) => {
      heard.push(task);
      if (ctx.message.replyTo !== undefined) ctx.reply("through");
    });
    await until(() => heard.length === 1);
    expect(await tasks.request("asked", SOON)).toBe("through");
    expect(await failureOf(tasks.request("forbidden", SOON))).toMatchObject({ kind: "unanswered" });
    expect(heard).toEqual(["allowed", "asked"]);
    expect(sizes.splice(0)).toEqual([1, 1, 1, 1]);

    const batches: unknown[] = [];
    await tasks.publishMany([1, 2, 3], { target: "batches" });
    const batching = await tasks.subscribeBatch({ as: "batches", max: 3, waitMs: 5_000 }, (deliveries) => {
      batches.push(deliveries.map(({ data }) => data));
    });
    await until(() => batches.length === 1);
    expect([batches, sizes]).toEqual([[[1, 2, 3]], [3]]);
    await batching.close();
    expect(runs).toEqual(runs.map(() => ({ facade: "queue", channel: tasks.name })));
    // A message for each recipient of an audience is a run for each.
    await tasks.subscribe({ fanout: true }, (task) => void heard.push(task));
    await tasks.subscribe({ as: "ada" }, (task) => void heard.push(task));
    sizes.length = 0;
    await tasks.publish("to all", { audience: "online" });
    await until(() => sizes.length === 2);
    expect(heard.slice(2)).toEqual(["to all", "to all"]);
  });
});

/** A transform that can be undone, and that notes where it was when. */
function notingTransform(): { readonly middleware: Middleware; readonly written: string[]; readonly read: string[] } {
  const [written, read]: [string[], string[]] = [[], []];
  const textOf = ({ namespace, channel, type, id, contentType, ...more }: PayloadPlace): string =>
    [namespace, channel, type, id, contentType, more.target, more.causationId, more.replyTo].join(" ");
  const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0xff);
  const payload: Middleware["payload"] = {
    tag: "flipped",
    untagged: "refuse",
    encode(bytes, place) {
      written.push(textOf(place));
      return flip(bytes);
    },
    decode(bytes, place) {
      read.push(textOf(place));
      return flip(bytes);
    },
  };
  return { middleware: { name: "noting", payload }, written, read };
}

onEveryBackend("payload transforms on queues", (lane) => {
  test("are told the same place on the way back, whoever reads it and however it came there", async () => {
    const { middleware, written, read } = notingTransform();
    const broker = await lane.open({ middleware: [middleware], namespace: "n" });
    const tasks = broker.queue(lane.unique("tasks"), RECORDED);
    for (const recipient of ["ada", "bob"]) await tasks.register(recipient);
    await tasks.publish("plain", { target: "ada" });
    await tasks.publish("own id", { target: "ada", id: "own: 1" });
    await tasks.publish("late", { target: "ada", delayMs: 1, priority: 3 });
    await tasks.publish("to all", { audience: "registered" });
    await tasks.publish(new Uint8Array([1, 2]), { target: "ada" });
    const heard: unknown[] = [];
    const failing = await tasks.subscribe({ as: "ada", retry: { ...FAST, maxAttempts: 1 } }, () => {
      throw new Error("park it");
    });
    await until(async () => (await tasks.stats("ada")).dead === 5);
    await failing.close();
    expect((await collect(tasks.deadLetters("ada"))).map(({ message }) => message?.data)).toHaveLength(5);
    expect(await tasks.redrive({ recipient: "ada" })).toBe(5);
    expect((await tasks.pending("ada")).items.map(({ data }) => data)).toContain("own id");
    expect((await tasks.list()).items.map(({ data }) => data)).toContain("to all");
    for (const as of ["ada", "bob"]) await tasks.subscribe({ as }, (task) => void heard.push(task));
    await until(() => heard.length === 6);
    await until(async () => (await tasks.get("own: 1"))?.acknowledged === true);
    expect((await tasks.get("own: 1"))?.data).toBe("own id");
    await tasks.subscribe({ as: "answers" }, (task, ctx) => (task === "silent" ? skip() : ctx.reply({ for: task })));
    expect(await tasks.request("question", { ...SOON, target: "answers" })).toEqual({ for: "question" });
    const unanswered = failureOf(tasks.request("silent", { ...SOON, target: "answers" }));
    expect(await unanswered).toBeInstanceOf(RequestError);
    expect(new Set(read)).toEqual(new Set(written));
    // Five messages, two requests, an answer, and one that says why there is none.
    expect(new Set(written).size).toBe(9);
  });

  const [old, newer] = [randomBytes(32), randomBytes(32)];
  const encrypted = { middleware: [encryption({ keys: { old, newer }, current: "newer" })] };

  test("encrypt requests and answers on their way, and what became of a request", async () => {
    const [asker, answerer, blind] = [await lane.open(encrypted), await lane.open(encrypted), await lane.open()];
    const name = lane.unique("secrets");
    const secrets = asker.queue(name);
    const asking = secrets.request({ iban: "DE02 1203" }, { ...SOON, target: "bank" });
    await until(async () => (await blind.queue(name).pending("bank")).items.length === 1);
    const [stored] = (await blind.queue(name).pending("bank")).items;
    expect(Buffer.from(stored?.raw ?? []).includes("DE02")).toBe(false);
    expect(stored).toMatchObject({ message: undefined, data: undefined });
    let answersTo = "";
    await answerer.queue(name).subscribe({ as: "bank", retry: FAST }, (question, ctx) => {
      if (question === "fail") throw new Error("the bank is closed");
      answersTo = ctx.message.replyTo ?? "";
      ctx.reply({ balance: 7, of: question });
    });
    expect(await asking).toEqual({ balance: 7, of: { iban: "DE02 1203" } });
    expect(answersTo).toContain("{reply}:");
    const failed = await failureOf(secrets.request("fail", { ...SOON, target: "bank" }));
    expect(failed).toMatchObject({
      code: "REQUEST",
      kind: "failed",
      message: expect.stringContaining("bank is closed"),
    });
  });

  test("a forged answer that is not encrypted is no answer", async () => {
    const asker = await lane.open(encrypted);
    const forger = await lane.open();
    const name = lane.unique("secrets");
    const asking = failureOf(asker.queue(name).request("question", { ...SOON, target: "bank" }));
    await forger.queue(name).subscribe({ as: "bank" }, () => {
      throw new Error("it cannot be read here, so that nobody comes here");
    });
    // Who lacks the key parks the request, and says so in plain.
    expect(await asking).toBeInstanceOf(CodecError);
  });

  test("views decrypt and check what they show, and show the stored bytes where they cannot", async () => {
    const name = lane.unique("secrets") as "secrets";
    const contract = defineContract({ queues: { [name]: z.object({ n: z.number().transform((n) => n * 2) }) } });
    const reader = (await lane.open({ ...encrypted, contract })) as Broker;
    const careless = await lane.open(encrypted);
    const lacking = await lane.open({ middleware: [encryption({ keys: { old }, current: "old" })] });
    const [seen, sent, hidden] = [reader, careless, lacking].map((broker) => broker.queue(name, RECORDED));
    const { id: good } = await sent!.publish({ n: 1 }, { target: "ada", source: "s" });
    const { id: bad } = await sent!.publish({ n: "one" }, { target: "ada", source: "s" });
    for (const items of [
      (await seen!.pending("ada")).items,
      (await seen!.list({ filter: { source: "s" } })).items.toReversed(),
      [(await seen!.get(good))!, (await seen!.get(bad))!],
    ]) {
      expect(items.map(({ data }) => data)).toEqual([{ n: 2 }, { n: "one" }]);
      for (const { raw } of items) expect(Buffer.from(raw).includes('"n"')).toBe(false);
    }
    expect(await hidden!.get(good)).toMatchObject({ id: good, message: undefined, data: undefined, state: "open" });
    expect((await hidden!.explain(good)).target).toBe("ada");
  });
});

const V1 = z.object({ name: z.string() });
const V2 = z.object({ first: z.string(), last: z.string() });
type Old = z.infer<typeof V1>;

function split(data: unknown, from: number): unknown {
  const { name } = from === 0 ? { name: String(data) } : (data as Old);
  const [first = "", last = ""] = name.split(" ");
  return { first, last };
}

onEveryBackend("versions on queues", (lane) => {
  async function openAll(name: string) {
    const open = async (options: ConnectOptions<never>): Promise<Queue<unknown>> =>
      ((await lane.open(options)) as unknown as Broker).queue(name, RECORDED);
    const contractOf = (entry: object): ConnectOptions<never> =>
      ({ contract: defineContract({ queues: { [name]: entry as never } }), onError: () => undefined }) as never;
    return {
      plain: await open({}),
      first: await open(contractOf({ schema: V1, version: 1 })),
      second: await open(contractOf({ schema: V2, version: 2, upgrade: split })),
    };
  }

  const ADA = { first: "ada", last: "lovelace" };

  test("travel with what is published and asked, and older ones are upgraded wherever they are read", async () => {
    const { plain, first, second } = await openAll(lane.unique("people"));
    const { id } = await first.publish({ name: "ada lovelace" }, { target: "all forms" });
    await plain.publish("ada lovelace", { target: "all forms" });
    await second.publish(ADA, { target: "all forms" });
    const { items } = await second.pending("all forms");
    expect(items.map(({ data }) => data)).toEqual([ADA, ADA, ADA]);
    expect(items.map(({ message }) => message?.schemaVersion)).toEqual([1, undefined, 2]);
    expect((await second.get(id))?.data).toEqual(ADA);
    expect((await second.list()).items.map(({ data }) => data)).toEqual([ADA, ADA, ADA]);
    for await (const delivery of second.deliveries({ as: "all forms" })) {
      expect(delivery.data).toEqual(ADA);
      await delivery.ack();
      break;
    }
    const batches: unknown[] = [];
    await second.subscribeBatch({ as: "all forms", max: 2, waitMs: 5_000 }, (deliveries) => {
      batches.push(deliveries.map(({ data }) => data));
    });
    await until(() => batches.length === 1);
    expect(batches).toEqual([[ADA, ADA]]);
    await second.subscribe({ as: "greeter" }, (person, ctx) => ctx.reply(person));
    expect(await first.request({ name: "ada lovelace" }, { ...SOON, target: "greeter" })).toEqual(ADA);
  });

  test("that are newer than the reader's are dead letters, told to whoever asked, and shown as they were published", async () => {
    const { first, second } = await openAll(lane.unique("people"));
    const asking = failureOf(second.request(ADA, { ...SOON, target: "old" }));
    await until(async () => (await first.pending("old")).items.length === 1);
    expect(await waitingOf(first, "old")).toEqual([ADA]);
    await first.subscribe({ as: "old" }, () => {
      throw new Error("must not be handled");
    });
    expect(await asking).toMatchObject({ kind: "undecodable", message: expect.stringContaining("has version 2") });
    const [letter] = await collect(first.deadLetters("old"));
    expect(letter).toMatchObject({ reason: { kind: "undecodable" }, message: { data: ADA, schemaVersion: 2 } });
    await expect(first.publish({ name: "x" }, { schemaVersion: 2 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});

onEveryBackend("rules on queues", (lane) => {
  test("[D26] decide for batches one by one, and for what batches and iterations cannot read", async () => {
    const name = lane.unique("tasks") as "tasks";
    const contract = defineContract({ queues: { [name]: z.object({ n: z.number() }) } });
    const tasks = ((await lane.open({ contract, onError: () => undefined })) as Broker).queue(name);
    const plain = (await lane.open()).queue(name);
    tasks.onError(when(NetworkError), (_, { attempt }) => (attempt < 2 ? retry({ delayMs: 1 }) : skip()));
    const unreadable: unknown[] = [];
    tasks.onError(when(SchemaError), (_, failure) => {
      unreadable.push(failure);
      return skip();
    });
    for (const target of ["batches", "iteration"])
      await plain.publishMany([{ n: "no" }, { n: 1 }, { n: 2 }], { target });
    const batches: number[][] = [];
    await tasks.subscribeBatch({ as: "batches", max: 2, waitMs: 10_000 }, (deliveries) => {
      batches.push(deliveries.map(({ attempt }) => attempt));
      throw new NetworkError("the line is dead");
    });
    await until(() => batches.length === 2);
    expect(batches).toEqual([
      [1, 1],
      [2, 2],
    ]);
    await using deliveries = tasks.deliveries({ as: "iteration" });
    const { value: first } = await deliveries.next();
    expect(first?.data).toEqual({ n: 1 });
    await first?.ack();
    for (const recipient of ["batches", "iteration"])
      await until(async () => {
        const { waiting, delayed, dead } = await tasks.stats(recipient);
        return waiting + delayed + dead === 0;
      });
    expect(unreadable).toEqual([1, 2].map(() => ({ channel: name, attempt: 1, kind: "unreadable" })));
  });

  test("[D26] tell whoever asked what they came to, and nothing while it is tried again", async () => {
    const { tasks } = await quiet(lane);
    tasks.onError(when(RangeError), () => skip());
    tasks.onError(when(NetworkError), (_, { attempt }) => (attempt < 3 ? retry({ delayMs: 1 }) : undefined));
    await tasks.subscribe({ retry: FAST }, (task, ctx) => {
      if (task === "skipped") throw new RangeError("too far");
      if (ctx.attempt < 2) throw new NetworkError("the line is dead");
      ctx.reply(`after ${ctx.attempt}`);
    });
    expect(await failureOf(tasks.request("skipped", SOON))).toMatchObject({ kind: "unanswered" });
    expect(await tasks.request("tried again", SOON)).toBe("after 2");
  });

  test("[D26] stop() gives a request back unanswered, and the next consumer answers it", async () => {
    const { broker, tasks, reports } = await quiet(lane);
    const stopping = tasks.onError(when(NetworkError), () => stop());
    await tasks.subscribe({}, () => {
      throw new NetworkError("the line is dead");
    });
    const asking = tasks.request("question", SOON);
    await until(async () => (await broker.health()).details.consumers.some(({ state }) => state === "ended"));
    stopping();
    await tasks.subscribe({}, (_, ctx) => ctx.reply(`attempt ${ctx.attempt}`));
    expect(await asking).toBe("attempt 1");
    expect(reports).toMatchObject([{ message: "the line is dead" }]);
  });

  test("[D26] a batch handler may stop its subscription, and an iteration that a rule stops ends with the error", async () => {
    const { tasks } = await quiet(lane);
    await tasks.publishMany([1, 2], { target: "batches" });
    const batches: unknown[] = [];
    const sub = await tasks.subscribeBatch({ as: "batches", max: 2, waitMs: 5_000 }, (deliveries) => {
      batches.push(deliveries.map(({ data }) => data));
      return stop();
    });
    await until(() => sub.stats()[0]?.state === "ended");
    expect(batches).toEqual([[1, 2]]);
    await until(async () => (await tasks.stats("batches")).waiting === 2);

    const unreadable = await lane.open({ middleware: [encryption({ keys: { k: randomBytes(32) }, current: "k" })] });
    const reading = unreadable.queue(tasks.name);
    reading.onError(when(CodecError), () => stop());
    await tasks.publish("plain", { target: "iteration" });
    await expect(reading.deliveries({ as: "iteration" }).next()).rejects.toBeInstanceOf(CodecError);
    await until(async () => (await tasks.stats("iteration")).waiting === 1);
  });

  test("a consumer of a fan-out that stops itself leaves no inbox behind that nobody reads", async () => {
    const { tasks } = await quiet(lane);
    const sub = await tasks.subscribe({ fanout: true }, () => stop());
    const recipients = async (): Promise<number> => (await collect(tasks.recipients())).length;
    expect(await recipients()).toBe(1);
    await tasks.publish("the last one", { audience: "registered" });
    await until(async () => (await recipients()) === 0);
    expect(sub.stats()[0]?.state).toBe("ended");
    await sub.close();
  });
});

async function quiet(lane: Lane): Promise<{ broker: Broker; tasks: Queue<unknown>; reports: Error[] }> {
  const reports: Error[] = [];
  const broker = await lane.open({ onError: (error) => void reports.push(error) });
  return { broker, tasks: broker.queue(lane.unique("tasks")), reports };
}
