/** The contract on the SQLite backend, with a store's backends in two processes. */

import { afterAll, beforeAll } from "vitest";
import { openSharedSqliteStore } from "./support/sqlite-store.js";
import { defineLane } from "./support/lane.js";
import { type RemoteHost, startRemoteHost } from "./support/remote-backend.js";

let host: RemoteHost;
beforeAll(() => {
  host = startRemoteHost();
});
afterAll(() => host.stop());

defineLane("[C1] [X8] sqlite in two processes", () => openSharedSqliteStore(host));
