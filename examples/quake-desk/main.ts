/** The quake desk: plays a feed of earthquakes through a broker. Reads the arguments and puts the parts together. */

import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, connect, SignalboxError } from "signalbox";
import { HELP, readArguments, type Arguments } from "./arguments.js";
import { reportAfterwards } from "./afterwards.js";
import { contract, LEASE_MS, type Quake, type QuakeBroker } from "./contract.js";
import { openDesk, readProgress } from "./desk.js";
import { Failure } from "./failure.js";
import { readFeed } from "./feed.js";
import { type Entry, openLedger } from "./ledger.js";
import { lookOn } from "./live.js";
import { enterParts, runningParts } from "./parts.js";
import { play, playedSoFar } from "./play.js";
import { count, createLogger, createProgressView } from "./progress.js";
import { ledgerFileOf, removeStore } from "./state.js";
import { summarise } from "./summary.js";
import { startTriage } from "./triage.js";

const LOOK_EVERY_MS = 100;

async function main(): Promise<void> {
  const options = readArguments(process.argv.slice(2));
  if (options.help) return console.log(HELP);
  const quakes = await readFeed(options.input);
  if (options.fresh) removeStore(options.url);

  const stop = new AbortController();
  // A terminal and npm may both pass on one Ctrl-C: the second must not cut the first one's draining short.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());

  // Leaving this function closes the broker, which drains: handlers finish, and what they did is acknowledged.
  const logger = createLogger(process.stderr);
  const settings = { contract, namespace: "quake-desk", logger, presenceLeaseMs: LEASE_MS };
  await using broker = await connect(options.url, settings);
  if (options.afterwards) console.log(await reportAfterwards(broker, openLedger(ledgerFileOf(options.url))));
  else await run(broker, quakes, options, stop);
}

async function run(
  broker: QuakeBroker,
  quakes: readonly Quake[],
  { url, hoursPerSecond, triage: isTriaged }: Arguments,
  stop: AbortController,
): Promise<void> {
  const ledger = openLedger(ledgerFileOf(url));
  // In this order: another desk may be at it, and counts what it has published.
  const counted = ledger.entries("counted");
  const before = await playedSoFar(broker);
  if (before > 0) {
    assertSameFeed(quakes, before, counted);
    console.log(`Going on: ${count(before)} of ${count(quakes.length)} quakes were published before.`);
  }

  const startedAt = performance.now();
  const heard = await lookOn(broker);
  const timings = await openDesk(broker, ledger, { alerts: isTriaged ? "elsewhere" : "here" });
  await using triage = isTriaged ? startTriage(url, (tookMs) => timings.alerted.push(tookMs)) : undefined;
  await enterParts(broker);
  let playing = true;
  const [played, done] = await Promise.all([
    play(broker, quakes, hoursPerSecond, ledger, stop.signal).finally(() => {
      playing = false;
    }),
    watch(broker, quakes.length, () => playing, stop.signal),
  ]).catch((error: unknown) => {
    stop.abort(); // So that the other one ends too.
    throw error;
  });
  const totalMs = performance.now() - startedAt;

  const published = await playedSoFar(broker);
  if (!done) {
    console.log(`Stopped: ${count(published)} of ${count(quakes.length)} quakes are published.`);
    if (broker.backend !== "memory") console.log("The same command goes on from there.");
    return;
  }
  console.log(await summarise(broker, ledger, { published, played, totalMs, timings }));
  if (triage !== undefined) console.log(triage.report());
  console.log(heard());
  console.log(`Running     ${await runningParts(broker)}`);
  if (broker.backend !== "memory")
    console.log("\nTo put failed alerts back, and read the busiest day again: npm start -- --afterwards");
  if (broker.backend === "sqlite") console.log("To play it again, from the beginning: npm start -- --fresh");
  if (broker.backend === "redis") console.log("To play it again, empty the store or name another database.");
}

/** Shows the progress until nothing is left to do, or the signal aborts. Resolves with whether nothing is left. */
async function watch(
  broker: QuakeBroker,
  total: number,
  isPlaying: () => boolean,
  signal: AbortSignal,
): Promise<boolean> {
  const view = createProgressView(total, process.stdout);
  try {
    for (;;) {
      const playing = isPlaying();
      const progress = await readProgress(broker);
      view.show(progress);
      if (!playing && progress.unhandled === 0 && progress.alertsUnderWay === 0) return progress.published === total;
      if (!playing && signal.aborted) return false;
      await sleep(LOOK_EVERY_MS);
    }
  } finally {
    view.end();
  }
}

/** A length or a ledger that another feed left behind would make this one's numbers wrong. */
function assertSameFeed(quakes: readonly Quake[], before: number, counted: readonly Entry[]): void {
  const ids = new Set(quakes.slice(0, before).map(({ id }) => id));
  if (before > quakes.length || counted.some(({ quake }) => !ids.has(quake.id))) {
    throw new Failure("the store holds another feed: add --fresh to begin with this one, or name another --url");
  }
}

try {
  await main();
} catch (error) {
  // What the user can mend takes a line; anything else is a bug, and its stack helps.
  const known = error instanceof Failure || error instanceof SignalboxError;
  console.error(known ? `quake-desk: ${error.message}` : error);
  const wronglyCalled = error instanceof Failure ? error.exitCode === 2 : error instanceof ConfigError;
  process.exitCode = wronglyCalled ? 2 : 1;
}
