/** The desk: one group keeps statistics, another raises alerts, and two consumers compete for the alerts. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Context, deadLetter, type HandlerOutcome, type Message, skip, type Subscription } from "signalbox";
import { LEASE_MS, PATIENT, type Quake, type QuakeBroker } from "./contract.js";
import type { Ledger } from "./ledger.js";
import { notify } from "./live.js";

/** From this magnitude on, a quake is an alert. */
export const STRONG = 4.5;

/** Alerts are parked sooner: after four attempts, which take about a second and a half. */
const ALERTS = { maxAttempts: 4, initialMs: 200 };
const CALL_MS = 20;

/** How long things took in this run, from being published to being done (ms). */
export interface Timings {
  readonly counted: number[];
  readonly alerted: number[];
}

/** Starts both groups and, unless others handle the alerts, two consumers of those. They end with the broker. */
export async function openDesk(
  broker: QuakeBroker,
  ledger: Ledger,
  { alerts: handledBy }: { readonly alerts: "here" | "elsewhere" },
): Promise<Timings> {
  const alerts = broker.queue("alerts");
  const timings: Timings = { counted: [], alerted: [] };

  const statistics = { group: "statistics", from: "beginning", leaseMs: LEASE_MS, retry: PATIENT } as const;
  await broker.events.subscribe("quake.recorded", statistics, (quake, { attempt, message }) => {
    notify(broker, quake);
    ledger.record({ step: "counted", quake, attempts: attempt });
    timings.counted.push(Date.now() - message.time);
  });

  const alerting = { group: "alerting", from: "beginning", leaseMs: LEASE_MS, retry: PATIENT } as const;
  await broker.events.subscribe("quake.recorded", alerting, async (quake) => {
    if (quake.magnitude < STRONG) return;
    // Priorities are whole numbers. The event is acknowledged after this, so a kill may raise an alert twice, never zero times.
    await alerts.publish(quake, { priority: Math.round(quake.magnitude * 10) });
  });

  const onHandled = (message: Message): void => void timings.alerted.push(Date.now() - message.time);
  const consumers = handledBy === "here" ? 2 : 0;
  for (let consumer = 1; consumer <= consumers; consumer += 1) {
    await handleAlerts(broker, ledger, { onHandled });
  }
  return timings;
}

export interface AlertOptions {
  /** Somebody answers everywhere. */
  readonly telephone?: "mended";
  readonly onTaken?: (message: Message) => void;
  /** It is out of its hands, whatever it came to. */
  readonly onLeft?: (message: Message) => void;
  readonly onHandled?: (message: Message) => void;
}

/** Starts one consumer of the alerts. */
export async function handleAlerts(
  broker: QuakeBroker,
  ledger: Ledger,
  { telephone, onTaken, onLeft, onHandled }: AlertOptions = {},
): Promise<Subscription> {
  const handleAlert = async (
    quake: Quake,
    { attempt, message, signal }: Context<Quake>,
  ): Promise<HandlerOutcome | void> => {
    onTaken?.(message);
    try {
      if (ledger.has("alerted", quake)) return skip();
      if (!isNearTown(quake)) return deadLetter("far from any town: nobody to call");
      if (telephone !== "mended") await callTown(quake, attempt, signal);
      ledger.record({ step: "alerted", quake, attempts: attempt });
      onHandled?.(message);
    } finally {
      onLeft?.(message);
    }
  };
  return await broker.queue("alerts").subscribe({ concurrency: 2, leaseMs: LEASE_MS, retry: ALERTS }, handleAlert);
}

/** `22km NNE of Hualian, Taiwan` is near a town, `Reykjanes Ridge` is not. */
function isNearTown({ place }: Quake): boolean {
  return /^\d+\s?km /.test(place);
}

/** Stands in for a telephone. It fails by rule and not by chance, so that the desk comes to the same end each time. */
async function callTown({ place }: Quake, attempt: number, signal: AbortSignal): Promise<void> {
  // The signal ends the call when another consumer has the alert by now.
  await sleep(CALL_MS, undefined, { signal });
  if (/Antarctica|Sandwich Islands/.test(place)) throw new Error("nobody answers the telephone");
  if (place.endsWith("Taiwan") && attempt === 1) throw new Error("all lines to Taiwan are busy");
}

export interface Progress {
  readonly published: number;
  /** Events that a group has still to handle. */
  readonly unhandled: number;
  /** Alerts that wait, for a consumer or for their retry, or are being handled. */
  readonly alertsUnderWay: number;
  readonly deadLetters: number;
}

/** What is done and what is left, as the store has it. */
export async function readProgress(broker: QuakeBroker): Promise<Progress> {
  // In this order: once a group has finished an event, its alert is on the queue.
  const { length, groups } = await broker.events.stats("quake.recorded");
  const { waiting, leased, delayed, dead } = await broker.queue("alerts").stats();
  const unhandled = Math.max(...groups.map(({ lag, pending, retrying }) => lag + pending + retrying));
  return { published: length, unhandled, alertsUnderWay: waiting + leased + delayed, deadLetters: dead };
}
