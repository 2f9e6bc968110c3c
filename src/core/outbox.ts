/**
 * A backend that may lose its server for a while: what is published meanwhile is kept by a fallback, and moved to the
 * server in order once it is back. Everything but publishing events needs the server.
 */

import type { Backend, BackendContext, Check, Durability, NewEntry, Retention } from "./backend.js";
import { wait } from "./clock.js";
import { ConfigError, toError } from "./errors.js";
import { OUTBOX_GROUP, type Outage, Route } from "./outbox-route.js";
import { logOf, membershipOf, Primary, queueOf } from "./primary.js";
import type { Telemetry } from "./telemetry.js";

export interface OutboxOptions {
  /** What the server's backend is called. */
  readonly name: string;
  /** What the server attains. */
  readonly durability: Durability;
  /** Opens the server's backend at the start, with all the patience there is. */
  readonly openFirst: () => Promise<Backend>;
  /** Tries once to open it. Both reject with `ConnectionError` while the server is absent. */
  readonly open: () => Promise<Backend>;
  /** Keeps what is published meanwhile, and nothing else: closed with this backend. */
  readonly fallback: Backend;
  readonly context: BackendContext;
  readonly telemetry: Pick<Telemetry, "log">;
}

/** The stream of the fallback that lists the streams it keeps something of. No user's stream has this name. */
const DIVERTED = "{outbox}";
const MAX_DIVERTED: Retention = { maxEntries: 1_000_000, overflow: "reject" };
const PAGE = 1_000;
/** How often a server that is away is asked whether it is back. */
const PROBE_MS = 500;
/** Routes that are remembered while nothing is published to them. */
const MAX_IDLE_ROUTES = 1_000;

/**
 * Opens both. With the server absent it opens all the same, and looks for it in the background.
 *
 * @throws whatever opening the server fails with besides its absence; nothing stays open then
 */
export async function openOutbox(options: OutboxOptions): Promise<Backend> {
  const outbox = new Outbox(options);
  try {
    await outbox.start();
  } catch (error) {
    await outbox.close();
    throw error;
  }
  const { primary } = outbox;
  const log = logOf(primary);
  return {
    name: options.name,
    durability: options.durability,
    broadcast: {
      publish: async (messages) => primary.use().broadcast.publish(messages),
      subscribe: async (target, listener) => primary.use().broadcast.subscribe(target, listener),
    },
    log: {
      ...log,
      append: async (stream, entries, retention) => outbox.routeOf(stream).append(entries, retention),
      configure: async (stream, retention) => outbox.configure(stream, retention),
    },
    queue: queueOf(primary),
    membership: membershipOf(primary),
    ping: async () => primary.use().ping(),
    check: () => outbox.check(),
    close: () => outbox.close(),
  };
}

class Outbox implements Outage {
  readonly primary: Primary;
  readonly #options: OutboxOptions;
  readonly #closing = new AbortController();
  readonly #routes = new Map<string, Route>();
  /** Limits that were declared while the server was absent. */
  readonly #declared = new Map<string, Retention>();
  /** Streams that this process has listed in the fallback. */
  readonly #listed = new Set<string>();
  #isAway = false;
  /** When the outage began that is not over: the server was away, or the outbox was not empty. */
  #since: number | undefined;
  #forwarded = 0;
  #closed: Promise<void> | undefined;

  constructor(options: OutboxOptions) {
    this.#options = options;
    this.primary = new Primary({
      openFirst: options.openFirst,
      open: options.open,
      context: options.context,
      opened: (backend) => this.#declare(backend),
    });
  }

  get isAway(): boolean {
    return this.#isAway;
  }

  async start(): Promise<void> {
    await this.primary.start();
    if (this.primary.backend === undefined) this.begin(this.primary.problem);
    for (const stream of await this.#streamsWithMessages()) {
      this.#engage({ stream, reason: "an earlier process left messages in it" });
      await this.routeOf(stream).resume();
    }
  }

