/** For whoever tests a backend, or with one: the contract as plain data, a clock that stands still, a way to wait. */

import { broadcastCases } from "./broadcast-cases.js";
import type { ContractCase } from "./contract.js";
import { expiryCases } from "./expiry-cases.js";
import { feedCases } from "./feed-cases.js";
import { groupCases } from "./group-cases.js";
import { leaseCases } from "./lease-cases.js";
import { letterCases } from "./letter-cases.js";
import { lifecycleCases } from "./lifecycle-cases.js";
import { logCases } from "./log-cases.js";
import { nameCases } from "./name-cases.js";
import { payloadCases } from "./payload-cases.js";
import { queueCases } from "./queue-cases.js";
import { retentionCases } from "./retention-cases.js";
import { waitCases } from "./wait-cases.js";

// The ports, for whoever writes a backend and tests it with the cases below.
export type { Backend, BackendContext, Broadcast, DeadLetters, Feed, Log, Membership, Queue } from "../core/backend.js";
export type { ContractCase, ContractStore } from "./contract.js";
export { createFakeClock, type FakeClock } from "./fake-clock.js";
export { until } from "./waiting.js";

/** Everything that a backend has to do, in the order in which one would build it. */
export const contractCases: readonly ContractCase[] = [
  ...lifecycleCases,
  ...broadcastCases,
  ...logCases,
  ...groupCases,
  ...retentionCases,
  ...queueCases,
  ...expiryCases,
  ...feedCases,
  ...waitCases,
  ...leaseCases,
  ...letterCases,
  ...payloadCases,
  ...nameCases,
];
