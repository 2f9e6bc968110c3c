/** The contract on the SQLite backend, all of a store's backends in one process. */

import { openSqliteStore } from "./support/sqlite-store.js";
import { defineLane } from "./support/lane.js";

defineLane("[C1] [X8] sqlite in one process", openSqliteStore);
