/** The contract: names, payloads and their validators in one place. Types every facade; checked at both ends. */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import { ConfigError, InvalidArgumentError, SchemaError, toError } from "./errors.js";
import { validName } from "./names.js";
import { isPlainObject, show, suggestion } from "./options.js";
import { isThenable } from "./thenable.js";

/** Any Standard Schema validator: zod, valibot, arktype … */
export type Schema = StandardSchemaV1;

type Schemas = Readonly<Record<string, Schema>>;

/** What `defineContract` takes. A section that is absent stays untyped and unchecked. */
export interface ContractDefinition {
  readonly channels?: Schemas;
  readonly events?: Schemas;
  readonly queues?: Schemas;
  readonly agents?: Readonly<Record<string, { readonly receives: Schema; readonly replies: Schema }>>;
  /** By room template, then by message type. */
  readonly rooms?: Readonly<Record<string, Schemas>>;
}

/** A checked definition. */
export type Contract<D extends ContractDefinition = ContractDefinition> = D & { readonly [checked]: true };

declare const checked: unique symbol;

/** No contract: every name is a string, every payload unknown. */
export interface NoContract {
  readonly [undeclared]?: never;
}

declare const undeclared: unique symbol;

type Section<C, S extends keyof ContractDefinition> = C extends { readonly [K in S]: infer Entries }
  ? Entries
  : undefined;

/** The names of a section; any string where the contract has none. */
export type NameIn<C, S extends keyof ContractDefinition> =
  Section<C, S> extends undefined ? string : Extract<keyof Section<C, S>, string>;

/** What may be published under a name; of several names, what may be published under each of them. */
export type InputOf<C, S extends keyof ContractDefinition, N> =
  Section<C, S> extends undefined ? unknown : Accepting<C, S, N> extends (input: infer Input) => void ? Input : never;

/** A function for each name: what is inferred for the parameter of them all is the intersection. */
type Accepting<C, S extends keyof ContractDefinition, N> = N extends keyof Section<C, S>
  ? Section<C, S>[N] extends Schema
    ? (input: StandardSchemaV1.InferInput<Section<C, S>[N]>) => void
    : never
  : never;

/** What a handler of that name gets. */
export type OutputOf<C, S extends keyof ContractDefinition, N> =
  Section<C, S> extends undefined
    ? unknown
    : N extends keyof Section<C, S>
      ? Section<C, S>[N] extends Schema
        ? StandardSchemaV1.InferOutput<Section<C, S>[N]>
        : never
      : never;

const SECTIONS = ["channels", "events", "queues", "agents", "rooms"] as const;
const AGENT_KEYS = ["receives", "replies"] as const;

/**
 * Declares names and payloads once, for types, validation and documentation.
 *
 * @throws {ConfigError} listing every entry that is not a Standard Schema, and every name that nobody could use
 */
export function defineContract<const D extends ContractDefinition>(definition: D): Contract<D> {
  const problems = findContractProblems(definition);
  if (problems.length > 0) throw new ConfigError(problems);
  return definition as Contract<D>; // The brand exists in types alone.
}

/** What is wrong with a definition, for `connect` as well: without types anything may be passed to it. */
export function findContractProblems(definition: unknown): string[] {
  const problems: string[] = [];
  if (!isPlain("contract", definition, "an object of sections", problems)) return problems;
  for (const [section, entries] of Object.entries(definition)) {
    if (!isOneOf(SECTIONS, section))
      problems.push(`contract: unknown section "${section}"${suggestion(section, SECTIONS)}`);
    else if (isPlain(`contract.${section}`, entries, "an object of schemas", problems))
      checkSection(section, entries, problems);
  }
  return problems;
}

function checkSection(
  section: (typeof SECTIONS)[number],
  entries: Readonly<Record<string, unknown>>,
  problems: string[],
): void {
  for (const [name, entry] of Object.entries(entries)) {
    const at = `contract.${section}["${name}"]`;
    if (section === "agents") checkAgent(at, entry, problems);
    else if (section === "rooms") checkRoom(at, entry, problems);
    else checkSchema(at, entry, problems);
    // Those of the other sections are templates.
    if (section === "events" || section === "queues") checkName(at, name, problems);
  }
}

function checkAgent(at: string, agent: unknown, problems: string[]): void {
  if (isSchema(agent)) problems.push(`${at} must be { receives, replies }, not one schema`);
  if (isSchema(agent) || !isPlain(at, agent, "{ receives, replies }", problems)) return;
  for (const key of Object.keys(agent)) {
    if (!isOneOf(AGENT_KEYS, key)) problems.push(`${at}: unknown key "${key}"${suggestion(key, AGENT_KEYS)}`);
  }
  for (const key of AGENT_KEYS) {
    if (agent[key] === undefined) problems.push(`${at}.${key} is missing`);
    else checkSchema(`${at}.${key}`, agent[key], problems);
  }
}

function checkRoom(at: string, room: unknown, problems: string[]): void {
  if (isSchema(room)) problems.push(`${at} must be an object of schemas by message type, not one schema`);
  else if (isPlain(at, room, "an object of schemas by message type", problems)) {
    for (const [type, schema] of Object.entries(room)) checkSchema(`${at}["${type}"]`, schema, problems);
  }
}

function checkSchema(at: string, schema: unknown, problems: string[]): void {
  if (!isSchema(schema)) problems.push(`${at} is no Standard Schema validator (zod, valibot, arktype and others are)`);
}

/** A name that no call accepts, or that no lookup finds since calls normalise theirs, would never be used. */
function checkName(at: string, name: string, problems: string[]): void {
  try {
    if (validName("name", name) !== name)
      problems.push(`${at} is not in Unicode's normal form C: call normalize() on it`);
  } catch (error) {
    problems.push(`${at} is no legal name: ${toError(error).message}`);
  }
}

function isPlain(
  at: string,
  value: unknown,
  expected: string,
  problems: string[],
): value is Readonly<Record<string, unknown>> {
  if (isPlainObject(value)) return true;
  problems.push(`${at} must be ${expected}, a plain one, not ${show(value)}`);
  return false;
}

function isOneOf<T extends string>(values: readonly T[], value: string): value is T {
  return values.some((known) => known === value);
}

/** Some libraries' schemas are functions. */
function isSchema(value: unknown): value is Schema {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return false;
  const standard: unknown = Reflect.get(value, "~standard");
  return typeof standard === "object" && standard !== null && typeof Reflect.get(standard, "validate") === "function";
}

/** Checks the payloads of one name. Resolves with what the schema made of the data. */
export type Validate = (data: unknown) => unknown;

const ACCEPT: Validate = (data) => data;

/**
 * The validator of a name, or one that accepts everything where the contract has no such section.
 *
 * @returns a function that returns the validated data, or a promise of it where the schema is asynchronous
 * @throws {InvalidArgumentError} when the contract has the section but not the name
 */
export function validatorOf(
  contract: ContractDefinition | undefined,
  section: "channels" | "events" | "queues",
  name: string,
): Validate {
  const schemas = contract?.[section];
  if (schemas === undefined) return ACCEPT;
  const schema = Object.hasOwn(schemas, name) ? schemas[name] : undefined;
  if (schema === undefined) {
    throw new InvalidArgumentError(
      `the contract's ${section} have no "${name}"${suggestion(name, Object.keys(schemas))}`,
    );
  }
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
