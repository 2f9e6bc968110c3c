/** A model of presence under load: what processes say they have done, what watchers see, and whether the two agree. */

import { expect } from "vitest";
import { connect, type PresenceChange, type PresentMember } from "../../../src/index.js";
import { silentLogger } from "../../facades/support/lanes.js";
import type { Child } from "../../support/children.js";
import { pause, until } from "../../support/wait.js";
import { START_MS, startProgram } from "./programs.js";

export interface Course {
  readonly url: string;
  /** How long members come and go. */
  readonly seconds: number;
  /** Joins and leaves a second, of all processes together. */
  readonly perSecond: number;
  /** Processes at a time. */
  readonly processes: number;
  /** One of them is killed every so often, and another takes its place. */
  readonly killEveryMs: number;
}

const LEASE_MS = 3_000;
/** From a kill to the last watcher's seeing the last member leave. */
const GONE_MS = LEASE_MS + 2_000;
/** On a machine that has more to do than it can. */
const SLACK_MS = 1_500;

/** What one watcher saw of each member, by when. */
class Witness {
  readonly present = new Map<string, PresentMember>();
  readonly joined = new Map<string, number>();
  readonly left = new Map<string, { count: number; at: number }>();
  readonly problems: string[] = [];

  take(change: PresenceChange): void {
    if (change.kind === "snapshot") {
      for (const member of change.members) this.present.set(member.id, member);
      return;
    }
    const { kind, member } = change;
    const { id } = member;
    if (this.present.has(id) === (kind === "joined")) this.problems.push(`${kind} ${id}, out of order`);
    if (kind === "left") {
      this.present.delete(id);
      this.left.set(id, { count: (this.left.get(id)?.count ?? 0) + 1, at: performance.now() });
    } else {
      this.present.set(id, member);
      if (kind === "joined") this.joined.set(id, (this.joined.get(id) ?? 0) + 1);
    }
  }
}

/** One process, and what it has said. */
class Holder {
  readonly child: Child;
  readonly perSecond: number;
  killedAt: number | undefined;
  #read = 0;
  readonly present = new Set<string>();
  done = 0;

  constructor(child: Child, perSecond: number) {
    this.child = child;
    this.perSecond = perSecond;
  }

