/** A contract as an AsyncAPI 3 document, for whoever reads it with other tools. Source: asyncapi.com/docs/reference/specification/v3.0.0 */

import type { StandardJSONSchemaV1 } from "@standard-schema/spec";
import type { Contract, ContractDefinition, Schema, Versioned } from "./contract.js";
import { ConfigError } from "./errors.js";
import { aString, type Checks, findProblems } from "./options.js";
import { isVersioned } from "./payload.js";
import { channel } from "./template.js";

/** What a document says of itself. */
export interface AsyncApiInfo {
  readonly title: string;
  /** Of the contract, not of AsyncAPI. */
  readonly version: string;
  readonly description?: string;
  /** Of messages. Default `application/json`. */
  readonly contentType?: string;
}

type Json = Readonly<Record<string, unknown>>;

/** Plain data: `JSON.stringify` makes the file of it. */
export interface AsyncApiDocument {
  readonly asyncapi: "3.0.0";
  readonly info: Json;
  readonly defaultContentType: string;
  readonly channels: Readonly<Record<string, Json>>;
  readonly operations: Readonly<Record<string, Json>>;
}

const CHECKS: Checks<AsyncApiInfo> = { title: aString, version: aString, description: aString, contentType: aString };

/** How each section delivers. */
const DELIVERY = {
  channels: "At most once: to whoever listens when it is published.",
  events: "At least once: to every consumer group, in the order in which it was stored.",
  queues: "At least once: to one consumer, the most urgent first.",
  agents: "At least once, answered by the agent.",
  rooms: "To the members of the room, whichever server they are on.",
} as const;

type Section = keyof typeof DELIVERY;

/**
 * Describes what a contract's names carry: an AsyncAPI channel for each, what may be sent to it and received from it.
 * Payloads are described where the validator can say what it takes as JSON Schema (`~standard.jsonSchema`: zod and
 * arktype can); where it cannot, the message says so.
 *
 * @throws {ConfigError} for an info that is incomplete
 */
export function toAsyncApi(contract: Contract, info: AsyncApiInfo): AsyncApiDocument {
  const { contentType = "application/json", ...about } = checked(info);
  const channels: Record<string, Json> = {};
  const operations: Record<string, Json> = {};
  for (const { section, name, messages, reply } of entriesOf(contract)) {
    const id = `${section}.${name}`;
    const replyId = `replies.${name}`;
    channels[id] = channelOf(section, name, id, messages);
    // Where an answer goes is known once it is asked for.
    if (reply !== undefined)
      channels[replyId] = { ...channelOf(section, name, replyId, { message: reply }), address: null };
    for (const action of ["send", "receive"] as const)
      operations[`${action}.${id}`] = {
        action,
        channel: { $ref: pointer("channels", id) },
        ...(reply !== undefined && { reply: { channel: { $ref: pointer("channels", replyId) } } }),
      };
  }
  return { asyncapi: "3.0.0", info: about, defaultContentType: contentType, channels, operations };
}

interface Described {
  readonly section: Section;
  readonly name: string;
  /** By their ids within the channel. */
  readonly messages: Readonly<Record<string, Schema | Versioned>>;
  readonly reply?: Schema;
}

function entriesOf(contract: ContractDefinition): Described[] {
  const { channels = {}, events = {}, queues = {}, agents = {}, rooms = {} } = contract;
  const plain = Object.entries({ channels, events, queues }).flatMap(([section, entries]) =>
    Object.entries(entries).map(([name, message]) => ({ section: section as Section, name, messages: { message } })),
  );
  return [
    ...plain,
    ...Object.entries(agents).map(
      ([name, { receives, replies }]): Described => ({
        section: "agents",
        name,
        messages: { message: receives },
        reply: replies,
      }),
    ),
    ...Object.entries(rooms).map(([name, messages]): Described => ({ section: "rooms", name, messages })),
  ];
}

function channelOf(section: Section, name: string, id: string, messages: Described["messages"]): Json {
  const { paramNames } = section === "channels" || section === "rooms" ? channel(name) : { paramNames: [] };
  const parameters = paramNames.map((param) => [param, { description: PARAMETER }]);
  const described = Object.entries(messages).map(([messageId, entry]) => [
    messageId,
    messageOf(section === "rooms" ? messageId : name, entry, pointer("channels", id, "messages", messageId, "payload")),
  ]);
  return {
    address: name,
    description: DELIVERY[section],
    ...(parameters.length > 0 && { parameters: Object.fromEntries(parameters) as Json }),
    messages: Object.fromEntries(described) as Json,
    tags: [{ name: section }],
  };
}

const PARAMETER = "Letters, digits, - and _ as they are; everything else percent-encoded, as UTF-8.";

/** @param at where the payload will stand in the document */
function messageOf(name: string, entry: Schema | Versioned, at: string): Json {
  const schema = isVersioned(entry) ? entry.schema : entry;
  const payload = jsonSchemaOf(schema);
  return {
    name,
    ...(isVersioned(entry) && { "x-schema-version": entry.version }),
    ...(payload === undefined ? { description: UNKNOWN } : { payload: withRefsAt(payload, at) }),
  };
}

const UNKNOWN = "The validator of this payload does not say as JSON Schema what it takes.";

/** Of zod and arktype: what JSON Schema has no word for, such as a date, is left open, and the rest is said. */
const LIBRARY_OPTIONS = { unrepresentable: "any" };

/** What the schema takes, since that is what travels. Draft 7 is what AsyncAPI's own schemas extend. */
function jsonSchemaOf(schema: Schema): Json | undefined {
  const { jsonSchema } = schema["~standard"] as { readonly jsonSchema?: StandardJSONSchemaV1.Converter };
  if (jsonSchema === undefined) return undefined;
  try {
    const { $schema: _, ...rest } = jsonSchema.input({ target: "draft-07", libraryOptions: LIBRARY_OPTIONS });
    return rest;
  } catch {
    // Not everything that can be checked can be said in JSON Schema.
    return undefined;
  }
}

/** References within a schema begin at its own root; in a document they begin at the document's. */
function withRefsAt(schema: unknown, at: string): unknown {
  if (Array.isArray(schema)) return schema.map((item: unknown) => withRefsAt(item, at));
  if (typeof schema !== "object" || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [
      key,
      key === "$ref" && typeof value === "string" && value.startsWith("#")
        ? at + value.slice(1)
        : withRefsAt(value, at),
    ]),
  );
}

function pointer(...keys: readonly string[]): string {
  const escaped = keys.map((key) => encodeURIComponent(key.replaceAll("~", "~0").replaceAll("/", "~1")));
  return `#/${escaped.join("/")}`;
}

function checked(info: AsyncApiInfo): AsyncApiInfo {
  const problems = findProblems("toAsyncApi", info ?? null, CHECKS);
  for (const name of ["title", "version"] as const)
    if (problems.length === 0 && info[name] === undefined) problems.push(`toAsyncApi: ${name} is missing`);
  if (problems.length > 0) throw new ConfigError(problems);
  return info;
}
