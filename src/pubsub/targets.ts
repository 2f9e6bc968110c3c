/** What is subscribed to: exact names, templates and patterns, and which channels each of them hears. */

import type { BroadcastTarget } from "../core/backend.js";
import type { Channels, NamedChannel } from "../core/channels.js";
import { InvalidArgumentError, UnsupportedError } from "../core/errors.js";
import { compileCaptures } from "../core/glob.js";
import { validText } from "../core/names.js";
import { show } from "../core/options.js";
import { ANY_PAYLOAD, type Read } from "../core/payload.js";
import { isTemplate, type Params } from "../core/template.js";

/** How the messages of one channel are read. */
export interface Hearing {
  readonly params: Params;
  readonly read: Read;
  /** What its dead letters stand under: the template, else the pattern, else the name. */
  readonly template: string;
}

/** One of the names of a call. */
export interface Wanted {
  /** As it was given, normalised. */
  readonly name: string;
  readonly target: BroadcastTarget;
  /** For metrics: the template or the pattern, and never a name, which may hold an id. */
  readonly label: string;
  /** What its dead letters stand under; of a pattern of a contract, those of its first template. */
  readonly letters: string;
  /** What is known of a channel; undefined for one that this hears of and that is not meant. */
  hearing(channel: string): Hearing | undefined;
}

/** The label of names that no template tells of. */
const UNDECLARED = "*";

/** The label of what is published: its template, where there is a contract. */
export function labelOf({ channel }: Pick<NamedChannel, "channel">, isDeclared: boolean): string {
  return isDeclared ? channel.template : UNDECLARED;
}

/**
 * Reads the names of a call.
 *
 * @param isDeclared whether the contract has channels
 * @throws {InvalidArgumentError} for what is no name, or none of the contract's
 * @throws {UnsupportedError} for a pattern or a template of sharded channels
 */
export function wantedOf(
  channels: Channels,
  names: string | readonly string[],
  { isDeclared, sharded }: { readonly isDeclared: boolean; readonly sharded: true | undefined },
): readonly Wanted[] {
  const given = Array.isArray(names) ? (names as readonly string[]) : [names as string];
  if (given.length === 0) throw new InvalidArgumentError("subscribing takes one channel or several, not none");
  return [...new Set(given)].map((name) => {
    if (typeof name !== "string") throw new InvalidArgumentError(`a channel is text, not ${show(name)}`);
    const isOne = !isPattern(name) && !(isTemplate(name) && channels.ofTemplate(name).channel.paramNames.length > 0);
    if (sharded && !isOne) {
      throw new UnsupportedError(
        `sharded channels have no patterns, such as ${show(name)}: subscribe to exact names, or leave out sharded`,
      );
    }
    if (isOne) return exact(channels, name, isDeclared, sharded);
    return isPattern(name) ? pattern(channels, name) : template(channels, name, isDeclared);
  });
}

function isPattern(name: string): boolean {
  return /[*?[\]\\]/.test(name);
}

function exact(channels: Channels, name: string, isDeclared: boolean, sharded: true | undefined): Wanted {
  const named = channels.of(name);
  const { params, payload, channel } = named;
  const hearing = { params, read: payload.read, template: channel.template };
  const target = sharded ? { channel: named.name, sharded } : { channel: named.name };
  return {
    name: named.name,
    target,
    label: labelOf(named, isDeclared),
    letters: channel.template,
    hearing: () => hearing,
  };
}

function template(channels: Channels, name: string, isDeclared: boolean): Wanted {
  const { channel, payload } = channels.ofTemplate(name);
  return {
    name: channel.template,
    target: { pattern: channel.pattern },
    label: channel.template,
    letters: channel.template,
    hearing(heard) {
      // The pattern is wider than the template, and names of a more specific one are that one's.
      if (isDeclared && channels.find(heard)?.channel.template !== channel.template) return undefined;
      const params = channel.params(heard);
      return params && { params, read: payload.read, template: channel.template };
    },
  };
}

function pattern(channels: Channels, given: string): Wanted {
  const name = validText("pattern", given).normalize("NFC");
  const declared = channels.ofPattern(name);
  const captures = compileCaptures(name);
  return {
    name,
    target: { pattern: name },
    label: name,
    letters: declared?.[0]?.channel.template ?? name,
    hearing(heard) {
      const captured = captures(heard);
      if (captured === undefined) return undefined;
      const params = Object.fromEntries(captured.entries()) as Params; // By number, written as text.
      if (declared === undefined) return { params, read: ANY_PAYLOAD.read, template: name };
      const named = channels.find(heard);
      const isMeant = declared.some(({ channel }) => channel.template === named?.channel.template);
      return named && isMeant ? { params, read: named.payload.read, template: named.channel.template } : undefined;
    },
  };
}
