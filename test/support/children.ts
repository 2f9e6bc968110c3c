/** TypeScript programs as child processes, talked to in lines of JSON; for tests that need several processes. */

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { compiledFile } from "./compiled.js";
import { type Exit, startProcess } from "./process.js";
import { until } from "./wait.js";

/** What a child says: one object per line of its stdout. */
export type ChildMessage = Readonly<Record<string, unknown>>;

export interface ChildOptions {
  readonly args?: readonly string[];
  /** Added to this process's environment; `undefined` takes a name away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The Node to run it; default this process's. */
  readonly node?: string;
  /** Further options for that Node, such as `--expose-gc`. */
  readonly nodeArgs?: readonly string[];
}

export interface Child extends AsyncDisposable {
  readonly pid: number | undefined;
  /** All that it has said so far, taken or not, in order. */
  readonly messages: readonly ChildMessage[];
  /** Resolves when it has ended; never rejects. */
  readonly exited: Promise<Exit>;
  /**
   * Takes the oldest message that matches and has not been taken, waiting for it; the others stay for later calls.
   *
   * @throws {Error} with what it said and its stderr, after `deadlineMs` (default 10,000) or once it has ended without
   */
  next(predicate: (message: ChildMessage) => boolean, deadlineMs?: number): Promise<ChildMessage>;
  /** Writes one line of JSON to its stdin. */
  send(message: ChildMessage): void;
  /** The end of its stderr, and of what it wrote to stdout that was no JSON object. */
  output(): string;
  /** Sends a signal, SIGKILL by default, and nothing more: await `exited`. */
  kill(signal?: NodeJS.Signals): boolean;
  /** Ends its stdin and sends SIGTERM, then SIGKILL after two seconds. */
  stop(): Promise<Exit>;
}

/** Where nothing was compiled: for what runs outside of the tests. */
const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;

/** Starts the script at `script`; it takes a good 300 ms until it works, and twice as long outside of the tests. */
export function runChild(script: string | URL, options: ChildOptions = {}): Child {
  const file = typeof script === "string" && !script.startsWith("file:") ? script : fileURLToPath(script);
  const compiled = compiledFile(file);
  const program = compiled === undefined ? ["--import", tsx, file] : [compiled];
  const nodeArgs = [...(options.nodeArgs ?? []), ...program, ...(options.args ?? [])];
  const managed = startProcess(options.node ?? process.execPath, nodeArgs, { stdin: "pipe", env: options.env ?? {} });
  const messages: ChildMessage[] = [];
  const untaken: ChildMessage[] = [];
  let noise = "";
  const { stdin, stdout } = managed.child;
  stdin?.on("error", () => {}); // writing to a child that has just died; `exited` and `next` tell
  if (stdout !== null) {
    createInterface({ input: stdout }).on("line", (line) => {
      const message = parsed(line);
      if (message === undefined) {
        noise = `${noise}${line}\n`.slice(-16_384);
        return;
      }
      messages.push(message);
      untaken.push(message);
    });
  }
  let closed = false;
  void managed.exited.then(() => {
    closed = true;
  });
  const output = (): string => noise + managed.output("stderr");
  const take = (predicate: (message: ChildMessage) => boolean): ChildMessage | undefined => {
    const index = untaken.findIndex(predicate);
    return index < 0 ? undefined : untaken.splice(index, 1)[0];
  };
  const said = (): string => `it said ${JSON.stringify(messages.slice(-10))}; ${output()}`;
  const stop = async (): Promise<Exit> => {
    stdin?.end();
    return managed.stop();
  };
  return {
    pid: managed.pid,
    messages,
    exited: managed.exited,
    output,
    next: async (predicate, deadlineMs = 10_000) => {
      // All lines are in when `closed` is set, so a message that is not there then will not come.
      const giveUp = (): string | undefined =>
        closed && !untaken.some(predicate) ? `it has ended; ${said()}` : undefined;
      const what = `a message of ${file}`;
      try {
        return await until(() => take(predicate), { deadlineMs, everyMs: 2, what, giveUp });
      } catch (error) {
        throw new Error(`${error instanceof Error ? error.message : String(error)} (${said()})`, { cause: error });
      }
    },
    send: (message) => void stdin?.write(`${JSON.stringify(message)}\n`),
    kill: managed.kill,
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

function parsed(line: string): ChildMessage | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    return JSON.parse(line) as ChildMessage; // the brace makes it an object
  } catch {
    return undefined; // a line of ordinary output, kept as such by the caller
  }
}
