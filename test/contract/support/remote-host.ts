/** A process that hosts SQLite backends for a test in another one; each test's backends run on a fake clock of their own. */

import { openSqlite } from "../../../src/backends/sqlite/index.js";
import type {
  Backend,
  BroadcastTarget,
  DeadLetters,
  Feed,
  Outcome,
  Membership,
  Queue,
  TakeRequest,
} from "../../../src/core/backend.js";
import { createFakeClock, type FakeClock } from "../../../src/testing/fake-clock.js";
import { heard, say } from "../../support/child-side.js";
import { type OpenRemote, type Reply, type Request, read, writtenError, written } from "./remote-protocol.js";

type Method = (...args: never[]) => unknown;

const clocks = new Map<number, FakeClock>();
/** Backends and feeds by their handles, each as a table of what can be called on it. */
const targets = new Map<number, Record<string, Method>>();
const aborts = new Map<number, AbortController>();

function tell(reply: Reply): void {
  say(reply);
}

function register(methods: Record<string, Method>): number {
  const handle = targets.size + 1;
  targets.set(handle, methods);
  return handle;
}

async function open({ path, namespace, test, now }: OpenRemote): Promise<unknown> {
  const clock = clocks.get(test) ?? createFakeClock(now);
  clocks.set(test, clock);
  const report = (error: unknown, where: string): void => tell({ test, report: `${where}: ${String(error)}` });
  const backend = await openSqlite({ path }, { namespace, clock, report });
  return { handle: register(backendMethods(backend)), name: backend.name, durability: backend.durability };
}

function backendMethods(backend: Backend): Record<string, Method> {
  const { broadcast, log, queue, membership } = backend;
  return {
    ping: () => backend.ping(),
    check: () => backend.check(),
    close: () => backend.close(),
    publish: (...args: Parameters<typeof broadcast.publish>) => broadcast.publish(...args),
    subscribe: (target: BroadcastTarget, listener: number) => subscribe(backend, target, listener),
    append: (...args: Parameters<typeof log.append>) => log.append(...args),
    read: (...args: Parameters<typeof log.read>) => log.read(...args),
    configure: (...args: Parameters<typeof log.configure>) => log.configure(...args),
    changeRetention: (...args: Parameters<typeof log.changeRetention>) => log.changeRetention(...args),
    trim: (...args: Parameters<typeof log.trim>) => log.trim(...args),
    createGroup: (...args: Parameters<typeof log.createGroup>) => log.createGroup(...args),
    configureGroup: (...args: Parameters<typeof log.configureGroup>) => log.configureGroup(...args),
    seek: (...args: Parameters<typeof log.seek>) => log.seek(...args),
    pause: (...args: Parameters<typeof log.pause>) => log.pause(...args),
    resume: (...args: Parameters<typeof log.resume>) => log.resume(...args),
    deleteGroup: (...args: Parameters<typeof log.deleteGroup>) => log.deleteGroup(...args),
    openLog: async (...args: Parameters<typeof log.open>) => register(feedMethods(await log.open(...args))),
    park: (...args: Parameters<typeof log.park>) => log.park(...args),
    logStats: (...args: Parameters<typeof log.stats>) => log.stats(...args),
    openQueue: async (...args: Parameters<typeof queue.open>) => register(feedMethods(await queue.open(...args))),
    // All of them take and give plain values; the test's side gives the arguments that the method's type asks for.
    queue: (method: Exclude<keyof Queue, "open" | "deadLetters">, ...args: never[]) =>
      (queue[method] as Method)(...args),
    membership: (method: keyof Membership, ...args: never[]) => (membership[method] as Method)(...args),
    letters: (port: "log" | "queue", of: [string, string], method: keyof DeadLetters, ...args: never[]) =>
      lettersMethods(backend[port].deadLetters(...of))[method](...args),
  };
}

function lettersMethods(letters: DeadLetters): Record<keyof DeadLetters, Method> {
  return {
    list: (...args: Parameters<DeadLetters["list"]>) => letters.list(...args),
    get: (id: string) => letters.get(id),
    redrive: (ids: readonly string[]) => letters.redrive(ids),
    remove: (ids: readonly string[]) => letters.remove(ids),
    purge: (olderThanMs: number) => letters.purge(olderThanMs),
  };
}

async function subscribe(backend: Backend, target: BroadcastTarget, listener: number): Promise<number> {
  const unsubscribe = await backend.broadcast.subscribe(target, {
    message: (channel, data) => tell({ listener, channel, data: written(data) }),
    gap: (reason) => tell({ listener, gap: reason }),
  });
  return register({ unsubscribe });
}

function feedMethods(feed: Feed): Record<string, Method> {
  return {
    take: (want: TakeRequest, outcomes: readonly Outcome[]) => feed.take(want, outcomes),
    extend: (receipts: readonly string[]) => feed.extend(receipts),
    close: () => feed.close(),
  };
}

/** Adds the signal that the test can abort to a request to take, the only kind of argument that has a `waitMs`. */
function withSignal(call: number, args: readonly unknown[]): readonly unknown[] {
  const [want, ...rest] = args;
  if (typeof want !== "object" || want === null || !("waitMs" in want)) return args;
  const controller = new AbortController();
  aborts.set(call, controller);
  return [{ ...want, signal: controller.signal }, ...rest];
}

async function answer({ call, on, method, args }: Extract<Request, { call: number }>): Promise<void> {
  try {
    const target = targets.get(on)?.[method];
    if (target === undefined) throw new Error(`handle ${on} has no ${method}`);
    // The test's side gives the arguments that the method's type asks for.
    const given = withSignal(call, args.map(read)) as never[];
    tell({ call, result: written(await target(...given)) });
  } catch (error) {
    tell({ call, error: writtenError(error) });
  } finally {
    aborts.delete(call);
  }
}

targets.set(0, {
  open,
  advance: (test: number, ms: number) => clocks.get(test)?.advance(ms),
});

for await (const message of heard()) {
  // Both ends of the pipe are compiled from the same protocol.
  const request = message as unknown as Request;
  if ("abort" in request) aborts.get(request.abort)?.abort();
  else void answer(request);
}
process.exit(0);
