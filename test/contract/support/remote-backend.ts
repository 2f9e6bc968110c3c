/** Backends that live in another process, as the ports show them here. */

import type { Backend, BroadcastListener, Bytes, DeadLetters, Feed, TakeRequest } from "../../../src/core/backend.js";
import { type Child, runChild } from "../../support/children.js";
import { type OpenRemote, type Reply, read, readError, type Request, written } from "./remote-protocol.js";

export interface RemoteHost {
  /** @param report is told what the backends of this test report */
  open(options: OpenRemote, report: (text: string) => void): Promise<Backend>;
  /** Lets time pass for all backends of one test. */
  advance(test: number, ms: number): Promise<void>;
  stop(): Promise<void>;
}

/** How a call is made: on a backend's or a feed's handle. */
type Call = <T>(method: string, ...args: readonly unknown[]) => Promise<T>;

/** Longer than a run of the tests; a silent host is noticed by each call's own deadline, the case's. */
const PATIENCE_MS = 3_600_000;

/** Starts a process for backends. */
export function startRemoteHost(): RemoteHost {
  const child = runChild(new URL("./remote-host.ts", import.meta.url));
  const line = connectTo(child);
  return {
    open: async (options, report) => {
      line.reports.set(options.test, report);
      const opened = await line.call<Opened>(0, "open", options);
      return remoteBackend(opened, (method, ...args) => line.call(opened.handle, method, ...args), line);
    },
    advance: (test, ms) => line.call(0, "advance", test, ms),
    stop: async () => {
      await child.stop();
      await line.ended;
    },
  };
}

/** What a listener throws is its own affair, here as in a backend: the conversation goes on. */
function hearFor(listener: BroadcastListener | undefined, reply: Extract<Reply, { listener: number }>): void {
  try {
    if ("gap" in reply) listener?.gap(reply.gap);
    else listener?.message(reply.channel, read(reply.data) as Bytes);
  } catch {
    // The case that throws here looks at what the others heard.
  }
}

interface Opened extends Pick<Backend, "name" | "durability"> {
  readonly handle: number;
}

/** The conversation with one host. */
interface Line {
  /** The call's number comes first where the caller needs it, to abort it. */
  call<T>(on: number, method: string, ...args: readonly unknown[]): Promise<T>;
  callWithSignal<T>(signal: AbortSignal | undefined, on: number, method: string, args: readonly unknown[]): Promise<T>;
  /** @returns a number that the host names the listener by */
  listen(listener: BroadcastListener): number;
  /** Who is told what a test's backends report. */
  readonly reports: Map<number, (text: string) => void>;
  readonly ended: Promise<void>;
}

function connectTo(child: Child): Line {
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  const listeners = new Map<number, BroadcastListener>();
  const reports = new Map<number, (text: string) => void>();
  let calls = 0;

  const hear = (reply: Reply): void => {
    if ("report" in reply) return reports.get(reply.test)?.(reply.report);
    if ("listener" in reply) return hearFor(listeners.get(reply.listener), reply);
    const caller = waiting.get(reply.call);
    waiting.delete(reply.call);
    if (reply.error === undefined) caller?.resolve(read(reply.result));
    else caller?.reject(readError(reply.error));
  };
  const hearAll = async (): Promise<void> => {
    try {
      // Both ends of the pipe are compiled from the same protocol.
      for (;;) hear((await child.next(() => true, PATIENCE_MS)) as unknown as Reply);
    } catch {
      for (const { reject } of waiting.values()) reject(new Error(`the other process has ended: ${child.output()}`));
    }
  };
  const callWithSignal: Line["callWithSignal"] = (signal, on, method, args) => {
    const call = (calls += 1);
    const request: Request = { call, on, method, args: args.map(written) };
    return new Promise((resolve, reject) => {
      waiting.set(call, { resolve, reject });
      child.send(request);
      const abort = (): void => child.send({ abort: call } satisfies Request);
      if (signal?.aborted === true) abort();
      else signal?.addEventListener("abort", abort, { once: true });
    });
  };
  return {
    call: (on, method, ...args) => callWithSignal(undefined, on, method, args),
    callWithSignal,
    listen: (listener) => {
      const number = listeners.size + 1;
      listeners.set(number, listener);
      return number;
    },
    reports,
    ended: hearAll(),
  };
}

