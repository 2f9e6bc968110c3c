/** The membership port on Redis: calls that are lost or come late, data that is lost, and what is left in the end. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Joined, Membership, NewMember } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import { type Gate, openPorts } from "./log-queue-support.js";

const LIMITS = { maxMembers: 100_000 };
const LEASE_MS = 60_000;

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
beforeEach(() => server.cli("FLUSHALL"));

const members = (...ids: readonly string[]): NewMember[] =>
  ids.map((id) => ({ id, meta: `meta of ${id}`, connections: 1 }));

async function join(membership: Membership, group: string, holder: string, ...ids: readonly string[]): Promise<Joined> {
  const joined = await membership.join(group, holder, members(...ids), LIMITS);
  if (joined === "lapsed") throw new Error("it has lapsed");
  return joined;
}

async function idsIn(membership: Membership, group: string): Promise<string[]> {
  return (await membership.list(group, { max: 1_000 })).members.map(({ id }) => id);
}

const isScript = (args: readonly unknown[]): boolean => String(args[0]).startsWith("EVAL");
const isOnGroup = (args: readonly unknown[]): boolean => isScript(args) && String(args[3]).includes(":group:");

describe("a call whose reply is lost", () => {
  test("is made again and changes nothing twice; what it had changed is told by nobody, and the version tells", async () => {
    const { membership, judge } = await openPorts(server);
    await membership.begin("h", LEASE_MS);
    await join(membership, "lobby", "h", "ada");
    // The server knows the script from then on.
    await membership.leave("lobby", "h", []);
    let lost = 0;
    judge((args) => (isOnGroup(args) && (lost += 1) === 1 ? "unanswered" : "well"));
    const joined = await join(membership, "lobby", "h", "bob");
    expect([joined.changes, joined.from]).toEqual([[], joined.version]);
    expect(await idsIn(membership, "lobby")).toEqual(["ada", "bob"]);
    expect((await membership.versions(["lobby"], "h"))[0]).toEqual({ version: joined.version, held: joined.version });
    lost = 0;
    expect((await membership.leave("lobby", "h", ["bob"])).changes).toEqual([]);
    expect(await idsIn(membership, "lobby")).toEqual(["ada"]);
  });

  test("of a lease is made again too", async () => {
    const { membership, judge } = await openPorts(server);
    let lost = 0;
    judge((args) => (isScript(args) && (lost += 1) % 2 === 1 ? "unanswered" : "well"));
    await membership.begin("h", LEASE_MS);
    expect(await membership.renew("h", LEASE_MS)).toBe("held");
    await join(membership, "lobby", "h", "ada");
    await membership.end("h");
    await membership.end("h");
    expect(await membership.renew("h", LEASE_MS)).toBe("lapsed");
    expect(await membership.lapsing()).toEqual(["h"]);
    while (!(await membership.reap("h")).isDone);
    expect([await idsIn(membership, "lobby"), await membership.lapsing()]).toEqual([[], []]);
  });
});

describe("a call that comes late", () => {
  /** Holds a call back on its way to the server, lets others overtake it, and lets it go. */
  async function overtaken(
    late: (membership: Membership) => Promise<unknown>,
    then: (membership: Membership) => Promise<unknown>,
  ) {
    const { membership, judge } = await openPorts(server);
    await membership.begin("h", LEASE_MS);
    await join(membership, "lobby", "h", "stays", "ada");
    let release = (): void => undefined;
    const sent: Gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let held = 0;
    judge((args) => (isOnGroup(args) && (held += 1) === 1 ? { sent } : "well"));
    const coming = late(membership).then(
      (result) => result,
      (error: unknown) => error,
    );
    await until(() => held > 0);
    await then(membership);
    release();
    return { result: await coming, membership };
  }

  test("does not bring back who has left since", async () => {
    const { result, membership } = await overtaken(
      (membership) => join(membership, "lobby", "h", "late"),
      (membership) => membership.leave("lobby", "h", ["late"]),
    );
    expect(result).toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await idsIn(membership, "lobby")).toEqual(["stays", "ada"]);
  });

  test("does not take away who has come back since", async () => {
    const { membership } = await overtaken(
      (membership) => membership.leave("lobby", "h", ["ada"]),
      (membership) => join(membership, "lobby", "h", "ada"),
    );
    expect(await idsIn(membership, "lobby")).toEqual(["stays", "ada"]);
  });

  test("does not bring anybody into a group that the holder has left altogether", async () => {
    const { membership } = await overtaken(
      (membership) => join(membership, "lobby", "h", "late"),
      (membership) => membership.leave("lobby", "h", ["stays", "ada", "late"]),
    );
    expect(await idsIn(membership, "lobby")).toEqual([]);
  });

  test("is refused once its holder was reaped, though it had been found alive", async () => {
    const { result, membership } = await overtaken(
      (membership) => membership.join("lobby", "h", members("late"), LIMITS),
      async (membership) => {
        await membership.end("h");
        while (!(await membership.reap("h")).isDone);
      },
    );
    expect(result).toBe("lapsed");
    expect(await idsIn(membership, "lobby")).toEqual([]);
  });

  test("is refused in a group that its holder was never in, when it was reaped in between", async () => {
    const { membership, judge } = await openPorts(server);
    await membership.begin("h", LEASE_MS);
    let release = (): void => undefined;
    const sent: Gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let held = 0;
    judge((args) => (isOnGroup(args) && (held += 1) === 1 ? { sent } : "well"));
    const joining = membership.join("new", "h", members("ada"), LIMITS);
    await until(() => held > 0);
    await membership.end("h");
    while (!(await membership.reap("h")).isDone);
    release();
    expect(await joining).toBe("lapsed");
    expect(await idsIn(membership, "new")).toEqual([]);
  });
});

