/** The contract: names, payloads and their validators in one place. Types every facade; checked at both ends. */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import { ConfigError, InvalidArgumentError, SchemaError } from "./errors.js";
import { suggestion } from "./options.js";

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

/** What may be published under a name. */
export type InputOf<C, S extends keyof ContractDefinition, N> =
  Section<C, S> extends undefined
    ? unknown
    : N extends keyof Section<C, S>
      ? Section<C, S>[N] extends Schema
        ? StandardSchemaV1.InferInput<Section<C, S>[N]>
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

/**
 * Declares names and payloads once, for types, validation and documentation.
 *
 * @throws {ConfigError} listing every entry that is not a Standard Schema
 */
export function defineContract<const D extends ContractDefinition>(definition: D): Contract<D> {
  const problems: string[] = [];
  for (const [section, entries] of Object.entries(definition)) {
    if (!SECTIONS.some((known) => known === section)) {
      problems.push(`contract: unknown section "${section}"${suggestion(section, SECTIONS)}`);
    } else if (typeof entries !== "object" || entries === null) {
      problems.push(`contract.${section} must be an object of schemas`);
    } else {
      const depth = section === "agents" || section === "rooms" ? 1 : 0;
      collectBadSchemas(`contract.${section}`, entries as Record<string, unknown>, depth, problems);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return definition as Contract<D>; // The brand exists in types alone.
}

function collectBadSchemas(path: string, entries: Record<string, unknown>, depth: number, problems: string[]): void {
  for (const [name, entry] of Object.entries(entries)) {
    const at = `${path}["${name}"]`;
    if (depth > 0 && typeof entry === "object" && entry !== null) {
      collectBadSchemas(at, entry as Record<string, unknown>, depth - 1, problems);
    } else if (!isSchema(entry)) {
      problems.push(`${at} is no Standard Schema validator (zod, valibot, arktype and others are)`);
    }
  }
}

/** Some libraries' schemas are functions. */
function isSchema(value: unknown): value is Schema {
  return ((typeof value === "object" && value !== null) || typeof value === "function") && "~standard" in value;
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
    const result = schema["~standard"].validate(data);
    return result instanceof Promise ? result.then((settled) => unwrap(name, settled)) : unwrap(name, result);
  };
}

function unwrap(name: string, result: StandardSchemaV1.Result<unknown>): unknown {
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map(({ path, message }) => ({ path: pathOf(path), message }));
  const text = issues.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`)).join("; ");
  throw new SchemaError(`the payload of "${name}" does not match its schema: ${text}`, issues);
}

function pathOf(path: StandardSchemaV1.Issue["path"]): string {
  return (path ?? []).map((part) => String(typeof part === "object" ? part.key : part)).join(".");
}