  /** Takes in what it has said since. Ids that several processes use are counted, and no more. */
  hear(): void {
    for (const message of this.child.messages.slice(this.#read)) {
      this.#read += 1;
      const { entered = [], left = [] } = message as { entered?: string[]; left?: string[] };
      this.done += entered.length + left.length;
      for (const id of entered) this.present.add(id);
      for (const id of left) this.present.delete(id);
    }
  }
}

export interface Findings {
  /** Joins and leaves that the store has confirmed. */
  readonly done: number;
  readonly perSecond: number;
  readonly kills: number;
  /** The longest that a killed process's member was seen for, by any watcher. */
  readonly longestMs: number;
  /** Members that watchers saw join and leave. */
  readonly seen: number;
}

/** @throws {Error} an assertion's, where what was seen is not what was done */
export async function runPresenceModel(course: Course): Promise<Findings> {
  const brokers = await Promise.all(
    [1, 2].map(() => connect(course.url, { presenceLeaseMs: LEASE_MS, logger: silentLogger })),
  );
  const witnesses = brokers.map(() => new Witness());
  const watching = brokers.map(async (broker, index) => {
    for await (const change of broker.presence("lobby").watch({ buffer: 100_000 })) witnesses[index]?.take(change);
  });
  const all: Holder[] = [];
  try {
    const kills = await load(course, all);
    const living = all.filter(({ killedAt }) => killedAt === undefined);
    const present = (await Promise.all(living.map(stop))).flat();
    await pause(GONE_MS);
    await expectAgreement(brokers[0]!.presence("lobby"), witnesses, present);
    const longestMs = expectGoneInTime(all, witnesses);
    for (const holder of all) holder.hear();
    const done = all.reduce((sum, holder) => sum + holder.done, 0);
    const seen = witnesses[0]?.left.size ?? 0;
    return { done, perSecond: Math.round(done / course.seconds), kills, longestMs, seen };
  } finally {
    await Promise.all(all.map(({ child }) => child.stop()));
    await Promise.all(brokers.map((broker) => broker.close({ drainMs: 0 })));
    await Promise.all(watching);
  }
}

/** @returns how many were killed */
async function load({ url, seconds, perSecond, processes, killEveryMs }: Course, all: Holder[]): Promise<number> {
  const kills = Math.floor((seconds * 1_000 - 1) / killEveryMs);
  const rate = perSecond / processes;
  // All of them are started before: a start costs more than all that is measured.
  const ready = await Promise.all(
    Array.from({ length: processes + kills }, async (_, index) => {
      const child = startProgram("coming-and-going", [url, LEASE_MS, `p${index}`, rate]);
      all.push(new Holder(child, rate));
      await child.next((message) => "ready" in message, 3 * START_MS);
    }),
  );
  expect(ready).toHaveLength(processes + kills);
  const startedAt = performance.now();
  let started = 0;
  const go = (): void => {
    all[started]?.child.send({ go: true });
    started += 1;
  };
  for (let index = 0; index < processes; index += 1) go();
  for (let kill = 0; kill < kills; kill += 1) {
    await pause(startedAt + (kill + 1) * killEveryMs - performance.now());
    const victim = all[kill];
    victim?.child.kill("SIGKILL");
    if (victim !== undefined) victim.killedAt = performance.now();
    go();
  }
  await pause(startedAt + seconds * 1_000 - performance.now());
  return kills;
}

async function stop({ child }: Holder): Promise<readonly string[]> {
  child.send({ stop: true });
  const { present, failed } = await child.next((message) => "present" in message, START_MS);
  expect(failed).toBe(0);
  return present as string[];
}

/** The list, both watchers and the processes that live say the same. */
async function expectAgreement(
  lobby: ReturnType<Awaited<ReturnType<typeof connect>>["presence"]>,
  witnesses: readonly Witness[],
  present: readonly string[],
): Promise<void> {
  const expected = new Map<string, number>();
  for (const id of present) expected.set(id, (expected.get(id) ?? 0) + 1);
  const listed: PresentMember[] = [];
  let cursor: string | undefined;
  do {
    const page = await lobby.list({ limit: 1_000, ...(cursor !== undefined && { cursor }) });
    listed.push(...page.members);
    cursor = page.cursor;
  } while (cursor !== undefined);
  const asText = (members: Iterable<PresentMember>): string[] =>
    [...members].map(({ id, connections }) => `${id}*${connections}`).toSorted();
  expect(asText(listed)).toEqual([...expected].map(([id, connections]) => `${id}*${connections}`).toSorted());
  await until(() => witnesses.every((witness) => asText(witness.present.values()).join() === asText(listed).join()), {
    what: "the watchers to see what is listed",
  });
  for (const { problems } of witnesses) expect(problems).toEqual([]);
}

/** @returns the longest that it took until a killed process's member was gone */
function expectGoneInTime(all: readonly Holder[], witnesses: readonly Witness[]): number {
  let longestMs = 0;
  for (const witness of witnesses) {
    const isOwn = (id: string): boolean => !id.startsWith("shared-");
    // An id of one process is entered once: it joins once, and leaves once if it has left.
    const twice = [...witness.joined].filter(([id, count]) => isOwn(id) && count > 1);
    const leftTwice = [...witness.left].filter(([id, { count }]) => isOwn(id) && count > 1);
    expect([twice, leftTwice]).toEqual([[], []]);
    for (const [index, { killedAt }] of all.entries()) {
      if (killedAt === undefined) continue;
      const late = [...witness.left].filter(([id, { at }]) => id.startsWith(`p${index}-`) && at > killedAt);
      // It was killed amid its work: somebody of it was present.
      expect(late.length).toBeGreaterThan(10);
      longestMs = Math.max(longestMs, ...late.map(([, { at }]) => at - killedAt));
    }
  }
  expect(longestMs).toBeLessThan(GONE_MS + SLACK_MS);
  return Math.round(longestMs);
}