describe("data that is lost", () => {
  test("with everything else makes holders lapse, and versions do not come again", async () => {
    const { membership } = await openPorts(server);
    await membership.begin("h", LEASE_MS);
    const { version } = await join(membership, "lobby", "h", "ada");
    await server.cli("FLUSHALL");
    expect(await membership.versions(["lobby"], "h")).toEqual([{ version: 0, held: 0 }]);
    expect(await membership.join("lobby", "h", members("ada"), LIMITS)).toBe("lapsed");
    expect(await membership.renew("h", LEASE_MS)).toBe("lapsed");
    await membership.begin("again", LEASE_MS);
    const joined = await join(membership, "lobby", "again", "ada");
    expect([joined.from, joined.version > version]).toEqual([0, true]);
  });

  test("of a holder alone leaves nobody behind: whoever looks at the group takes its members away, and says so", async () => {
    const { membership, reports } = await openPorts(server);
    for (const holder of ["lost", "lives"]) await membership.begin(holder, LEASE_MS);
    await join(membership, "lobby", "lost", "ada", "bob");
    const { version } = await join(membership, "lobby", "lives", "bob");
    await server.cli("DEL", ...((await server.cli("KEYS", "*:holder:lost:*")) as string[]));
    // Its lease may still be found in the list: then whoever reaps it finds that out.
    await server.cli("ZREM", "sb1:{test:holders::0}:leases", "lost");
    const [before] = await membership.versions(["lobby"], "lives");
    expect(before?.held).toBe(version);
    expect(await idsIn(membership, "lobby")).toEqual(["bob"]);
    expect(reports).toEqual([expect.stringContaining('2 of its members of "lobby"')]);
    expect(await membership.join("lobby", "lost", members("ada"), LIMITS)).toBe("lapsed");
    expect((await membership.versions(["lobby"], "lives"))[0]?.version).toBeGreaterThan(version);
    expect(reports).toHaveLength(1);
  });

  test("of a holder alone that the list of leases still knows is found when that lease is over", async () => {
    const { membership } = await openPorts(server);
    await membership.begin("lost", 100);
    await membership.begin("lives", LEASE_MS);
    await join(membership, "lobby", "lost", "ada");
    await server.cli("DEL", ...((await server.cli("KEYS", "*:holder:lost:*")) as string[]));
    await membership.versions(["lobby"], "lives");
    await until(async () => (await membership.lapsing()).length > 0);
    expect(await membership.reap("lost")).toEqual({ lapsed: [], isDone: true });
    // A process asks after a holder once in five seconds; another one asks by itself.
    const other = await openPorts(server);
    await other.membership.versions(["lobby"], "lives");
    expect(await idsIn(membership, "lobby")).toEqual([]);
  });

  test("of the list of leases comes back with the next renewal", async () => {
    const { membership } = await openPorts(server);
    await membership.begin("h", 200);
    await join(membership, "lobby", "h", "ada");
    await server.cli("DEL", "sb1:{test:holders::0}:leases");
    await membership.versions(["lobby"], "other");
    expect(await idsIn(membership, "lobby")).toEqual(["ada"]);
    expect(await membership.renew("h", 200)).toBe("held");
    await until(async () => (await membership.lapsing()).includes("h"));
  });
});

