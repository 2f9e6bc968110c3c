/** What the store itself says in a chaos run: how much is left, and in the end what. */

import type { DeadLetter } from "../../../src/core/dead-letters.js";
import type { Broker } from "../../../src/index.js";
import { connect } from "./chaos-broker.js";
import { silent } from "./chaos-child.js";
import { payloadIn, STREAM } from "./chaos-load.js";
import { itemIn, QUEUE, RECIPIENTS } from "./chaos-queue-load.js";
import { type HistoryLog, now, type Side } from "./history-log.js";

export interface AskedStore {
  /** Everything that groups and recipients have still to finish. */
  left(): Promise<number>;
  leftInQueue(): Promise<number>;
  ping(): Promise<unknown>;
  /** Writes down what there is, dead letters included. */
  noteLeft(): Promise<void>;
  close(): Promise<void>;
}

/** @param url without what stands in between @param history where it is written down */
export async function askStore(url: string, sides: readonly Side[], history: HistoryLog): Promise<AskedStore> {
  const broker = await connect(url, { logger: silent });

  async function leftInStream(): Promise<number> {
    const { groups } = await broker.events.stats(STREAM);
    return groups.reduce((sum, { lag, pending, retrying }) => sum + lag + pending + retrying, 0);
  }

  async function leftInQueue(): Promise<number> {
    const all = await Promise.all(RECIPIENTS.map((recipient) => statsOf(broker, recipient)));
    return all.reduce((sum, { waiting, leased, delayed }) => sum + waiting + leased + delayed, 0);
  }

  return {
    leftInQueue,
    ping: () => broker.ping(),
    async left() {
      const counts = sides.map((side) => (side === "events" ? leftInStream() : leftInQueue()));
      return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
    },
    async noteLeft() {
      if (sides.includes("events")) await noteGroups(broker, history);
      if (sides.includes("queue")) await noteRecipients(broker, history);
    },
    close: () => broker.close({ drainMs: 0 }),
  };
}

function statsOf(broker: Broker, recipient: string) {
  return broker.queue(QUEUE).stats(recipient === "" ? undefined : recipient);
}

async function noteGroups(broker: Broker, history: HistoryLog): Promise<void> {
  const stats = await broker.events.stats(STREAM);
  for (const { group, lag, pending, retrying, dead } of stats.groups) {
    for await (const letter of broker.events.group(STREAM, group).deadLetters()) noteLetter(history, group, letter);
    history.write({ op: "left", t: now(), group, lag, pending, retrying, dead });
  }
}

function noteLetter(history: HistoryLog, group: string, { id, message, attempts, reason }: DeadLetter): void {
  const payload = payloadIn(message?.data, message?.key);
  if (typeof payload === "string") {
    history.write({ op: "corrupt", t: now(), what: `the dead letter ${id} of ${group}: ${payload}` });
    return;
  }
  const { p, n } = payload;
  history.write({ op: "letter", t: now(), group, p, n, attempts, kind: reason.kind });
}

async function noteRecipients(broker: Broker, history: HistoryLog): Promise<void> {
  for (const r of RECIPIENTS) {
    for await (const letter of broker.queue(QUEUE).deadLetters(r === "" ? undefined : r)) {
      const { id, message, attempts, reason } = letter;
      const payload = itemIn(message?.data, message ?? {});
      if (typeof payload === "string") {
        history.write({ op: "corrupt", t: now(), what: `the dead letter ${id} of "${r}": ${payload}` });
      } else {
        const { p, n } = payload;
        history.write({ op: "itemLetter", t: now(), r, p, n, attempts, kind: reason.kind });
      }
    }
    const { waiting, leased, delayed, dead, expired, dropped } = await statsOf(broker, r);
    history.write({ op: "itemsLeft", t: now(), r, waiting, leased, delayed, dead, expired, dropped });
  }
}
