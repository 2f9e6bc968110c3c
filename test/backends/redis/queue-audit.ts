/** Looks a server over: whether what its keys say of queues fits together, whatever came to them. */

import { listOf, textOf } from "../../../src/backends/redis/blob.js";
import { isReplyInbox } from "../../../src/core/private-recipients.js";
import type { Connection } from "../../../src/backends/redis/connection.js";
import { decodeName } from "../../../src/backends/redis/keys.js";
import { type RecordStart, readTicket, startOf, ticketsOf } from "../../../src/backends/redis/records.js";

/** Everything under the keys of one queue, by what comes behind the prefix. */
type Content = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** What does not fit together in any queue of a server. Nothing may be under way. */
export async function faultsIn(connection: Connection): Promise<readonly string[]> {
  const keys = listOf(await connection.command(["KEYS", "sb1:{*:queue:*"])).map(textOf);
  const queues = new Map<string, Map<string, ReadonlyMap<string, string>>>();
  for (const key of keys) {
    const [, prefix = "", own = ""] = /^(sb1:\{[^}]*\}:)(.*)$/.exec(key) ?? [];
    const content = queues.get(prefix) ?? new Map<string, ReadonlyMap<string, string>>();
    queues.set(prefix, content.set(own, await contentOf(connection, key)));
  }
  return [...queues].flatMap(([prefix, content]) => faultsOf(content).map((fault) => `${prefix} ${fault}`));
}

/** Members and scores of a sorted set, fields and values of a hash, byte by byte; of any other key nothing. */
async function contentOf(connection: Connection, key: string): Promise<ReadonlyMap<string, string>> {
  const type = textOf(await connection.command(["TYPE", key]));
  const ways: Readonly<Record<string, readonly string[]>> = {
    zset: ["ZRANGE", key, "0", "-1", "WITHSCORES"],
    hash: ["HGETALL", key],
  };
  const words = listOf(ways[type] === undefined ? [] : await connection.command(ways[type])).map((word) =>
    Buffer.isBuffer(word) ? word.toString("latin1") : String(word),
  );
  const content = new Map<string, string>();
  for (let at = 0; at + 1 < words.length; at += 2) content.set(words[at] ?? "", words[at + 1] ?? "");
  return content;
}

const NOTHING: ReadonlyMap<string, string> = new Map();
const PLACES = ["waiting", "due", "leased"] as const;

