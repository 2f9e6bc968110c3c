/** Queues under all that can come to them, in any order: a model says what may be delivered, and chance what happens. */

import type { ContractCase, ContractStore } from "./contract.js";
import { createRandom } from "./random.js";
import { type Chance, type QueuePlay, startQueuePlay } from "./queue-play.js";

/** What can happen, each as often as the others; some stand here more than once. */
const COMMANDS: readonly ((play: QueuePlay, chance: () => Chance) => Promise<void>)[] = [
  (play, chance) => play.push(chance(), chance(), chance()),
  (play, chance) => play.push(chance(), chance(), chance()),
  (play, chance) => play.push(chance(), chance(), chance()),
  (play, chance) => play.take(chance(), chance(), chance()),
  (play, chance) => play.take(chance(), chance(), chance()),
  (play, chance) => play.take(chance(), chance(), chance()),
  (play, chance) => play.extend(chance()),
  (play, chance) => play.reopen(chance()),
  (play, chance) => play.acknowledge(chance(), chance()),
  (play, chance) => play.remove(chance()),
  (play, chance) => play.pauseOrResume(chance()),
  (play, chance) => play.redrive(chance(), chance()),
  (play, chance) => play.elapse(chance()),
  (play) => play.check(),
];

async function run(store: ContractStore, seed: number, records?: "with records"): Promise<void> {
  const random = createRandom(seed);
  const chance = (): Chance => Math.floor(random() * 2 ** 31);
  const play = await startQueuePlay(store, records);
  for (let step = 0; step < 300; step += 1) {
    await COMMANDS[chance() % COMMANDS.length]?.(play, chance);
  }
  await play.end();
}

const SEEDS = [20_260_101, 7, 4_711];

export const queueModelCases: readonly ContractCase[] = [
  ...SEEDS.map((seed) => ({
    title: `queue: whatever comes to it, nothing is lost, held twice, out of order or counted wrongly (course ${seed})`,
    run: (store: ContractStore) => run(store, seed),
  })),
  ...SEEDS.map((seed) => ({
    title: `queue: whatever comes to it, records are what items came to, and all are found and counted (course ${seed})`,
    run: (store: ContractStore) => run(store, seed, "with records"),
  })),
];
