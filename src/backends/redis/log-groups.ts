/** Groups of the log as a whole: making them, making them anew, moving, pausing, changing and removing them. */

import type { BackendContext, GroupChanges, GroupSettings, GroupStart } from "../../core/backend.js";
import { wait } from "../../core/clock.js";
import { ConfigError, DataLossDetected, NotFoundError } from "../../core/errors.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { Connection, Reply } from "./connection.js";
import type { GroupKeys, LogKeys } from "./keys.js";
import { checkedPosition, positionBefore } from "./positions.js";
import { loadScript } from "./scripts.js";
import { settingsFrom } from "./settings.js";

const make = loadScript("log-group");
const pause = loadScript("log-pause");
const configure = loadScript("log-configure");
const remove = loadScript("log-delete");

/** A change of the lease holds for what is taken after it: a few milliseconds, by the server's clock, make that clear. */
const LEASE_CHANGE_MS = 5;

export interface NamedGroup {
  readonly keys: LogKeys;
  readonly stream: string;
  readonly group: string;
  /** For what may be sent twice. */
  readonly connection: Connection;
  readonly context: BackendContext;
}

export function noSuchGroup({ stream, group }: Pick<NamedGroup, "stream" | "group">): NotFoundError {
  return new NotFoundError(`stream "${stream}" has no group "${group}": create it first`);
}

/**
 * Makes a group where it does not exist. One that its consumers know of, or that has settings, was lost: it starts at
 * the beginning of what there is, whatever its settings say, and that is reported.
 *
 * @param mode `restore` when its consumers know of it
 * @returns the settings stored with it
 * @throws {NotFoundError} when it is to be restored and was deleted
 */
export async function makeGroup(
  named: NamedGroup,
  settings: GroupSettings,
  mode: "create" | "restore",
): Promise<GroupSettings> {
  const start = startOf(settings.from);
  return settingsFrom(await runMake(named, JSON.stringify(settings), mode, start));
}

/** @throws {NotFoundError} when there is no such group */
export async function seekGroup(named: NamedGroup, to: GroupStart): Promise<void> {
  await runMake(named, "", "seek", startOf(to));
}

async function runMake(
  named: NamedGroup,
  settings: string,
  mode: "create" | "restore" | "seek",
  start: readonly string[],
): Promise<Reply | undefined> {
  const { keys, stream, group, connection, context } = named;
  const fixed = [group, settings, mode, ...start];
  // Counting how far into the stream the group starts may take several calls.
  let progress = ["", "0"];
  for (;;) {
    const reply = await make.run(connection, wholeKeys(keys, keys.group(group)), [...fixed, ...progress]);
    const [what, second, third] = listOf(reply);
    switch (textOf(what)) {
      case "count":
        progress = [textOf(second), textOf(third)];
        continue;
      case "missing":
        throw noSuchGroup(named);
      case "lost":
        context.report(lostGroup(stream, group, mode), "restoring a consumer group");
    }
    return second;
  }
}

function wholeKeys(keys: LogKeys, own: GroupKeys): readonly string[] {
  const { stream, groups, parked, dropped, paused, deleted, limits } = keys;
  const { attempts, due, sweep, busy, held } = own;
  return [stream, groups, attempts, due, parked, dropped, sweep, busy, held, paused, deleted, limits];
}

function lostGroup(stream: string, group: string, mode: "create" | "restore" | "seek"): DataLossDetected {
  const start = mode === "seek" ? "was sought to" : "starts at the beginning of what the stream holds now";
  return new DataLossDetected(
    `group "${group}" of stream "${stream}" was deleted beneath its consumers; it was made again and ${start}: ` +
      "messages may have been lost, others may come again",
    { channel: stream, reader: group },
  );
}

/** The last position that a group has no interest in, and "1" where that may lie in the future. */
function startOf(from: GroupStart): readonly [position: string, byTime: string] {
  if (from === "beginning" || from === "new") return [from, "0"];
  if ("after" in from) return [checkedPosition(from.after), "0"];
  if ("at" in from) return [positionBefore(checkedPosition(from.at)), "0"];
  const ms = Math.ceil(from.time);
  return ms <= 0 ? ["beginning", "0"] : [`${ms - 1}-18446744073709551615`, "1"];
}

/** @throws {NotFoundError} when there is no such group */
export async function pauseGroup(named: NamedGroup, what: "pause" | "resume"): Promise<void> {
  const { keys, group, connection } = named;
  const reply = await pause.run(connection, [keys.stream, keys.groups, keys.paused], [group, what]);
  if (numberOf(reply) === 0) throw noSuchGroup(named);
}

/**
 * @returns the settings stored from now on
 * @throws {NotFoundError} when there is no such group
 * @throws {ConfigError} when its order is to change while something is on its way
 */
export async function configureGroup(named: NamedGroup, changes: GroupChanges): Promise<GroupSettings> {
  const { keys, stream, group, connection, context } = named;
  const { due, held, busy, sweep } = keys.group(group);
  const scriptKeys = [keys.stream, keys.groups, due, held, busy, sweep];
  let stored = await connection.command(["HGET", keys.groups, group]);
  for (;;) {
    if (stored === null) throw noSuchGroup(named);
    const before = settingsFrom(stored);
    // Consumers ask so what is stored, once a second.
    if (Object.keys(changes).length === 0) return before;
    const after = { ...before, ...changes };
    const changesOrder = after.order !== before.order;
    const leaseBefore = after.leaseMs === before.leaseMs ? "" : String(before.leaseMs);
    const args = [group, textOf(stored), JSON.stringify(after), changesOrder ? "1" : "0", leaseBefore];
    const [what, other = null] = listOf(await configure.run(connection, scriptKeys, args));
    switch (textOf(what)) {
      case "done":
        // What is taken from now on is told apart from what was taken before by when it was.
        if (leaseBefore !== "") await wait(context.clock, LEASE_CHANGE_MS);
        return after;
      case "busy":
        throw new ConfigError([
          `the order of group "${group}" of stream "${stream}" cannot change from "${before.order}" to ` +
            `"${after.order}" while something is leased, waits for its retry or is held back: pause the group and let ` +
            "its consumers finish",
        ]);
      default:
        // Somebody else has changed them meanwhile.
        stored = other;
    }
  }
}

/** @returns whether there was one */
export async function deleteGroup({ keys, group, connection }: NamedGroup): Promise<boolean> {
  const own = keys.group(group);
  return numberOf(await remove.run(connection, [...wholeKeys(keys, own), own.dead], [group])) === 1;
}
