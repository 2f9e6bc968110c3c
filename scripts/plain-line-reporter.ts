/** A vitest reporter whose only output is the run's last line: `N passed, N failed, N skipped`. */

import { writeSync } from "node:fs";
import type { Reporter, SerializedError, TestModule } from "vitest/node";

/** Counts a whole run; a file that could not be loaded and an error outside any test are failures too. */
export function countOutcomes(
  modules: readonly TestModule[],
  unhandled: readonly SerializedError[],
): { passed: number; failed: number; skipped: number } {
  // A run that found no test proves nothing.
  const count = { passed: 0, failed: modules.length === 0 ? 1 : unhandled.length, skipped: 0 };
  for (const module of modules) {
    count.failed += module.errors().length;
    for (const suite of module.children.allSuites()) count.failed += suite.errors().length;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      // A test still pending when the run is over never gave a verdict: that is a failure.
      count[state === "pending" ? "failed" : state] += 1;
    }
  }
  return count;
}

/** Prints the line when the process exits, because other reporters and teardown write after the run has ended. */
export function plainLineReporter(): Reporter {
  // A run that ends without a verdict, such as one whose global setup threw, has failed.
  let count = { passed: 0, failed: 1, skipped: 0 };
  return {
    onInit() {
      process.once("exit", () => {
        writeSync(1, `\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
      });
    },
    onTestRunEnd(modules, unhandled) {
      count = countOutcomes(modules, unhandled);
    },
  };
}
