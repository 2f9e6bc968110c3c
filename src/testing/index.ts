/** For whoever tests a backend, or with one: the contract as plain data, a clock that stands still, a way to wait. */

import { acknowledgeCases } from "./acknowledge-cases.js";
import { ageCases } from "./age-cases.js";
import { audienceCases } from "./audience-cases.js";
import { broadcastCases } from "./broadcast-cases.js";
import { browseCases } from "./browse-cases.js";
import { broadcastPayloadCases } from "./broadcast-payload-cases.js";
import type { ContractCase } from "./contract.js";
import { dedupeCases } from "./dedupe-cases.js";
import { expiryCases } from "./expiry-cases.js";
import { feedCases } from "./feed-cases.js";
import { groupCases } from "./group-cases.js";
import { groupChangeCases } from "./group-change-cases.js";
import { inboxPauseCases } from "./inbox-pause-cases.js";
import { itemCases } from "./item-cases.js";
import { leaseCases } from "./lease-cases.js";
import { letterCases } from "./letter-cases.js";
import { letterChangeCases } from "./letter-change-cases.js";
import { lifecycleCases } from "./lifecycle-cases.js";
import { limitCases } from "./limit-cases.js";
import { logCases } from "./log-cases.js";
import { logStatsCases } from "./log-stats-cases.js";
import { membershipCases } from "./membership-cases.js";
import { membershipPageCases } from "./membership-page-cases.js";
import { membershipReapCases } from "./membership-reap-cases.js";
import { modelCases } from "./model-cases.js";
import { nameCases } from "./name-cases.js";
import { orderCases } from "./order-cases.js";
import { pauseCases } from "./pause-cases.js";
import { payloadCases } from "./payload-cases.js";
import { queueBetweenCases } from "./queue-between-cases.js";
import { queueCases } from "./queue-cases.js";
import { recipientCases } from "./recipient-cases.js";
import { queueDedupeCases } from "./queue-dedupe-cases.js";
import { queueEdgeCases } from "./queue-edge-cases.js";
import { queueLimitCases } from "./queue-limit-cases.js";
import { queueModelCases } from "./queue-model-cases.js";
import { queueStatsCases } from "./queue-stats-cases.js";
import { recordCases } from "./record-cases.js";
import { redriveCases } from "./redrive-cases.js";
import { redrivePlaceCases } from "./redrive-place-cases.js";
import { replyCases } from "./reply-cases.js";
import { retentionCases } from "./retention-cases.js";
import { seekCases } from "./seek-cases.js";
import { strictOrderCases } from "./strict-order-cases.js";
import { waitCases } from "./wait-cases.js";
import { weightedCases } from "./weighted-cases.js";

// The ports, for whoever writes a backend and tests it with the cases below.
export type { Backend, BackendContext, Broadcast, DeadLetters, Feed, Log, Membership, Queue } from "../core/backend.js";
export type { ContractCase, ContractStore } from "./contract.js";
export { createFakeClock, type FakeClock } from "./fake-clock.js";
export { until } from "./waiting.js";

/** Everything that a backend has to do, in the order in which one would build it. */
export const contractCases: readonly ContractCase[] = [
  ...lifecycleCases,
  ...broadcastCases,
  ...broadcastPayloadCases,
  ...logCases,
  ...dedupeCases,
  ...groupCases,
  ...retentionCases,
  ...limitCases,
  ...ageCases,
  ...queueCases,
  ...expiryCases,
  ...feedCases,
  ...waitCases,
  ...leaseCases,
  ...letterCases,
  ...letterChangeCases,
  ...redriveCases,
  ...redrivePlaceCases,
  ...orderCases,
  ...strictOrderCases,
  ...seekCases,
  ...pauseCases,
  ...groupChangeCases,
  ...logStatsCases,
  ...modelCases,
  ...membershipCases,
  ...membershipReapCases,
  ...membershipPageCases,
  ...payloadCases,
  ...nameCases,
  ...recipientCases,
  ...audienceCases,
  ...weightedCases,
  ...browseCases,
  ...itemCases,
  ...recordCases,
  ...acknowledgeCases,
  ...inboxPauseCases,
  ...queueLimitCases,
  ...queueEdgeCases,
  ...queueDedupeCases,
  ...replyCases,
  ...queueBetweenCases,
  ...queueStatsCases,
  ...queueModelCases,
];
