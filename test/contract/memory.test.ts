/** The contract on the memory backend. */

import { openMemoryStore } from "./support/memory-store.js";
import { defineLane } from "./support/lane.js";

defineLane("[X8] memory", openMemoryStore);