describe("what is kept", () => {
  test("of a holder and its groups is nothing in the end but what makes late calls harmless, for ten minutes", async () => {
    const { membership } = await openPorts(server);
    await membership.begin("h", LEASE_MS);
    for (const group of ["lobby", "den"]) await join(membership, group, "h", "ada", "bob");
    await membership.leave("den", "h", ["ada", "bob"]);
    expect(await server.cli("ZRANGE", "sb1:{test:holder:h:0}:groups", 0, -1)).toEqual(["lobby"]);
    await membership.end("h");
    while (!(await membership.reap("h")).isDone);
    const keys = ((await server.cli("KEYS", "*")) as string[]).toSorted();
    expect(keys).toEqual(
      ["den", "lobby"].flatMap((group) => ["fading", "state"].map((key) => `sb1:{test:group:${group}:0}:${key}`)),
    );
    for (const key of keys) {
      const ms = Number(await server.cli("PTTL", key));
      expect(ms > 590_000 && ms <= 600_000, `${key} ${ms}`).toBe(true);
    }
  });

  test("of holders that come and go in a group that lives on is forgotten after ten minutes", async () => {
    const { membership } = await openPorts(server);
    await membership.begin("stays", LEASE_MS);
    await join(membership, "lobby", "stays", "ada");
    for (let index = 0; index < 20; index += 1) {
      await membership.begin(`h${index}`, LEASE_MS);
      await join(membership, "lobby", `h${index}`, "bob");
      await membership.leave("lobby", `h${index}`, ["bob"]);
    }
    const state = "sb1:{test:group:lobby:0}:state";
    const fading = "sb1:{test:group:lobby:0}:fading";
    expect(await server.cli("HLEN", state)).toBe(22);
    for (let index = 0; index < 20; index += 1) await server.cli("ZINCRBY", fading, -600_001, `h${index}`);
    await join(membership, "lobby", "stays", "cleo");
    expect([await server.cli("HLEN", state), await server.cli("EXISTS", fading)]).toEqual([2, 0]);
    expect(await server.cli("PTTL", state)).toBe(-1);
  });

  test("a renewal costs the same for one member and for a hundred thousand", async () => {
    const { membership, judge } = await openPorts(server);
    await membership.begin("h", LEASE_MS);
    const commands = async (): Promise<number> => {
      let sent = 0;
      judge(() => {
        sent += 1;
        return "well";
      });
      await membership.renew("h", LEASE_MS);
      judge(() => "well");
      return sent;
    };
    await join(membership, "lobby", "h", "ada");
    const few = await commands();
    for (let count = 0; count < 100_000; count += 1_000)
      await join(membership, "lobby", "h", ...Array.from({ length: 1_000 }, (_, index) => `m${count + index}`));
    expect([few, await commands()]).toEqual([2, 2]);
  });
});

describe("a full server", () => {
  test("refuses to join, and lets leave, renew and reap", async () => {
    const { membership } = await openPorts(server);
    for (const holder of ["h", "dead"]) await membership.begin(holder, LEASE_MS);
    await join(membership, "lobby", "h", "ada", "bob");
    await join(membership, "lobby", "dead", "cleo");
    try {
      await server.cli("CONFIG", "SET", "maxmemory", 1);
      await expect(membership.join("lobby", "h", members("dan"), LIMITS)).rejects.toMatchObject({
        code: "OUT_OF_MEMORY",
      });
      expect(await membership.renew("h", LEASE_MS)).toBe("held");
      expect((await membership.leave("lobby", "h", ["bob"])).changes).toHaveLength(1);
      await membership.end("dead");
      while (!(await membership.reap("dead")).isDone);
      expect(await idsIn(membership, "lobby")).toEqual(["ada"]);
    } finally {
      await server.cli("CONFIG", "SET", "maxmemory", 0);
    }
    await join(membership, "lobby", "h", "dan");
  });
});
