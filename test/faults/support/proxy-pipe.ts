/** One direction of one connection through the proxy: keeps the order of the bytes, and passes them on as its flaw allows. */

import type { Socket } from "node:net";
import type { Flaw } from "./proxy-flaws.js";
import type { Random } from "./random.js";

interface Chunk {
  readonly bytes: Buffer;
  /** When it came in (`performance.now`). */
  readonly at: number;
}

/** Beyond this the sender has to wait, as it would for a slow reader. */
const MAX_HELD_BYTES = 1_048_576;
const TRICKLE_MS = 1_000;
const MAX_PIECE_BYTES = 40;

export class Pipe {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #random: Random;
  readonly #reset: () => void;
  #held: Chunk[] = [];
  #heldBytes = 0;
  #flaw: Flaw | undefined;
  /** Bytes that may still pass before the connection is cut. */
  #allowance = Number.POSITIVE_INFINITY;
  /** Nothing passes any more, whatever the flaw. */
  #silent = false;
  #ended = false;
  #done = false;
  #stopped = false;
  #wake: (() => void) | undefined;

  constructor(from: Socket, to: Socket, random: Random, reset: () => void) {
    this.#from = from;
    this.#to = to;
    this.#random = random;
    this.#reset = reset;
    from.on("data", (bytes: Buffer) => this.#receive(bytes));
    from.on("end", () => {
      this.#ended = true;
      this.#wake?.();
    });
    to.on("drain", () => this.#wake?.());
    void this.#run();
  }

  /** The receiver has been told that nothing more comes. */
  get isDone(): boolean {
    return this.#done;
  }

  impose(flaw: Flaw): void {
    this.#flaw = flaw;
    if (flaw.kind === "truncate") this.#allowance = flaw.afterBytes;
    if (flaw.kind === "hole" && flaw.afterwards === "silence") this.#silent = true;
    this.#wake?.();
  }

  heal(): void {
    this.#flaw = undefined;
    this.#allowance = Number.POSITIVE_INFINITY;
    this.#wake?.();
  }

  /** Passes nothing more on. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  #receive(bytes: Buffer): void {
    if (this.#done) return;
    this.#held.push({ bytes, at: performance.now() });
    this.#heldBytes += bytes.length;
    if (this.#heldBytes > MAX_HELD_BYTES) this.#from.pause();
    this.#wake?.();
  }

  async #run(): Promise<void> {
    while (!this.#stopped && !this.#done) {
      if (this.#flaw?.kind === "half-close") this.#finish();
      else if (this.#silent || this.#flaw?.kind === "hole" || this.#to.writableNeedDrain) await this.#change();
      else if (this.#held.length > 0) await this.#pass();
      else if (this.#ended) this.#finish();
      else await this.#change();
    }
  }

  /** Passes on what may pass now; otherwise waits until that may be different. */
  async #pass(): Promise<void> {
    const flaw = this.#flaw;
    const first = this.#held[0]!;
    switch (flaw?.kind) {
      case "delay":
      case "merge": {
        const leftMs = first.at + flaw.ms - performance.now();
        if (leftMs > 0) await this.#change(leftMs);
        else this.#write(this.#take(flaw.kind === "merge" ? this.#heldBytes : first.bytes.length));
        return;
      }
      case "trickle":
        this.#write(this.#take(1));
        await this.#keepTo(flaw, TRICKLE_MS);
        return;
      case "split":
        this.#write(this.#take(this.#random.int(1, MAX_PIECE_BYTES)));
        await new Promise((resolve) => setImmediate(resolve));
        return;
      case "truncate": {
        const bytes = this.#take(Math.min(first.bytes.length, this.#allowance));
        this.#allowance -= bytes.length;
        if (this.#allowance > 0) this.#write(bytes);
        // What was written last has to arrive before the reset, which overtakes what is still in a buffer.
        else this.#to.write(bytes, () => setTimeout(this.#reset, 5));
        if (this.#allowance === 0) this.#silent = true;
        return;
      }
      default:
        this.#write(this.#take(first.bytes.length));
    }
  }

  #write(bytes: Buffer): void {
    this.#to.write(bytes);
  }

  #take(count: number): Buffer {
    const parts: Buffer[] = [];
    let missing = count;
    while (missing > 0 && this.#held.length > 0) {
      const { bytes, at } = this.#held.shift()!;
      parts.push(bytes.subarray(0, missing));
      if (bytes.length > missing) this.#held.unshift({ bytes: bytes.subarray(missing), at });
      missing -= Math.min(missing, bytes.length);
    }
    this.#heldBytes -= count - missing;
    if (this.#heldBytes <= MAX_HELD_BYTES) this.#from.resume();
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  #finish(): void {
    this.#done = true;
    this.#write(this.#take(this.#heldBytes));
    this.#to.end();
  }

  /** Resolves when something has changed, or after `ms`. */
  async #change(ms?: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (ms !== undefined) timer = setTimeout(resolve, Math.max(1, ms));
    });
    clearTimeout(timer);
    this.#wake = undefined;
  }

  /** Lets `ms` pass while the flaw is the same: what comes in meanwhile does not hurry it. */
  async #keepTo(flaw: Flaw, ms: number): Promise<void> {
    const until = performance.now() + ms;
    while (this.#flaw === flaw && !this.#stopped && performance.now() < until)
      await this.#change(until - performance.now());
  }
}
