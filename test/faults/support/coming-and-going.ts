/**
 * Lets members come and go in the presence `lobby` at a steady rate, and says what it has done, until it is told to stop or
 * is killed. Arguments: URL, lease, what its ids begin with, joins and leaves a second. Begins when it is told to.
 *
 * Says `ready`; then `entered` and `left`, the ids that the store has confirmed since it spoke last; at the end `present`.
 */

import { connect, type PresenceConnection } from "../../../src/index.js";
import { heard, say } from "../../support/child-side.js";

/** Who is known by everybody: each of these processes may have a connection of theirs. */
const SHARED = 10;
const TICK_MS = 20;
/** About as many are present at a time. */
const PRESENT = 150;

const [url, leaseMs, prefix, perSecond] = process.argv.slice(2);
const broker = await connect(url, { presenceLeaseMs: Number(leaseMs), onError: () => undefined });
const lobby = broker.presence("lobby");
const present: { readonly id: string; readonly connection: PresenceConnection }[] = [];
const underway = new Set<Promise<void>>();
let [entered, left]: [string[], string[]] = [[], []];
let count = 0;
let failed = 0;

async function enter(): Promise<void> {
  count += 1;
  const id = count % 20 === 0 ? `shared-${count % SHARED}` : `${prefix}-${count}`;
  const connection = await lobby.enter(id, { count });
  present.push({ id, connection });
  entered.push(id);
}

async function leave(): Promise<void> {
  const [gone] = present.splice(0, 1);
  if (gone === undefined) return;
  await gone.connection.leave();
  left.push(gone.id);
}

function begin(work: Promise<void>): void {
  const done = work
    .catch(() => {
      failed += 1;
    })
    .finally(() => underway.delete(done));
  underway.add(done);
}

let owed = 0;
let ticks = 0;
let timer: NodeJS.Timeout | undefined;
function tick(): void {
  owed += (Number(perSecond) * TICK_MS) / 1_000;
  for (; owed >= 1; owed -= 1) begin(present.length < PRESENT ? enter() : leave());
  ticks += 1;
  if (ticks % 5 === 0) tell();
}

function tell(): void {
  say({ entered, left });
  [entered, left] = [[], []];
}

say({ ready: true });
for await (const message of heard()) {
  if ("go" in message) timer = setInterval(tick, TICK_MS);
  if ("stop" in message) {
    clearInterval(timer);
    while (underway.size > 0) await Promise.all(underway);
    tell();
    say({ present: present.map(({ id }) => id), failed });
  }
}
