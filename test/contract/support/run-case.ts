/** Runs one case; without vitest, as other runtimes run the cases too. */

import type { ContractCase } from "../../../src/testing/contract.js";
import type { OpenStore } from "./lane-store.js";

/** What a case makes a listener throw: the only failure that a backend has reason to report while all is well. */
const EXPECTED = "a listener's own failure";

/**
 * Runs a case on a store of its own, and closes it.
 *
 * @throws {Error} the case's own, or naming what the backends reported as no caller was waiting for it
 */
export async function runCase(contractCase: ContractCase, openStore: OpenStore): Promise<void> {
  const store = await openStore();
  const reported = (): string =>
    store.reports
      .filter((report) => !report.includes(EXPECTED))
      .map((report) => `\n- ${report}`)
      .join("");
  try {
    await contractCase.run(store);
  } catch (error) {
    if (error instanceof Error && reported() !== "") error.message += `\nreported meanwhile:${reported()}`;
    throw error;
  } finally {
    await store.close();
  }
  if (reported() !== "") throw new Error(`the case passed, but the backends reported:${reported()}`);
}