  routeOf(stream: string): Route {
    const known = this.#routes.get(stream);
    if (known !== undefined) return known;
    if (this.#routes.size >= MAX_IDLE_ROUTES) {
      for (const [name, route] of this.#routes) if (route.isIdle) this.#routes.delete(name);
    }
    const { fallback, context } = this.#options;
    const route = new Route({
      stream,
      primary: logOf(this.primary),
      fallback,
      clock: context.clock,
      outage: this,
      signal: this.#closing.signal,
      report: context.report,
    });
    this.#routes.set(stream, route);
    return route;
  }

  /** Limits that are declared while the server is absent are stored once it is there. */
  async configure(stream: string, retention: Retention): Promise<Retention> {
    const { backend } = this.primary;
    if (backend !== undefined) return backend.log.configure(stream, retention);
    this.#declared.set(stream, retention);
    return retention;
  }

  begin(reason: unknown): void {
    this.#engage({ err: toError(reason) });
    if (this.#isAway) return;
    this.#isAway = true;
    void this.#probe();
  }

  async diverted(stream: string): Promise<void> {
    if (this.#listed.has(stream)) return;
    const entry: NewEntry = { header: "stream", data: stream, dedupeId: stream };
    await this.#options.fallback.log.append(DIVERTED, [entry], MAX_DIVERTED);
    this.#listed.add(stream);
  }

  forwarded(count: number): void {
    this.#forwarded += count;
    // Whoever takes a message is there.
    this.#isAway = false;
  }

  returned(): void {
    this.#conclude();
  }

  async check(): Promise<readonly Check[]> {
    const { name, fallback } = this.#options;
    const { backend, problem } = this.primary;
    const [server, kept] = await Promise.all([
      backend?.check() ?? [{ name, ok: false, error: problem.message }],
      fallback.check(),
    ]);
    return [...server, ...kept.map((check) => ({ ...check, name: `fallback ${check.name}` })), this.#checkOutbox()];
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#routes.values()].map((route) => route.close()));
    const results = await Promise.allSettled([this.primary.close(), this.#options.fallback.close()]);
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  #checkOutbox(): Check {
    if (this.#since === undefined) return { name: "outbox", ok: true };
    const streams = [...this.#routes].filter(([, { isDiverted }]) => isDiverted).map(([stream]) => stream);
    const what = this.#isAway ? "the server is away, and events are kept" : "events wait to be moved to the server";
    const whose = streams.length === 0 ? "" : ` (${streams.slice(0, 10).join(", ")})`;
    return { name: "outbox", ok: false, error: `${what} since ${new Date(this.#since).toISOString()}${whose}` };
  }

  #engage(fields: object): void {
    if (this.#since !== undefined) return;
    this.#since = this.#options.context.clock.now();
    this.#forwarded = 0;
    this.#options.telemetry.log("fallback_engaged", { backend: this.#options.name, ...fields });
  }

  /** The outage is over when the server is there and nothing waits for it. */
  #conclude(): void {
    if (this.#since === undefined || this.#isAway) return;
    for (const { isDiverted } of this.#routes.values()) if (isDiverted) return;
    const { context, name, telemetry } = this.#options;
    telemetry.log("fallback_drained", {
      backend: name,
      count: this.#forwarded,
      durationMs: context.clock.now() - this.#since,
    });
    this.#since = undefined;
  }

  /** Asks the server until it answers. */
  async #probe(): Promise<void> {
    const { clock } = this.#options.context;
    const { signal } = this.#closing;
    while (this.#isAway && !signal.aborted) {
      await wait(clock, PROBE_MS, signal);
      try {
        if (this.#isAway) await this.primary.use().ping();
        this.#isAway = false;
      } catch {
        // Away it is: that has been said.
      }
    }
    if (!signal.aborted) this.#conclude();
  }

  async #declare(backend: Backend): Promise<void> {
    for (const [stream, asked] of this.#declared) {
      const stored = await backend.log.configure(stream, asked);
      const isSame =
        stored.maxEntries === asked.maxEntries &&
        stored.maxAgeMs === asked.maxAgeMs &&
        stored.overflow === asked.overflow;
      if (isSame) continue;
      const problem = `the stream "${stream}" is stored with other limits than this process declares, and these go`;
      this.#options.context.report(new ConfigError([problem]), "opening the server that a fallback stands in for");
    }
    this.#declared.clear();
  }

  /** Those that a process has left something of. */
  async #streamsWithMessages(): Promise<readonly string[]> {
    const { log } = this.#options.fallback;
    const names = new Set<string>();
    for (let after: string | undefined; ; ) {
      const page = await log.read(DIVERTED, { max: PAGE, ...(after !== undefined && { after }) });
      for (const { data } of page) names.add(Buffer.from(data).toString("utf8"));
      after = page.at(-1)?.position;
      if (after === undefined) break;
    }
    const left: string[] = [];
    for (const name of names) {
      const { groups } = await log.stats(name);
      const group = groups.find((one) => one.group === OUTBOX_GROUP);
      if (group !== undefined && group.lag + group.pending + group.retrying > 0) left.push(name);
    }
    return left;
  }
}
