/** Advice on a contract's names, for a test of one's own: what is legal may still be hard to read. */

import type { ContractDefinition } from "./contract.js";
import { anInteger, type Check, type Checks, checkOptions, oneOf } from "./options.js";

export interface NameRules {
  /** Characters of a name, those of its parameters aside. Default 4. */
  readonly minLength?: number;
  /** What each word between separators has to match. Default: small letters, digits and `-`, a letter first. */
  readonly word?: RegExp;
  /** What stands between words, the same in all names. Default: whatever the first name has that has one. */
  readonly separator?: "." | ":" | "/";
}

const aRegExp: Check = (value) => (value instanceof RegExp ? undefined : "must be a regular expression");
const CHECKS: Checks<NameRules> = { minLength: anInteger(1, 200), word: aRegExp, separator: oneOf(".", ":", "/") };

const WORD = /^[a-z][a-z0-9-]*$/;

/**
 * Says what is hard to read in a contract's names: too short to mean something (`un`, `ch1`), words of other characters,
 * or one separator here and another there, which is how `events.*` comes to hear nothing of `events:signup`.
 *
 * @returns a sentence for each; empty when there is nothing to say
 */
export function lintNames(contract: ContractDefinition, rules: NameRules = {}): readonly string[] {
  checkOptions("lintNames", rules, CHECKS);
  const { minLength = 4, word = WORD } = rules;
  // Without what would make it remember where it was.
  const isWord = new RegExp(word.source, word.flags.replaceAll(/[gy]/g, ""));
  const names = namesOf(contract);
  const separator =
    rules.separator ?? names.map(({ text }) => SEPARATOR.exec(text)?.[0]).find((found) => found !== undefined);
  return names.flatMap(({ at, text }) => {
    const words = text.split(SEPARATOR);
    const length = text.replaceAll(PARAM, "").length;
    const odd = words.find((each) => each !== PARAM && !isWord.test(each));
    const other = Array.from(text).find((char) => SEPARATOR.test(char) && char !== separator);
    return [
      ...(length < minLength ? [`${at} is short: ${length} characters of its own, and ${minLength} say more`] : []),
      ...(odd === undefined ? [] : [`${at}: the word "${odd}" does not match ${String(word)}`]),
      ...(other === undefined ? [] : [`${at} separates with "${other}", and others with "${separator}"`]),
    ];
  });
}

const SEPARATOR = /[.:/]/;
/** Every parameter, whatever it is called. */
const PARAM = "{}";

function namesOf(contract: ContractDefinition): readonly { readonly at: string; readonly text: string }[] {
  return Object.entries(contract).flatMap(([section, entries]: [string, object]) =>
    Object.keys(entries).map((name) => ({
      at: `contract.${section}["${name}"]`,
      text: name.replaceAll(/\{\w+\}/g, PARAM),
    })),
  );
}
