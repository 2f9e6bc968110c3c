/** The ledger of what is being published: when a batch is sent again, and what its caller is told in the end. */

import { describe, expect, test } from "vitest";
import { createPublisher, type Stamp } from "../../../src/backends/redis/publisher.js";
import { nextTurn, systemClock } from "../../../src/core/clock.js";
import { ConnectionError, OutOfMemoryError } from "../../../src/core/errors.js";
import { failureOf } from "./connection-support.js";

const interrupted = (): Promise<never> => Promise.reject(new ConnectionError("lost", { interrupted: true }));

describe("one batch", () => {
  test("an interrupted try is repeated with the same number until it is answered", async () => {
    const publisher = createPublisher(systemClock);
    const stamps: Stamp[] = [];
    const result = await publisher.publish("stream", async (stamp) => {
      stamps.push(stamp);
      return stamps.length < 4 ? interrupted() : "1-0";
    });
    expect(result).toBe("1-0");
    expect(new Set(stamps.map(({ number, slot }) => `${number} ${slot}`)).size).toBe(1);
  });

  test("when nothing ever left, its caller is told that nothing was stored", async () => {
    const publisher = createPublisher(systemClock, 100);
    const error = await failureOf(
      publisher.publish("stream", () => Promise.reject(new ConnectionError("nobody there", { interrupted: false }))),
    );
    expect(error).toMatchObject({ code: "CONNECTION", interrupted: false, message: "nobody there" });
  });

  test("when it was interrupted and never answered, its caller is told that nobody knows", async () => {
    const publisher = createPublisher(systemClock, 100);
    let tries = 0;
    const attempt = (): Promise<string> => {
      tries += 1;
      return tries === 1 ? interrupted() : Promise.reject(new ConnectionError("nobody there"));
    };
    await expect(publisher.publish("stream", attempt)).rejects.toMatchObject({ code: "PUBLISH_INDETERMINATE" });
    expect(tries).toBeGreaterThan(2);
  });

  test("a refusal is final, unless an earlier try may have got through", async () => {
    const publisher = createPublisher(systemClock, 100);
    const refused = (): Promise<never> => Promise.reject(new OutOfMemoryError("full"));
    await expect(publisher.publish("stream", refused)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    let tries = 0;
    const unsure = (): Promise<string> => {
      tries += 1;
      if (tries === 1) return interrupted();
      return tries < 4 ? refused() : Promise.resolve("1-0");
    };
    expect(await publisher.publish("stream", unsure)).toBe("1-0");
    tries = 0;
    const neverSure = (): Promise<string> => {
      tries += 1;
      return tries === 1 ? interrupted() : refused();
    };
    await expect(publisher.publish("stream", neverSure)).rejects.toMatchObject({ code: "PUBLISH_INDETERMINATE" });
  });

  test("closing ends the tries at once", async () => {
    const publisher = createPublisher(systemClock);
    let tries = 0;
    const publishing = publisher.publish("stream", () => {
      tries += 1;
      if (tries === 3) publisher.close();
      return interrupted();
    });
    await expect(publishing).rejects.toMatchObject({ code: "PUBLISH_INDETERMINATE" });
    expect(tries).toBe(3);
    await expect(publisher.publish("stream", async () => "1-0")).rejects.toMatchObject({ code: "CLOSED" });
  });
});

describe("several batches", () => {
  test("four are under way at once, in the order of their numbers, and others follow as these are decided", async () => {
    const publisher = createPublisher(systemClock);
    const sent: Stamp[] = [];
    const answers: (() => void)[] = [];
    const all = Array.from({ length: 10 }, () =>
      publisher.publish("stream", (stamp) => {
        sent.push(stamp);
        return new Promise((resolve) => answers.push(() => resolve("1-0")));
      }),
    );
    expect(sent.map(({ number, behind }) => [number, behind])).toEqual([
      [1, 0],
      [2, 1],
      [3, 2],
      [4, 3],
    ]);
    for (let at = 0; at < 10; at += 1) {
      answers[at]?.();
      await all[at];
    }
    expect(sent.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // Eight results are remembered, so that no batch that may still be asked for is forgotten.
    expect(sent.map(({ slot }) => slot)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
  });

  test("a batch that would overtake the one before it waits for it, and then goes by itself", async () => {
    const publisher = createPublisher(systemClock);
    const log: string[] = [];
    let failFirst = true;
    let overtake = (): void => {};
    const overtaken = new Promise<void>((resolve) => (overtake = resolve));
    const first = publisher.publish("stream", async ({ behind }) => {
      await overtaken;
      log.push(`first behind ${behind}`);
      if (failFirst) {
        failFirst = false;
        return interrupted();
      }
      return "1-0";
    });
    const second = publisher.publish("stream", async ({ behind }) => {
      log.push(`second behind ${behind}`);
      overtake();
      return behind === 0 ? "2-0" : "GAP";
    });
    expect(await Promise.all([first, second])).toEqual(["1-0", "2-0"]);
    expect(log).toEqual(["second behind 1", "first behind 0", "first behind 0", "second behind 0"]);
  });

  test("a batch does not overtake one that is undecided, though the one between them was refused", async () => {
    const publisher = createPublisher(systemClock);
    let tries = 0;
    const behinds: number[] = [];
    let overtake = (): void => {};
    const overtaken = new Promise<void>((resolve) => (overtake = resolve));
    const first = publisher.publish("stream", async () => {
      tries += 1;
      await overtaken;
      return tries === 1 ? interrupted() : "1-0";
    });
    const second = publisher.publish("stream", () => Promise.reject(new OutOfMemoryError("full")));
    await expect(second).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    const third = publisher.publish("stream", async ({ behind }) => {
      behinds.push(behind);
      overtake();
      return behind === 0 ? "3-0" : "GAP";
    });
    expect(await Promise.all([first, third])).toEqual(["1-0", "3-0"]);
    expect(behinds).toEqual([1, 0]);
  });

  test("no batch runs so far ahead of one that is still asked about that its result would be forgotten", async () => {
    const publisher = createPublisher(systemClock);
    const answered: number[] = [];
    let letGo = (_result: string): void => {};
    const slow = publisher.publish("stream", () => new Promise((resolve) => (letGo = resolve)));
    const others = Array.from({ length: 20 }, () =>
      publisher.publish("stream", async ({ number }) => {
        answered.push(number);
        return `${number}-0`;
      }),
    );
    await Promise.all(others.slice(0, 7));
    await nextTurn();
    expect(answered).toEqual([2, 3, 4, 5, 6, 7, 8]);
    letGo("1-0");
    expect(await slow).toBe("1-0");
    await Promise.all(others);
    expect(answered.at(-1)).toBe(21);
  });

  test("targets do not wait for each other", async () => {
    const publisher = createPublisher(systemClock);
    const stuck = Array.from({ length: 8 }, () => publisher.publish("stuck", () => new Promise(() => {})));
    expect(stuck).toHaveLength(8);
    expect(await publisher.publish("free", async ({ behind }) => String(behind))).toBe("0");
  });
});
