/** Which of the failures that come one after the other are news. */

import { SignalboxError } from "./errors.js";

/**
 * Says whether a failure is to be reported: the first of a row is, and the first of each other kind in it, such as a
 * refused login after a lost connection. The rest shows in health().
 */
export function createFailureNews(): (error: Error, failures: number) => boolean {
  const told = new Set<string>();
  return (error, failures) => {
    if (failures <= 1) told.clear();
    const kind = error instanceof SignalboxError ? error.code : "OTHER";
    if (told.has(kind)) return false;
    told.add(kind);
    return true;
  };
}
