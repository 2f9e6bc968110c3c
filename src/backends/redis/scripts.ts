/** The Lua scripts beside this file, each sent by its hash and in full only to a server that does not know it. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Arg, Connection, Script } from "./connection.js";
import { isReply } from "./errors.js";

/** How a script's command travels: alone, or with a WAIT behind it. */
type Send<R> = (command: readonly Arg[]) => Promise<R>;

/** A script that can also travel in company. */
export interface LuaScript extends Script {
  readonly source: string;
  /** Runs it through `send`: once by its hash, and once more in full where the server does not know it. */
  through<R>(send: Send<R>, keys: readonly string[], args: readonly Arg[]): Promise<R>;
}

/** Reads `lua/<name>.lua`; a line `--@ <part>` in it, or in a part, stands for `lua/lib/<part>.lua`. */
export function loadScript(name: string): LuaScript {
  const source = read(`${name}.lua`);
  const sha = createHash("sha1").update(source).digest("hex");

  function through<R>(send: Send<R>, keys: readonly string[], args: readonly Arg[]): Promise<R> {
    const commandOf = (call: string, script: string): Arg[] => [call, script, String(keys.length), ...keys, ...args];
    return send(commandOf("EVALSHA", sha)).catch((error: unknown) => {
      if (!isReply(error, "NOSCRIPT")) throw error;
      return send(commandOf("EVAL", source));
    });
  }

  return {
    name,
    source,
    through,
    run: (connection: Connection, keys, args, options) =>
      through((command) => connection.command(command, options), keys, args),
  };
}

function read(file: string): string {
  const text = readFileSync(new URL(`lua/${file}`, import.meta.url), "utf8");
  return text.replace(/^--@ (\w+)$/gm, (_line, part: string) => read(`lib/${part}.lua`));
}
