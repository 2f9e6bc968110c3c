/** The faults of a chaos run: each strikes, is over, and says from when on work can go on. */

import { pause } from "../../support/wait.js";
import type { Crew, Member } from "./chaos-crew.js";
import { failovers } from "./chaos-failovers.js";
import { ALONE, ANYWHERE, type Fault, lasting, type Struck } from "./chaos-fault.js";
import { awaitWritable, STREAM_KEY, type Topology } from "./chaos-sites.js";
import { now } from "./history-log.js";
import { type FlawKind, randomFlaw } from "./proxy-flaws.js";
import type { Random } from "./random.js";

const MEMORY_FULL = "1mb";

const servers: readonly Fault[] = [
  {
    kind: "server-killed",
    topologies: ALONE,
    copies: 3,
    stalls: true,
    rollsBack: false,
    mayBeQuiet: true,
    async strike(field) {
      const server = await field.site.primary();
      const killedAt = now();
      await server.kill();
      await pause(lasting(field, 0, 1_500));
      await server.restart();
      return { killedAt, writableAt: await awaitWritable([server]) };
    },
  },
  {
    kind: "server-frozen",
    topologies: ALONE,
    copies: 2,
    stalls: true,
    rollsBack: false,
    mayBeQuiet: true,
    async strike(field) {
      const server = await field.site.primary();
      server.pause();
      await pause(lasting(field, 300, 4_500));
      server.resume();
      return { writableAt: await awaitWritable([server]) };
    },
  },
  {
    kind: "server-asleep",
    topologies: ANYWHERE,
    copies: 1,
    stalls: true,
    rollsBack: false,
    mayBeQuiet: true,
    async strike({ site, random }) {
      const server = await site.primary();
      // Shorter than what makes others believe it is dead.
      await server.cli("DEBUG", "SLEEP", String(random.int(100, 600) / 1_000));
      return { writableAt: now() };
    },
  },
  {
    kind: "clients-paused",
    topologies: ANYWHERE,
    copies: 2,
    stalls: true,
    rollsBack: false,
    mayBeQuiet: true,
    async strike({ site, random }) {
      const server = await site.primary();
      const ms = random.int(200, site.topology === "standalone" ? 2_500 : 700);
      await server.cli("CLIENT", "PAUSE", ms, random.pick(["WRITE", "ALL"]));
      // On a machine that is too busy the others may have taken it for dead.
      return { writableAt: await awaitWritable(site.nodes) };
    },
  },
  {
    kind: "clients-killed",
    topologies: ANYWHERE,
    copies: 2,
    stalls: false,
    rollsBack: false,
    mayBeQuiet: true,
    async strike({ site, random }) {
      const server = await site.primary();
      for (let times = random.int(1, 3); times > 0; times -= 1) {
        await server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
        await pause(random.int(0, 120));
      }
      return { writableAt: now() };
    },
  },
  {
    kind: "subscribers-killed",
    topologies: ANYWHERE,
    copies: 1,
    stalls: false,
    rollsBack: false,
    mayBeQuiet: false,
    async strike({ site }) {
      const watched = [...site.nodes, ...(site.sentinels ?? [])];
      await Promise.all(watched.map((server) => server.cli("CLIENT", "KILL", "TYPE", "pubsub")));
      return { writableAt: now() };
    },
  },
  {
    kind: "scripts-flushed",
    topologies: ANYWHERE,
    copies: 2,
    stalls: false,
    rollsBack: false,
    mayBeQuiet: true,
    async strike({ site }) {
      await (await site.primary()).cli("SCRIPT", "FLUSH", "SYNC");
      return { writableAt: now() };
    },
  },
  {
    kind: "memory-full",
    topologies: ANYWHERE,
    copies: 2,
    stalls: false,
    rollsBack: false,
    mayBeQuiet: false,
    async strike(field) {
      const server = await field.site.primary();
      await server.cli("CONFIG", "SET", "maxmemory", MEMORY_FULL);
      await pause(lasting(field, 200, 1_200));
      await server.cli("CONFIG", "SET", "maxmemory", "0");
      return { writableAt: now() };
    },
  },
];

/** Frozen, and thawed again. */
async function freeze(member: Member | undefined, ms: number): Promise<Struck> {
  member?.child.kill("SIGSTOP");
  await pause(ms);
  member?.child.kill("SIGCONT");
  return { writableAt: now() };
}

/** Killed, and replaced by another that knows nothing. */
async function replace(crew: Crew, member: Member | undefined): Promise<Struck> {
  if (member === undefined) return { writableAt: now() };
  await crew.kill(member);
  const writableAt = now();
  const replaced = crew.start(member.role);
  // Whoever waits for it may do so later: the others have to go on without it.
  replaced.catch(() => undefined);
  return { writableAt, tidy: async () => void (await replaced) };
}

