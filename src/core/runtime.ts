/** What the composition root hands to every facade: a facade opens nothing itself. Types only. */

import type { Backend } from "./backend.js";
import type { Clock } from "./clock.js";
import type { Codec } from "./codec.js";
import type { Codecs } from "./codecs.js";
import type { ContractDefinition } from "./contract.js";
import type { ErrorRules } from "./error-policy.js";
import type { Owner } from "./lifecycle.js";
import type { Middleware } from "./middleware.js";
import type { Streams } from "./streams.js";
import type { Telemetry } from "./telemetry.js";

export interface Runtime {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  readonly contract: ContractDefinition | undefined;
  /** Encodes what is published. */
  readonly codec: Codec;
  /** Decodes what is received, and what stands between codec and store. */
  readonly codecs: Codecs;
  /** What stands around publishing and around handlers, the first outermost. */
  readonly middleware: readonly Middleware[];
  /** The source of messages whose publisher names none. */
  readonly source: string;
  readonly maxPayloadBytes: number;
  /** Messages that may wait to be sent on a channel of pub/sub. */
  readonly publishBuffer?: number | undefined;
  /** What becomes of failures: each facade's own. */
  readonly rules?: ErrorRules;
  readonly streams: Streams;
  /** What ends with the broker. */
  readonly owner: Owner;
  createId(): string;
  /** Where failures go that no caller waits for. Never throws. */
  report(error: unknown, where: string): void;
}
