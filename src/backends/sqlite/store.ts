/** What the ports of one opened SQLite backend share: the file, its one writer, the bell, and what ends with it. */

import type { BackendContext, Feed } from "../../core/backend.js";
import type { Database } from "./driver.js";
import type { Bell } from "./bell.js";
import type { Writer } from "./writer.js";

export interface Store extends BackendContext {
  readonly path: string;
  readonly db: Database;
  readonly writer: Writer;
  readonly bell: Bell;
  /** Runs statements that only read, all on one snapshot, at once. Throws typed errors. */
  read<T>(work: () => T): T;
  /** @throws {ClosedError} */
  assertOpen(): void;
  /** Registers what has to end with the backend. @returns a function that forgets it */
  onClose(close: () => Promise<void>): () => void;
  /** Makes a feed that ends with the backend. */
  track(create: (onClose: () => void) => Feed): Feed;
}
