/** The registered recipients of one queue, and when they lapse. Pure state; time comes in as an argument. */

import type { PageRequest, Registration } from "../../core/backend.js";
import { MAX_RECIPIENTS } from "../../core/queue-port.js";
import { tooManyRecipients } from "../../core/limits.js";
import { placeOf } from "./cursors.js";
import { createHeap, type Heap } from "./heap.js";

export interface Registered extends Registration {
  readonly recipient: string;
  /** Grows from one to the next. */
  readonly number: number;
  lapsesAt: number;
}

/** When to look whether a recipient has lapsed. It may have been read, or forgotten, since that was noted. */
interface Look extends Pick<Registered, "recipient" | "number"> {
  readonly at: number;
}

/** Looks at what is forgotten are cleared out when they are the most, and worth the effort. */
const WORTH_CLEARING = 100;

export class Recipients {
  readonly #registered = new Map<string, Registered>();
  readonly #looks: Heap<Look> = createHeap<Look>((a, b) => a.at < b.at);
  #count = 0;

  /** Until it is forgotten, also when it has lapsed. */
  get(recipient: string): Registered | undefined {
    return this.#registered.get(recipient);
  }

  /** @throws {LimitError} */
  register(queue: string, recipient: string, { ttlMs, isAudience }: Registration, now: number): void {
    const known = this.#registered.get(recipient);
    if (known === undefined && this.#registered.size >= MAX_RECIPIENTS) throw tooManyRecipients(queue);
    if (known === undefined) this.#count += 1;
    const number = known?.number ?? this.#count;
    const lapsesAt = now + ttlMs;
    this.#registered.set(recipient, { recipient, number, ttlMs, isAudience, lapsesAt });
    // Each has a look that does not come too late; another one where it would.
    if (known === undefined || lapsesAt < known.lapsesAt) this.#looks.push({ recipient, number, at: lapsesAt });
  }

  /** Somebody reads it. */
  read(recipient: string, now: number): void {
    const known = this.#registered.get(recipient);
    if (known !== undefined) known.lapsesAt = now + known.ttlMs;
  }

  forget(recipient: string): boolean {
    const wasKnown = this.#registered.delete(recipient);
    if (this.#looks.size > 2 * this.#registered.size + WORTH_CLEARING) {
      this.#looks.prune((look) => this.#registeredOf(look) === undefined);
    }
    return wasKnown;
  }

  /** Up to `max` of those that have lapsed and are not forgotten yet. */
  lapsed(now: number, max: number): readonly Registered[] {
    const lapsed = new Set<Registered>();
    for (let look = this.#looks.peek(); look !== undefined && look.at <= now; look = this.#looks.peek()) {
      if (lapsed.size >= max) break;
      this.#looks.pop();
      const known = this.#registeredOf(look);
      if (known === undefined) continue;
      if (known.lapsesAt <= now) lapsed.add(known);
      else this.#looks.push({ ...look, at: known.lapsesAt });
    }
    return [...lapsed];
  }

  #registeredOf({ recipient, number }: Look): Registered | undefined {
    const known = this.#registered.get(recipient);
    return known?.number === number ? known : undefined;
  }

  /** Those that have not lapsed, in the order of their registration. */
  present(now: number): readonly Registered[] {
    return [...this.#registered.values()].filter(({ lapsesAt }) => lapsesAt > now);
  }

  page({ max, cursor }: PageRequest, now: number): { readonly page: readonly Registered[]; readonly cursor?: string } {
    const [after = 0] = placeOf(cursor, [0]);
    const rest = this.present(now).filter(({ number }) => number > after);
    const page = rest.slice(0, max);
    const last = page.at(-1);
    return rest.length > page.length && last !== undefined ? { page, cursor: String(last.number) } : { page };
  }
}