function remoteBackend({ name, durability }: Opened, call: Call, line: Line): Backend {
  const letters = (port: "log" | "queue", of: readonly string[]): DeadLetters => ({
    list: (page) => call("letters", port, of, "list", page),
    get: (id) => call("letters", port, of, "get", id),
    redrive: (ids) => call("letters", port, of, "redrive", ids),
    remove: (ids) => call("letters", port, of, "remove", ids),
    purge: (olderThanMs) => call("letters", port, of, "purge", olderThanMs),
  });
  return {
    name,
    durability,
    broadcast: {
      publish: (messages) => call("publish", messages),
      subscribe: async (target, listener) => {
        const handle = await call<number>("subscribe", target, line.listen(listener));
        return () => line.call(handle, "unsubscribe");
      },
    },
    log: {
      append: (...args) => call("append", ...args),
      read: (...args) => call("read", ...args),
      configure: (...args) => call("configure", ...args),
      changeRetention: (...args) => call("changeRetention", ...args),
      trim: (...args) => call("trim", ...args),
      createGroup: (...args) => call("createGroup", ...args),
      configureGroup: (...args) => call("configureGroup", ...args),
      seek: (...args) => call("seek", ...args),
      pause: (...args) => call("pause", ...args),
      resume: (...args) => call("resume", ...args),
      deleteGroup: (...args) => call("deleteGroup", ...args),
      open: async (...args) => remoteFeed(await call("openLog", ...args), line),
      deadLetters: (...of) => letters("log", of),
      park: (...args) => call("park", ...args),
      stats: (...args) => call("logStats", ...args),
    },
    queue: {
      push: (...args) => call("queue", "push", ...args),
      open: async (...args) => remoteFeed(await call("openQueue", ...args), line),
      deadLetters: (...of) => letters("queue", of),
      stats: (...args) => call("queue", "stats", ...args),
      register: (...args) => call("queue", "register", ...args),
      unregister: (...args) => call("queue", "unregister", ...args),
      recipients: (...args) => call("queue", "recipients", ...args),
      pause: (...args) => call("queue", "pause", ...args),
      resume: (...args) => call("queue", "resume", ...args),
      configure: (...args) => call("queue", "configure", ...args),
      browse: (...args) => call("queue", "browse", ...args),
      get: (...args) => call("queue", "get", ...args),
      list: (...args) => call("queue", "list", ...args),
      count: (...args) => call("queue", "count", ...args),
      acknowledge: (...args) => call("queue", "acknowledge", ...args),
      remove: (...args) => call("queue", "remove", ...args),
      clear: (...args) => call("queue", "clear", ...args),
    },
    membership: {
      begin: (...args) => call("membership", "begin", ...args),
      renew: (...args) => call("membership", "renew", ...args),
      end: (...args) => call("membership", "end", ...args),
      join: (...args) => call("membership", "join", ...args),
      leave: (...args) => call("membership", "leave", ...args),
      list: (...args) => call("membership", "list", ...args),
      find: (...args) => call("membership", "find", ...args),
      versions: (...args) => call("membership", "versions", ...args),
      lapsing: () => call("membership", "lapsing"),
      reap: (...args) => call("membership", "reap", ...args),
    },
    ping: () => call("ping"),
    check: () => call("check"),
    close: () => call("close"),
  };
}

function remoteFeed(handle: number, line: Line): Feed {
  return {
    take: ({ signal, ...want }: TakeRequest, outcomes) => line.callWithSignal(signal, handle, "take", [want, outcomes]),
    extend: (receipts) => line.call(handle, "extend", receipts),
    close: () => line.call(handle, "close"),
  };
}