const processes: readonly Fault[] = (["publisher", "consumer"] as const).flatMap((kind): Fault[] => [
  {
    kind: `${kind}-killed`,
    topologies: ANYWHERE,
    copies: kind === "consumer" ? 2 : 1,
    stalls: false,
    rollsBack: false,
    mayBeQuiet: kind === "consumer",
    strike: ({ crew, random }) => replace(crew, random.pick(crew.members(kind))),
  },
  {
    kind: `${kind}-frozen`,
    topologies: ANYWHERE,
    copies: 1,
    stalls: true,
    rollsBack: false,
    mayBeQuiet: kind === "consumer",
    strike: (field) => freeze(field.random.pick(field.crew.members(kind)), lasting(field, 500, 4_500)),
  },
]);

/** How long each kind of bad link lasts at most (ms). */
const LINKS: Readonly<Record<FlawKind, number>> = {
  cut: 100,
  "half-close": 800,
  delay: 1_500,
  truncate: 500,
  trickle: 1_500,
  split: 1_000,
  merge: 1_500,
  hole: 2_500,
};

const links: readonly Fault[] = Object.entries(LINKS).map(([kind, longestMs]): Fault => {
  return {
    kind: `link-${kind}`,
    topologies: ALONE,
    copies: kind === "hole" || kind === "cut" ? 2 : 1,
    stalls: longestMs >= 1_000,
    rollsBack: false,
    mayBeQuiet: true,
    async strike(field) {
      const { proxy } = field.site;
      proxy?.impose(randomFlaw(field.random, [kind as FlawKind])); // from the list above
      await pause(lasting(field, longestMs / 5, longestMs));
      proxy?.heal();
      return { writableAt: now() };
    },
  };
});

/** Drawn by no deck: for scripts that name them. */
const named: readonly Fault[] = [
  {
    kind: "calm",
    topologies: ANYWHERE,
    copies: 0,
    stalls: false,
    rollsBack: false,
    mayBeQuiet: true,
    async strike(field) {
      await pause(lasting(field, 100, 1_000));
      return { writableAt: now() };
    },
  },
  {
    kind: "group-destroyed",
    topologies: ALONE,
    copies: 0,
    stalls: true,
    // What the group knew is gone: it begins anew with the oldest entry.
    rollsBack: true,
    mayBeQuiet: true,
    async strike({ site, crew }) {
      const { config } = crew.members("consumer")[0]?.role ?? {};
      const group = config !== undefined && "group" in config ? config.group.name : "";
      await (await site.primary()).cli("XGROUP", "DESTROY", STREAM_KEY, group);
      return { writableAt: now() };
    },
  },
  {
    kind: "link-forgotten",
    topologies: ALONE,
    copies: 0,
    stalls: true,
    rollsBack: false,
    mayBeQuiet: true,
    async strike(field) {
      field.site.proxy?.impose({ kind: "hole", direction: "both", afterwards: "silence" });
      await pause(lasting(field, 500, 1_000));
      field.site.proxy?.heal();
      return { writableAt: now() };
    },
  },
];

const FAULTS: readonly Fault[] = [...servers, ...processes, ...links, ...failovers, ...named];

/** What can happen there. */
export function faultsOf(topology: Topology): Fault[] {
  return FAULTS.filter(({ topologies }) => topologies.includes(topology));
}

/** Draws faults for ever: each as often as it has copies before any comes again, no two failovers in a row. */
export class Deck {
  readonly #faults: readonly Fault[];
  readonly #random: Random;
  #cards: Fault[] = [];
  #sinceFailover = Number.POSITIVE_INFINITY;

  constructor(faults: readonly Fault[], random: Random) {
    this.#faults = faults;
    this.#random = random;
  }

  draw(): Fault {
    if (this.#cards.length === 0)
      this.#cards = this.#random.shuffled(
        this.#faults.flatMap((fault) => Array.from({ length: fault.copies }, () => fault)),
      );
    const isAllowed = ({ failsOver }: Fault): boolean => failsOver !== true || this.#sinceFailover >= APART;
    const index = Math.max(0, this.#cards.findIndex(isAllowed));
    const [fault] = this.#cards.splice(index, 1);
    this.#sinceFailover = fault?.failsOver === true ? 0 : this.#sinceFailover + 1;
    return fault!; // the deck was not empty
  }
}

/** Other faults between two failovers. */
const APART = 2;
