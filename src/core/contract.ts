/** The contract: names, payloads and their validators in one place. Types every facade; checked at both ends. */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import { ConfigError, toError } from "./errors.js";
import { validName } from "./names.js";
import { aFunction, anInteger, isPlainObject, show, suggestion } from "./options.js";
import { type AnyChannel, channel, type FilledIn, findAmbiguities, type Params, type ParamsOf } from "./template.js";

/** Any Standard Schema validator: zod, valibot, arktype … */
export type Schema = StandardSchemaV1;

/** A schema that has changed, so that old messages are still understood. */
export interface Versioned<S extends Schema = Schema> {
  readonly schema: S;
  /** Travels with every message that is published. A whole number from 1. */
  readonly version: number;
  /**
   * Makes the data of an older message what the schema takes: it is validated afterwards. What it throws refuses the
   * message, as a schema does.
   *
   * @param fromVersion 0 for messages that name none
   */
  readonly upgrade?: (data: unknown, fromVersion: number) => unknown;
}

type Schemas = Readonly<Record<string, Schema>>;
type Entries = Readonly<Record<string, Schema | Versioned>>;

/** What `defineContract` takes. A section that is absent stays untyped and unchecked. */
export interface ContractDefinition {
  /** By name, or by template: `chat.{room}`. */
  readonly channels?: Entries;
  readonly events?: Entries;
  readonly queues?: Entries;
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

type KeyIn<C, S extends keyof ContractDefinition> = Extract<keyof Section<C, S>, string>;

/** The names of a section, those that its templates make included; any string where the contract has none. */
export type NameIn<C, S extends keyof ContractDefinition> =
  Section<C, S> extends undefined ? string : FilledIn<KeyIn<C, S>>;

/** What may be subscribed to: names, templates, and the patterns that fit one. */
export type ChannelIn<C> =
  Section<C, "channels"> extends undefined ? string : KeyIn<C, "channels"> | NameIn<C, "channels">;

/** The entry that a name belongs to: of its own, or of the most specific template. */
type KeyOf<K extends string, N> = N extends K ? N : Narrowest<Making<K, N>>;

type Making<K extends string, N> = K extends string ? (N extends FilledIn<K> ? K : never) : never;

/** Of templates that all make one name, those whose names are not all made by another. */
type Narrowest<K extends string, All extends string = K> = K extends string
  ? [Narrower<K, All>] extends [never]
    ? K
    : never
  : never;

type Narrower<K extends string, Other extends string> = Other extends K
  ? never
  : FilledIn<Other> extends FilledIn<K>
    ? Other
    : never;

type SchemaOf<C, S extends keyof ContractDefinition, N> = Section<C, S>[KeyOf<KeyIn<C, S>, N> &
  keyof Section<C, S>] extends infer Entry
  ? Entry extends Schema
    ? Entry
    : Entry extends { readonly schema: infer Inner extends Schema }
      ? Inner
      : never
  : never;

/** What may be published under a name; of several names, what may be published under each of them. */
export type InputOf<C, S extends keyof ContractDefinition, N> =
  Section<C, S> extends undefined ? unknown : Accepting<C, S, N> extends (input: infer Input) => void ? Input : never;

/** A function for each name: what is inferred for the parameter of them all is the intersection. */
type Accepting<C, S extends keyof ContractDefinition, N> = N extends string
  ? (input: StandardSchemaV1.InferInput<SchemaOf<C, S, N>>) => void
  : never;

/** What a handler of that name gets. */
export type OutputOf<C, S extends keyof ContractDefinition, N> =
  Section<C, S> extends undefined ? unknown : StandardSchemaV1.InferOutput<SchemaOf<C, S, N>>;

/** What a handler of that name, template or pattern finds in `params`. */
export type ParamsIn<C, N extends string> = N extends `${string}${"*" | "?" | "["}${string}`
  ? Params
  : N extends `${string}{${string}`
    ? ParamsOf<N>
    : Section<C, "channels"> extends undefined
      ? Params
      : ParamsOf<KeyOf<KeyIn<C, "channels">, N>>;

const SECTIONS = ["channels", "events", "queues", "agents", "rooms"] as const;
const AGENT_KEYS = ["receives", "replies"] as const;
const VERSIONED_KEYS = ["schema", "version", "upgrade"] as const;
const MAX_VERSION = 1_000_000_000;
const NOT_NORMAL = "is not in Unicode's normal form C: call normalize() on it";

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
    else checkEntry(at, entry, problems);
    // Those of the other sections are templates.
    if (section === "events" || section === "queues") checkName(at, name, problems);
  }
  if (section === "channels" || section === "rooms") checkTemplates(section, Object.keys(entries), problems);
}

/** Every template on its own, and then that no name could belong to two of them. */
function checkTemplates(section: string, templates: readonly string[], problems: string[]): void {
  const channels: AnyChannel[] = [];
  for (const template of templates) {
    const at = `contract.${section}["${template}"]`;
    try {
      if (template !== template.normalize("NFC")) problems.push(`${at} ${NOT_NORMAL}`);
      channels.push(channel(template));
    } catch (error) {
      problems.push(`${at} is no legal template: ${toError(error).message}`);
    }
  }
  problems.push(...findAmbiguities(channels).map((problem) => `contract.${section}: ${problem}`));
}

function checkEntry(at: string, entry: unknown, problems: string[]): void {
  if (isSchema(entry) || !isPlainObject(entry) || !VERSIONED_KEYS.some((key) => Object.hasOwn(entry, key))) {
    checkSchema(at, entry, problems);
    return;
  }
  checkKeys(at, entry, VERSIONED_KEYS, problems);
  checkSchema(`${at}.schema`, entry["schema"], problems);
  const told = [
    ["version", anInteger(1, MAX_VERSION)(entry["version"])],
    ["upgrade", entry["upgrade"] === undefined ? undefined : aFunction(entry["upgrade"])],
  ] as const;
  for (const [key, problem] of told) {
    if (problem !== undefined) problems.push(`${at}.${key} ${problem}, not ${show(entry[key])}`);
  }
}

function checkKeys(
  at: string,
  entry: Readonly<Record<string, unknown>>,
  known: readonly string[],
  problems: string[],
): void {
  for (const key of Object.keys(entry)) {
    if (!known.includes(key)) problems.push(`${at}: unknown key "${key}"${suggestion(key, known)}`);
  }
}

function checkAgent(at: string, agent: unknown, problems: string[]): void {
  if (isSchema(agent)) problems.push(`${at} must be { receives, replies }, not one schema`);
  if (isSchema(agent) || !isPlain(at, agent, "{ receives, replies }", problems)) return;
  checkKeys(at, agent, AGENT_KEYS, problems);
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
    if (validName("name", name) !== name) problems.push(`${at} ${NOT_NORMAL}`);
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
