/** Presence under any commands in any order, the same on every backend: a model says who is present. */

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Broker, Presence, PresenceConnection } from "../../src/index.js";
import { type Lane, onEveryBackend } from "../facades/support/lanes.js";
import { type Watcher, watching } from "../facades/support/watching.js";
import { until } from "../support/wait.js";

const IDS = ["ada", "bob", "cleo", "dan"];
const METAS = ["here", "away", null, { at: "desk" }];
const BROKERS = 3;

/** One connection as the model has it. */
interface Seat {
  readonly broker: number;
  readonly id: string;
  meta: unknown;
  readonly connection: PresenceConnection;
}

/** What the model knows: all connections, the one whose meta was given last at the end. */
interface Model {
  seats: Seat[];
}

interface Real {
  readonly lane: Lane;
  readonly name: string;
  readonly brokers: Broker[];
  readonly watchers: Watcher[];
}

function lobbyOf({ brokers, name }: Real, broker: number): Presence {
  return brokers[broker]!.presence(name);
}

async function newBroker(real: Real, at: number): Promise<void> {
  real.brokers[at] = await real.lane.open();
}

type Command = fc.AsyncCommand<Model, Real>;

class Enter implements Command {
  constructor(
    readonly broker: number,
    readonly id: string,
    readonly meta: unknown,
  ) {}
  check = (): boolean => true;
  async run(model: Model, real: Real): Promise<void> {
    const connection = await lobbyOf(real, this.broker).enter(this.id, this.meta);
    model.seats.push({ broker: this.broker, id: this.id, meta: this.meta, connection });
  }
  toString = (): string => `${this.id} enters at ${this.broker} with ${JSON.stringify(this.meta)}`;
}

class Update implements Command {
  constructor(
    readonly pick: number,
    readonly meta: unknown,
  ) {}
  check = ({ seats }: Model): boolean => seats.length > 0;
  async run(model: Model): Promise<void> {
    const seat = model.seats[this.pick % model.seats.length]!;
    await seat.connection.update(this.meta);
    model.seats = [...model.seats.filter((one) => one !== seat), { ...seat, meta: this.meta }];
  }
  toString = (): string => `connection ${this.pick} changes to ${JSON.stringify(this.meta)}`;
}

class Leave implements Command {
  constructor(readonly pick: number) {}
  check = ({ seats }: Model): boolean => seats.length > 0;
  async run(model: Model): Promise<void> {
    const seat = model.seats[this.pick % model.seats.length]!;
    await seat.connection.leave();
    model.seats = model.seats.filter((one) => one !== seat);
  }
  toString = (): string => `connection ${this.pick} leaves`;
}

/** Several at the same time, at different brokers: which comes last, nobody knows, so that they are of different members. */
class Rush implements Command {
  constructor(readonly broker: number) {}
  check = (): boolean => true;
  async run(model: Model, real: Real): Promise<void> {
    const entering = IDS.map(async (id, index): Promise<Seat> => {
      const broker = (this.broker + index) % BROKERS;
      const meta = { rush: index };
      return { broker, id, meta, connection: await lobbyOf(real, broker).enter(id, meta) };
    });
    model.seats.push(...(await Promise.all(entering)));
  }
  toString = (): string => "all enter at once";
}

class Restart implements Command {
  constructor(readonly broker: number) {}
  check = (): boolean => true;
  async run(model: Model, real: Real): Promise<void> {
    await real.brokers[this.broker]!.close();
    model.seats = model.seats.filter(({ broker }) => broker !== this.broker);
    await newBroker(real, this.broker);
  }
  toString = (): string => `broker ${this.broker} closes, and another opens`;
}

class Watch implements Command {
  constructor(readonly broker: number) {}
  check = (): boolean => true;
  async run(_model: Model, real: Real): Promise<void> {
    const watcher = await watching(lobbyOf(real, this.broker));
    real.watchers.push(watcher);
  }
  toString = (): string => `somebody watches at ${this.broker}`;
}

/** How many connections each member has. What is shown of several is for the next test. */
function countsOf({ seats }: Model): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { id } of seats) counts[id] = (counts[id] ?? 0) + 1;
  return counts;
}

class Look implements Command {
  constructor(readonly broker: number) {}
  check = (): boolean => true;
  async run(model: Model, real: Real): Promise<void> {
    const { list, count, get, isPresent } = lobbyOf(real, this.broker);
    const { members } = await list();
    const counts = countsOf(model);
    expect(Object.fromEntries(members.map(({ id, connections }) => [id, connections]))).toEqual(counts);
    expect(await count()).toBe(Object.keys(counts).length);
    for (const id of IDS) {
      expect(await isPresent(id)).toBe(counts[id] !== undefined);
      const own = model.seats.filter((seat) => seat.id === id);
      // One of its own metas; the last one given, where one process holds it alone.
      const metas = new Set(own.map(({ broker }) => broker)).size === 1 ? own.slice(-1) : own;
      if (own.length > 0) expect(metas.map(({ meta }) => meta)).toContainEqual((await get(id))?.meta);
      else expect(await get(id)).toBeUndefined();
    }
  }
  toString = (): string => `look at ${this.broker}`;
}

const broker = fc.nat({ max: BROKERS - 1 });
const commands = fc.commands(
  [
    fc
      .tuple(broker, fc.constantFrom(...IDS), fc.constantFrom(...METAS))
      .map(([at, id, meta]) => new Enter(at, id, meta)),
    fc.tuple(fc.nat(), fc.constantFrom(...METAS)).map(([pick, meta]) => new Update(pick, meta)),
    fc.nat().map((pick) => new Leave(pick)),
    broker.map((at) => new Rush(at)),
    broker.map((at) => new Restart(at)),
    broker.map((at) => new Watch(at)),
    broker.map((at) => new Look(at)),
  ],
  { maxCommands: 40 },
);

onEveryBackend("whatever is done with presence", (lane) => {
  test("lists and watchers come to what the model says", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(commands, async (all) => {
        const model: Model = { seats: [] };
        const real: Real = { lane, name: lane.unique("lobby"), brokers: [], watchers: [] };
        for (let at = 0; at < BROKERS; at += 1) await newBroker(real, at);
        await fc.asyncModelRun(() => ({ model, real }), all);
        const witness = await watching(lobbyOf(real, 0));
        await new Look(1).run(model, real);
        const inOrder = (counts: readonly (readonly [string, number])[]): string =>
          JSON.stringify(counts.toSorted(([one], [other]) => one.localeCompare(other)));
        const expected = inOrder(Object.entries(countsOf(model)));
        // Those whose broker was closed have ended, and know what they knew.
        const open = real.watchers.filter((watcher) => watcher.isOpen());
        await until(
          () =>
            [witness, ...open].every(({ present }) => {
              const seen = [...present.values()].map(({ id, connections }) => [id, connections] as const);
              return inOrder(seen) === expected;
            }),
          { what: `${expected} to be seen` },
        );
        expect([witness, ...real.watchers].flatMap(({ problems }) => problems)).toEqual([]);
        await Promise.all(real.brokers.map((one) => one.close()));
      }),
      { numRuns: lane.name === "memory" ? 100 : 20 },
    );
  });
});