function faultsOf(content: Content): readonly string[] {
  const of = (key: string): ReadonlyMap<string, string> => content.get(key) ?? NOTHING;
  const recipients = [...content.keys()].flatMap((key) => /^r:([^:]*):/.exec(key)?.[1] ?? []);
  const faults: string[] = [];
  const expect = (isFine: boolean, fault: string): void => void (isFine || faults.push(fault));
  const same = (what: string, one: Iterable<string>, other: Iterable<string>): void => {
    const [left, right] = [[...one].toSorted(), [...other].toSorted()];
    expect(left.join("\n") === right.join("\n"), `${what}: ${left.join(", ")} is not ${right.join(", ")}`);
  };

  // Each item has its tickets, and each ticket its item.
  const open = new Map<string, RecordStart>();
  for (const [id, record] of of("records")) {
    const start = startOf(Buffer.from(record, "latin1"));
    expect(start !== undefined, `the record of ${id} does not tell its tickets`);
    if (start !== undefined) open.set(id, start);
  }
  const answers = [...open.values()].filter(({ recipient = "" }) => isReplyInbox(decodeName(recipient)));
  expect(Number(of("state").get("answers") ?? 0) === answers.length, `there are ${answers.length} answers`);
  const held = new Map<string, number>();
  for (const recipient of new Set(recipients)) {
    const own = (part: string): ReadonlyMap<string, string> => of(`r:${recipient}:${part}`);
    const tickets = PLACES.flatMap((place) => [...own(place).keys()]);
    expect(new Set(tickets).size === tickets.length, `a ticket of ${recipient} is in several places`);
    for (const ticket of tickets) {
      const { id, place } = readTicket(ticket);
      const start = open.get(id);
      const mine = start === undefined ? [] : ticketsFor(start, id, recipient);
      expect(mine.includes(ticket), `${recipient} has the ticket ${ticket} of nothing`);
      held.set(place + id, (held.get(place + id) ?? 0) + 1);
    }
    for (const ticket of own("expiry").keys()) expect(tickets.includes(ticket), `${ticket} expires, and is nowhere`);
    for (const ticket of [...own("waiting").keys(), ...own("due").keys()]) {
      const { expiresAt } = readTicket(ticket);
      expect(own("expiry").get(ticket) === expiresAt?.toString(), `${ticket} is not known to expire`);
    }
    for (const ticket of own("attempts").keys()) expect(tickets.includes(ticket), `attempts of ${ticket} are left`);
    const soonest = Math.min(...[...own("expiry").values()].map(Number));
    const noted = Number(
      of("expiring").get(Buffer.from(decodeName(recipient)).toString("latin1")) ?? Number.POSITIVE_INFINITY,
    );
    expect(noted <= soonest, `${recipient} has something that expires sooner than is noted`);
    expect(!own("counters").has("forgotten"), `${recipient} was not forgotten to the end`);
  }
  for (const [id, { place, recipient }] of open) {
    const shares = recipient === undefined ? Number(of("shares").get(place + id)) : 1;
    expect(held.get(place + id) === shares, `${id} has ${held.get(place + id)} tickets instead of ${shares}`);
  }
  const shared = [...open].filter(([, { recipient }]) => recipient === undefined);
  same(
    "shares",
    of("shares").keys(),
    shared.map(([id, { place }]) => place + id),
  );
  same("fan-outs", of("fanouts").keys(), []);
  expect(!of("state").has("fanout"), "no fan-out is left, but its time is");

  // Records.
  const members = (ids: Iterable<readonly [string, RecordStart]>): string[] =>
    [...ids].map(([id, { place }]) => place + id);
  const finished = [...of("finished")].map(([id, record]) => [id, startOf(Buffer.from(record, "latin1"))!] as const);
  same("kept records", of("kept").keys(), members(finished));
  for (const [id] of finished) expect(!open.has(id), `${id} is open and kept`);
  for (const [id] of finished) expect(of("outcomes").has(id), `${id} was kept without an outcome`);
  for (const id of of("outcomes").keys()) expect(open.has(id) || of("finished").has(id), `outcomes of ${id} are left`);

  // Indexes.
  const storedSettings = of("state").get("records") ?? "";
  const settings = JSON.parse(storedSettings === "" ? "{}" : storedSettings) as { readonly index?: readonly string[] };
  const found = [...open].filter(([, start]) => !answers.includes(start));
  const indexed = settings.index === undefined ? [] : [...members(found), ...members(finished)];
  same("the index of all", of("index:all").keys(), indexed);
  const byOutcome = ["acked", "dead", "expired"].flatMap((outcome) => [...of(`index:${outcome}`).keys()]);
  same("the indexes of outcomes", byOutcome, settings.index === undefined ? [] : members(finished));
  const byValue = [...content].flatMap(([key, inIndex]) => {
    const value = /^index:(.*:.*)$/.exec(key)?.[1];
    return value === undefined ? [] : [...inIndex.keys()].map((member) => `${member.slice(12)} ${value}`);
  });
  const noted = [...of("fields")].flatMap(([id, values]) => values.split(" ").map((value) => `${id} ${value}`));
  same("the indexes of fields", byValue, noted);
  for (const id of of("fields").keys()) expect(open.has(id) || of("finished").has(id), `fields of ${id} are left`);

  // Recipients.
  same("registrations", of("registrations").keys(), of("recipients").keys());
  same("lapses", of("lapses").keys(), of("recipients").keys());
  for (const one of of("audience").keys())
    expect(of("recipients").has(one), `the audience has ${one}, who is not known`);
  for (const one of of("recipients").keys()) expect(of("inboxes").has(one), `${one} could not be cleared`);
  expect(!content.has("none"), "the key that never exists does");
  return faults;
}

function ticketsFor(start: RecordStart, id: string, recipient: string): readonly string[] {
  if (start.recipient === undefined) return ticketsOf(start, id);
  if (start.recipient !== recipient) return [];
  const { place, expiresAt, priority } = start;
  return [`${place}${expiresAt ?? ""}|${priority}|${id}`];
}
