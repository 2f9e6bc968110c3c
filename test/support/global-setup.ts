/** Vitest's global setup: makes the servers and runtimes of the tests available before the first test file. */

import type { TestProject } from "vitest/node";
import { compileForChildren, removeCompiled } from "./compiled.js";
import { binaryVariables, ensureNode24, ensureRedisServer, ensureValkey } from "./install.js";

/** Installs what is missing, all at once, and tells the test processes through their environment. */
export async function setup(project: TestProject): Promise<void> {
  const found = [ensureRedisServer(), ensureValkey(), ensureNode24(), compileForChildren()] as const;
  const [redis, valkey, node24] = await Promise.all(found);
  project.onTestsRerun(compileForChildren);
  process.env[binaryVariables.redis] = redis;
  process.env[binaryVariables.valkey] = valkey ?? "off";
  process.env[binaryVariables.node24] = node24 ?? "off";
}

export async function teardown(): Promise<void> {
  await removeCompiled();
}
