/** What a test and the process that hosts its remote backends say to each other: plain JSON, with bytes and errors in it. */

import { type ErrorCode, SignalboxError } from "../../../src/core/errors.js";

/** What the test says. `on` is the handle of a backend or a feed; the host itself is 0. */
export type Request =
  | { readonly call: number; readonly on: number; readonly method: string; readonly args: readonly unknown[] }
  /** Aborts the signal of that call. */
  | { readonly abort: number };

/** What the host says. */
export type Reply =
  | { readonly call: number; readonly result?: unknown; readonly error?: RemoteError }
  | { readonly listener: number; readonly channel: string; readonly data: unknown }
  | { readonly listener: number; readonly gap: string }
  | { readonly test: number; readonly report: string };

export interface RemoteError {
  readonly code?: ErrorCode;
  readonly message: string;
}

/** Arguments of the host's own method `open`. */
export interface OpenRemote {
  readonly path: string;
  readonly namespace: string;
  /** Backends of one test share a clock, which stands at `now` when the first of them is opened. */
  readonly test: number;
  readonly now: number;
}

interface WrittenBytes {
  readonly $bytes: string;
}

const UNDEFINED = { $undefined: true };

/** A value of JSON for one that holds bytes, or tells what is undefined from what is not there. */
export function written(value: unknown): unknown {
  if (value === undefined) return UNDEFINED;
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("base64") } satisfies WrittenBytes;
  if (Array.isArray(value)) return value.map(written);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, written(part)]));
}

/** The value that was written. */
export function read(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(read);
  if (typeof value !== "object" || value === null) return value;
  if ("$undefined" in value) return undefined;
  if ("$bytes" in value) return new Uint8Array(Buffer.from(String(value.$bytes), "base64"));
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, read(part)]));
}

export function writtenError(error: unknown): RemoteError {
  if (error instanceof SignalboxError) return { code: error.code, message: error.message };
  return { message: error instanceof Error ? String(error.stack) : String(error) };
}

/** The error as this process has it: of the base class, as errors are told apart by their code. */
export function readError({ code, message }: RemoteError): Error {
  return code === undefined ? new Error(`in the other process: ${message}`) : new SignalboxError(code, message);
}
