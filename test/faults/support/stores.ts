/** Places where messages live that several processes can share, for faults of the processes themselves. */

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { tempDir } from "../../support/process.js";
import { startRedis } from "../../support/redis-servers.js";
import { FACADES, type Facade } from "./load.js";

export interface SharedStore extends AsyncDisposable {
  readonly url: string;
}

export const STORES: Readonly<Record<string, () => Promise<SharedStore>>> = {
  async Redis() {
    const server = await startRedis();
    return { url: server.url, [Symbol.asyncDispose]: () => server.stop() };
  },
  async SQLite() {
    const dir = await tempDir();
    const url = `sqlite:${join(dir, "messages.db")}`;
    return { url, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
  },
};

/** Each facade on each store, and how a title names it. */
export const EVERYWHERE: readonly {
  readonly facade: Facade;
  readonly where: string;
  readonly start: () => Promise<SharedStore>;
}[] = FACADES.flatMap((facade) =>
  Object.entries(STORES).map(([name, start]) => ({ facade, start, where: `${facade} on ${name}` })),
);
