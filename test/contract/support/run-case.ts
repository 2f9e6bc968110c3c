/** Runs one case; without vitest, as other runtimes run the cases too. */

import type { ContractCase } from "../../../src/testing/contract.js";
import type { OpenStore } from "./lane-store.js";

/** Runs a case on a store of its own, which it closes, and says with a failure what the backend had reported. */
export async function runCase(contractCase: ContractCase, openStore: OpenStore): Promise<void> {
  const store = await openStore();
  try {
    await contractCase.run(store);
  } catch (error) {
    if (error instanceof Error && store.reports.length > 0) {
      error.message += `\nreported meanwhile:\n- ${store.reports.slice(-10).join("\n- ")}`;
    }
    throw error;
  } finally {
    await store.close();
  }
}
