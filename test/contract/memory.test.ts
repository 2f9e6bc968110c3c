/** The contract on the memory backend. */

import { openMemoryStore } from "./support/memory-store.js";
import { defineLane } from "./support/lane.js";

defineLane("[C1] [X8] memory", openMemoryStore);
