/** Which of the contract's channels a name belongs to: the most specific whose template makes it. */

import type { ContractDefinition } from "./contract.js";
import { InvalidArgumentError } from "./errors.js";
import { compileCaptures, compileGlob } from "./glob.js";
import { NameCache, validName } from "./names.js";
import { suggestion } from "./options.js";
import { ANY_PAYLOAD, createPayload, type Payload } from "./payload.js";
import { type AnyChannel, channel, exactChannel, isTemplate, type Params } from "./template.js";

/** One channel of the contract; without a contract, whatever was named. */
export interface DeclaredChannel {
  readonly channel: AnyChannel;
  readonly payload: Payload;
}

/** The channel that a name belongs to, and what its parameters stand for in the name. */
export interface NamedChannel extends DeclaredChannel {
  readonly name: string;
  readonly params: Params;
}

export class Channels {
  /** The most specific first. Undefined: there is no contract, and every name is a channel of its own. */
  readonly #declared: readonly DeclaredChannel[] | undefined;
  readonly #named: NameCache<NamedChannel | undefined>;

  constructor(contract: ContractDefinition | undefined) {
    this.#declared =
      contract?.channels &&
      Object.entries(contract.channels)
        .map(([name, entry]) => ({ channel: channel(name), payload: createPayload(name, entry) }))
        // Of two that share names, one has all of the other's text, and more.
        .toSorted((a, b) => textLength(b.channel) - textLength(a.channel));
    this.#named = new NameCache((name) => this.#find(name));
  }

  /**
   * @param name a legal one
   * @returns undefined when the contract has channels, and none that makes this name
   */
  find(name: string): NamedChannel | undefined {
    return this.#named.get(name);
  }

  /**
   * The same for a name that was given.
   *
   * @throws {InvalidArgumentError} for a name that is not legal, or not the contract's
   */
  of(name: string): NamedChannel {
    const valid = validName("channel", name);
    const found = this.find(valid);
    if (found === undefined) throw new InvalidArgumentError(this.#respelled(valid) ?? this.#refusal(valid));
    return found;
  }

  /** The channel of that very template. @throws {InvalidArgumentError} */
  ofTemplate(template: string): DeclaredChannel {
    const asked = channel(template);
    if (this.#declared === undefined) return { channel: asked, payload: ANY_PAYLOAD };
    const found = this.#declared.find((declared) => declared.channel.template === asked.template);
    if (found === undefined) throw new InvalidArgumentError(this.#refusal(asked.template));
    return found;
  }

  /**
   * The channels that a Redis glob is for: those whose template it is a name of, taken as text, the most specific. So
   * `orders.*` is for `orders.{type}`, and hears of no other channel.
   *
   * @returns undefined without a contract: it is for any
   * @throws {InvalidArgumentError} when the contract has channels, and none that it could be for
   */
  ofPattern(pattern: string): readonly DeclaredChannel[] | undefined {
    if (this.#declared === undefined) return undefined;
    const fitting = this.#declared.filter((each) => hasText(each.channel, pattern));
    const isCovered = (one: AnyChannel): boolean =>
      fitting.some(({ channel: other }) => other !== one && hasText(one, other.pattern));
    const narrowest = fitting.filter((each) => !isCovered(each.channel));
    if (narrowest.length === 0) throw new InvalidArgumentError(this.#refusal(pattern));
    return narrowest;
  }

  #find(name: string): NamedChannel | undefined {
    if (this.#declared === undefined) return { name, channel: exactChannel(name), params: {}, payload: ANY_PAYLOAD };
    for (const declared of this.#declared) {
      const params = declared.channel.params(name);
      if (params !== undefined) return { name, ...declared, params };
    }
    return undefined;
  }

  /** What is said to who did not escape a value. */
  #respelled(name: string): string | undefined {
    for (const declared of this.#declared ?? []) {
      const meant = respell(declared.channel, name);
      if (meant !== undefined)
        return `"${name}" is no name of "${declared.channel.template}": with that value it is "${meant}", as channel().name() writes it`;
    }
    return undefined;
  }

  #refusal(name: string): string {
    const known = this.#declared?.map((declared) => declared.channel.template) ?? [];
    return `the contract's channels have no "${name}"${suggestion(name, known)}`;
  }
}

function textLength({ pattern }: AnyChannel): number {
  return pattern.replaceAll("*", "").length;
}

/** Whether a text is among the template's names where values may be any text: as the compiler sees it. */
function hasText({ pattern }: AnyChannel, text: string): boolean {
  return compileGlob(pattern)(text);
}

/** The name that somebody meant who did not escape a value. */
function respell(template: AnyChannel, name: string): string | undefined {
  // As a glob and not as a regular expression: a name that was refused may be anybody's, and made to take its time.
  const values = isTemplate(template.template) ? compileCaptures(template.pattern)(name) : undefined;
  if (values === undefined) return undefined;
  try {
    return template.name(Object.fromEntries(template.paramNames.map((param, index) => [param, values[index] ?? ""])));
  } catch {
    // Too long, or no text: then it was not meant.
    return undefined;
  }
}
