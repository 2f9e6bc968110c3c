/** A group's settings as they are stored with it. */

import type { GroupSettings } from "../../core/backend.js";
import { textOf } from "./blob.js";
import type { Reply } from "./connection.js";

/** What earlier builds did not store yet. */
const SINCE_THEN = { order: "none", maxHeld: 1_000 } as const;

/** Settings as `log-groups.ts` wrote them. */
export function settingsFrom(stored: Reply | undefined): GroupSettings {
  return { ...SINCE_THEN, ...(JSON.parse(textOf(stored)) as GroupSettings) };
}
