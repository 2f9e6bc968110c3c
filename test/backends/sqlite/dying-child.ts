/** Begins what takes several transactions, and is killed once the first of them is committed. */

import { systemClock } from "../../../src/core/clock.js";
import type { Queue } from "../../../src/core/backend.js";
import { openWith } from "../../../src/backends/sqlite/index.js";
import { say } from "../../support/child-side.js";
import { AUDIENCE, countingDriver, FOR_ALL, item, items, registerMany, ROOMY } from "./queueing.js";

interface Deed {
  /** The statement that is its doing. */
  readonly statement: RegExp;
  prepare(queue: Queue, size: number): Promise<unknown>;
  run(queue: Queue): Promise<unknown>;
}

const DEEDS: Readonly<Record<string, Deed>> = {
  audience: {
    statement: /INTO sb1_shares/,
    prepare: registerMany,
    run: (queue) => queue.push("q", [item("for all", { recipient: FOR_ALL })], ROOMY),
  },
  unregister: {
    statement: /DELETE FROM sb1_items/,
    async prepare(queue, size) {
      await queue.register("q", "r", AUDIENCE);
      await queue.push("q", items("i", size, { recipient: "r" }), ROOMY);
    },
    run: (queue) => queue.unregister("q", "r"),
  },
};

const [path = "", name = "", size = ""] = process.argv.slice(2);
const deed = DEEDS[name];
if (deed === undefined) throw new Error(`there is no deed "${name}"`);
let isPrepared = false;
const driver = await countingDriver(deed.statement, (count) => {
  if (isPrepared && count > 0) process.kill(process.pid, "SIGKILL");
});
const report = (error: unknown, where: string): void => say({ reported: `${where}: ${String(error)}` });
const { queue } = openWith(driver, { path }, { namespace: "test", clock: systemClock, report });
await deed.prepare(queue, Number(size));
isPrepared = true;
await deed.run(queue);
say({ survived: true });
