/** What a contract says of one name's payloads: checked when they are published, upgraded and checked when they arrive. */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { ContractDefinition, Schema, Versioned } from "./contract.js";
import { InvalidArgumentError, SchemaError, toError } from "./errors.js";
import { suggestion } from "./options.js";
import { isThenable } from "./thenable.js";

/** Checks what is published. Returns what the schema made of it, or a promise of that where the schema is asynchronous. */
export type Validate = (data: unknown) => unknown;

/** The same for what arrives. @param version the message's own; undefined where it names none */
export type Read = (data: unknown, version: number | undefined) => unknown;

export interface Payload {
  /** Travels with what is published. */
  readonly version: number | undefined;
  readonly validate: Validate;
  readonly read: Read;
}

/** Where the contract says nothing. */
export const ANY_PAYLOAD: Payload = { version: undefined, validate: (data) => data, read: (data) => data };

/**
 * The payload of a name, or any where the contract has no such section.
 *
 * @throws {InvalidArgumentError} when the contract has the section but not the name
 */
export function payloadOf(
  contract: ContractDefinition | undefined,
  section: "events" | "queues",
  name: string,
): Payload {
  const entries = contract?.[section];
  if (entries === undefined) return ANY_PAYLOAD;
  const entry = Object.hasOwn(entries, name) ? entries[name] : undefined;
  if (entry === undefined) {
    throw new InvalidArgumentError(
      `the contract's ${section} have no "${name}"${suggestion(name, Object.keys(entries))}`,
    );
  }
  return createPayload(name, entry);
}

/** @param name for messages */
export function createPayload(name: string, entry: Schema | Versioned): Payload {
  if (!isVersioned(entry)) {
    const validate = validatorOf(name, entry);
    return { version: undefined, validate, read: validate };
  }
  const validate = validatorOf(name, entry.schema);
  const { version } = entry;
  const read: Read = (data, written = UNVERSIONED) => {
    if (written === version) return validate(data);
    const upgraded = upgrade(name, entry, data, written);
    return isThenable(upgraded) ? rejectingAs(name, written, upgraded).then(validate) : validate(upgraded);
  };
  return { version, validate, read };
}

/** Some libraries' schemas are functions, and may have a `schema` of their own. */
export function isVersioned(entry: Schema | Versioned): entry is Versioned {
  return !("~standard" in entry);
}

/** Of messages that were published before there were versions. */
const UNVERSIONED = 0;

function upgrade(name: string, entry: Versioned, data: unknown, from: number): unknown {
  // An upgrade that newer code made may mean anything.
  if (from > entry.version) {
    throw refusal(
      name,
      `has version ${from}, and this contract knows ${entry.version}: deploy readers before publishers`,
    );
  }
  if (entry.upgrade === undefined) {
    throw refusal(name, `has version ${from}, and the contract's ${entry.version} has no upgrade from it`);
  }
  try {
    return entry.upgrade(data, from);
  } catch (thrown) {
    throw failedUpgrade(name, from, thrown);
  }
}

async function rejectingAs(name: string, from: number, upgrading: PromiseLike<unknown>): Promise<unknown> {
  try {
    return await upgrading;
  } catch (thrown) {
    throw failedUpgrade(name, from, thrown);
  }
}

function failedUpgrade(name: string, from: number, thrown: unknown): SchemaError {
  const { message } = toError(thrown);
  return refusal(name, `could not be upgraded from version ${from}: ${message}`, thrown);
}

function refusal(name: string, problem: string, cause?: unknown): SchemaError {
  const message = `the payload of "${name}" ${problem}`;
  return new SchemaError(message, [{ path: "", message: problem }], { cause });
}

function validatorOf(name: string, schema: Schema): Validate {
  return (data) => {
    const result: unknown = schema["~standard"].validate(data);
    // The schema vouches for what it resolves with.
    if (isThenable(result)) return Promise.resolve(result).then((settled) => unwrap(name, settled as Result));
    return unwrap(name, result as Result);
  };
}

type Result = StandardSchemaV1.Result<unknown>;

function unwrap(name: string, result: Result): unknown {
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map(({ path, message }) => ({ path: pathOf(path), message }));
  const text = issues.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`)).join("; ");
  throw new SchemaError(`the payload of "${name}" does not match its schema: ${text}`, issues);
}

function pathOf(path: StandardSchemaV1.Issue["path"]): string {
  return (path ?? []).map((part) => String(typeof part === "object" ? part.key : part)).join(".");
}
