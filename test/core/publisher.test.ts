/** Publishing to many channels at once, and in which order. */

import { expect, test } from "vitest";
import { Batcher } from "../../src/core/batcher.js";
import { connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";

/** Counts how often anybody asks whether a lane is idle. */
function countLooks(): { looks: number } & Disposable {
  const original = Object.getOwnPropertyDescriptor(Batcher.prototype, "isIdle");
  if (original === undefined) throw new Error("there is no isIdle");
  const counted = {
    looks: 0,
    [Symbol.dispose]: () => void Object.defineProperty(Batcher.prototype, "isIdle", original),
  };
  Object.defineProperty(Batcher.prototype, "isIdle", {
    ...original,
    get(this: object) {
      counted.looks += 1;
      return original.get?.call(this) as unknown;
    },
  });
  return counted;
}

test("publishing to many channels in one tick looks at each a few times at most, not at all of them for each", async () => {
  await using broker = await connect("memory:", { logger: silentLogger });
  using counted = countLooks();
  const channels = Array.from({ length: 4_000 }, (_, index) => `user.${index}`);
  await Promise.all(channels.map((name) => broker.pubsub.publish(name, 1)));
  expect(counted.looks).toBeLessThan(4 * channels.length);
});
