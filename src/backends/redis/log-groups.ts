/** Groups of the log as a whole: making them, making them anew, counting them. */

import type { BackendContext, GroupSettings, GroupStart, GroupStats, StreamStats } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { fieldsOf, listOf, numberOf, textOf } from "./blob.js";
import type { Connection, Reply } from "./connection.js";
import { isReply } from "./errors.js";
import type { LogKeys } from "./keys.js";
import { checkedPosition, isBefore } from "./positions.js";
import { loadScript } from "./scripts.js";

const script = loadScript("log-group");

export interface NamedGroup {
  readonly keys: LogKeys;
  readonly stream: string;
  readonly group: string;
}

/**
 * Makes a group where it does not exist. One that its consumers know of, or that has settings, was lost: it starts at
 * the beginning of what there is, whatever its settings say, and that is reported.
 *
 * @param mode `restore` when its consumers know of it
 * @returns the settings stored with it
 */
export async function makeGroup(
  { keys, stream, group }: NamedGroup,
  settings: GroupSettings,
  mode: "create" | "restore",
  connection: Connection,
  context: BackendContext,
): Promise<GroupSettings> {
  const own = keys.group(group);
  const scriptKeys = [keys.stream, keys.groups, own.attempts, own.due, keys.parked, keys.dropped, own.sweep];
  const fixed = [group, JSON.stringify(settings), mode, ...startOf(settings.from)];
  // Counting how far into the stream the group starts may take several calls.
  let progress = ["", "0"];
  for (;;) {
    const reply = await script.run(connection, scriptKeys, [...fixed, ...progress]);
    const [what, second, third] = listOf(reply);
    if (textOf(what) === "count") {
      progress = [textOf(second), textOf(third)];
      continue;
    }
    if (textOf(what) === "lost") context.report(lostGroup(stream, group), "restoring a consumer group");
    return JSON.parse(textOf(second)) as GroupSettings; // As this function wrote it.
  }
}

function lostGroup(stream: string, group: string): NotFoundError {
  return new NotFoundError(
    `group "${group}" of stream "${stream}" was deleted beneath its consumers; it was made again and starts at the ` +
      "beginning of what the stream holds now: messages may have been lost, others may come again",
  );
}

/** The last position that a new group has no interest in, and "1" where that may lie in the future. */
function startOf(from: GroupStart): readonly [position: string, byTime: string] {
  if (from === "beginning" || from === "new") return [from, "0"];
  if ("after" in from) return [checkedPosition(from.after), "0"];
  const ms = Math.ceil(from.time);
  return ms <= 0 ? ["beginning", "0"] : [`${ms - 1}-18446744073709551615`, "1"];
}

export async function readStats(keys: LogKeys, connection: Connection): Promise<StreamStats> {
  const [length, last, groups] = await Promise.all([
    connection.command(["XLEN", keys.stream]),
    connection.command(["XREVRANGE", keys.stream, "+", "-", "COUNT", "1"]),
    connection.command(["XINFO", "GROUPS", keys.stream]).catch(noGroups),
  ]);
  const stats = listOf(groups).map(async (reply): Promise<GroupStats> => {
    const fields = fieldsOf(reply);
    const group = textOf(fields.get("name"));
    const { due, dead } = keys.group(group);
    const counts = [connection.command(["ZCARD", due]), connection.command(["XLEN", dead])];
    const [retrying = 0, letters = 0] = (await Promise.all(counts)).map(numberOf);
    const lag = fields.get("lag") ?? null;
    return {
      group,
      lag: lag === null ? unknownLag(textOf(fields.get("last-delivered-id")), last, numberOf(length)) : numberOf(lag),
      pending: numberOf(fields.get("pending")),
      retrying,
      dead: letters,
    };
  });
  return { length: numberOf(length), groups: await Promise.all(stats) };
}

/**
 * Redis does not know the lag of a group that waits for a time to come, which has nothing to read so far; nor that of
 * one beneath which somebody deleted entries, which may still have to read all of them.
 */
function unknownLag(delivered: string, last: Reply, length: number): number {
  const [entry] = listOf(last);
  return entry === undefined || !isBefore(delivered, textOf(listOf(entry)[0])) ? 0 : length;
}

function noGroups(error: unknown): Reply {
  if (isReply(error, "ERR")) return [];
  throw error;
}
