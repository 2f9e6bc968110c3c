/** Middleware: what stands around publishing and around handlers, in which order, and what may go wrong in it. */

import { describe, expect, test } from "vitest";
import {
  findMiddlewareProblems,
  handleThrough,
  type HandlerRun,
  type Middleware,
  type Publication,
  publishThrough,
} from "../../src/core/middleware.js";
import { type Context, skip } from "../../src/index.js";

const context = { channel: "orders", attempt: 2, message: { id: "m" } } as unknown as Context;
const message: Publication = { facade: "events", name: "orders", data: 1, options: {} };

/** Notes what happens around it. */
function noting(name: string, notes: string[]): Middleware {
  return {
    name,
    async handle(run, next) {
      notes.push(`${name} sees ${run.channel} of ${run.facade}, attempt ${run.deliveries[0]?.attempt}`);
      await next();
      notes.push(`${name} is done`);
    },
    async publish(messages, next) {
      notes.push(`${name} sees ${messages.length}`);
      const receipts = await next();
      notes.push(`${name} has ${receipts.length}`);
    },
  };
}

describe("around a handler", () => {
  const run = (handle: NonNullable<Middleware["handle"]>, handler: () => unknown = () => "own") =>
    Promise.resolve(handleThrough([{ name: "m", handle }], "events", handler)(1, context));

  test("the first in the list is the outermost, and without any the handler is itself", async () => {
    const notes: string[] = [];
    const handler = (): void => void notes.push("handled");
    expect(handleThrough([{ name: "publishes only" }], "events", handler)).toBe(handler);
    await handleThrough([noting("a", notes), noting("b", notes)], "queue", handler)(1, context);
    expect(notes).toEqual([
      "a sees orders of queue, attempt 2",
      "b sees orders of queue, attempt 2",
      "handled",
      "b is done",
      "a is done",
    ]);
  });

  test("what it returns is the outcome; returning nothing leaves the handler's own, also a failure", async () => {
    expect(await run((_, next) => next())).toBe("own");
    expect(await run(async (_, next) => void (await next()))).toBe("own");
    expect(await run((_, next) => void next())).toBe("own");
    const outcome = skip();
    expect(await run(() => outcome)).toBe(outcome);
    const failing = (): never => {
      throw new Error("no eggs");
    };
    await expect(run(async (_, next) => void (await next().catch(() => undefined)), failing)).rejects.toThrow(
      "no eggs",
    );
    expect(await run(async (_, next) => await next().catch(() => outcome), failing)).toBe(outcome);
  });

  test("one that forgets its next, or calls it twice, is a failed run and no acknowledgement", async () => {
    await expect(run(() => undefined)).rejects.toThrow('"m" did not call next');
    let handled = 0;
    const twice = run(
      async (_, next) => {
        await next();
        await next();
      },
      () => (handled += 1),
    );
    await expect(twice).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining("twice") });
    expect(handled).toBe(1);
  });

  test("makes no signal unless it is looked at", async () => {
    const quiet = { ...context } as { signal: AbortSignal };
    Object.defineProperty(quiet, "signal", {
      get: () => {
        throw new Error("made");
      },
    });
    let seen: HandlerRun | undefined;
    const handle: Middleware["handle"] = (run, next) => ((seen = run), next());
    await handleThrough([{ name: "m", handle }], "events", () => undefined)(1, quiet as Context);
    expect(() => seen?.signal).toThrow("made");
  });
});

describe("around publishing", () => {
  const send = async (messages: readonly Publication[]) => messages.map(({ data }) => ({ id: String(data) }));
  const through = (publish: NonNullable<Middleware["publish"]>) => publishThrough([{ name: "m", publish }]);

  test("the caller gets the receipts of what was sent, whatever the middleware returns", async () => {
    const notes: string[] = [];
    const pass = publishThrough([noting("a", notes), { name: "handles only" }, noting("b", notes)]);
    expect(await pass?.([message, message], send)).toEqual([{ id: "1" }, { id: "1" }]);
    expect(notes).toEqual(["a sees 2", "b sees 2", "b has 2", "a has 2"]);
    expect(publishThrough([{ name: "handles only" }])).toBeUndefined();
  });

  test("messages may be changed, and neither be lost nor go astray", async () => {
    const changing = through((messages, next) => next(messages.map((each) => ({ ...each, data: 7 }))));
    expect(await changing?.([message], send)).toEqual([{ id: "7" }]);
    for (const wrong of [[], [message, message], [{ ...message, name: "other" }]]) {
      await expect(through((_, next) => next(wrong))?.([message], send)).rejects.toThrow(
        "as many messages as there were",
      );
    }
    await expect(through(() => undefined)?.([message], send)).rejects.toThrow("did not call next");
  });

  test("what it throws refuses the messages", async () => {
    let sent = 0;
    const refusing = through(() => {
      throw new Error("not on a Sunday");
    });
    await expect(refusing?.([message], async () => ((sent += 1), []))).rejects.toThrow("not on a Sunday");
    expect(sent).toBe(0);
  });
});

test.each([
  [{}, "must be a list"],
  [[null], "middleware[0]"],
  [[{ handle: () => undefined }], "name is missing"],
  [[{ name: "" }], "name must be"],
  [[{ name: "a", handel: () => undefined }], 'did you mean "handle"?'],
  [[{ name: "a", publish: 1 }], "publish must be a function"],
  [[{ name: "a", payload: { encode: () => 1 } }], "with the method decode"],
  [[payloads("UPPER")], "must have a tag"],
  [[payloads("a", "maybe")], 'untagged: "accept" or "refuse"'],
  [[payloads("a"), payloads("a")], 'the tag "a"'],
])("refuses as middleware: %#", (given, problem) => {
  expect(findMiddlewareProblems(given).join("\n")).toContain(problem);
});

function payloads(tag: string, untagged = "accept"): object {
  const same = (bytes: Uint8Array): Uint8Array => bytes;
  return { name: tag, payload: { tag, untagged, encode: same, decode: same } };
}
