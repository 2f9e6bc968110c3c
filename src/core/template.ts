/** Templates of channel names, such as `chat.{room}`: the name to publish to, the pattern to subscribe to, and the parameters back. */

import { InvalidArgumentError } from "./errors.js";
import { validName } from "./names.js";
import { isPlainObject, show, suggestion } from "./options.js";

/** What the parameters of some template stand for. */
export type Params = Readonly<Record<string, string>>;

/** What a template's parameters stand for: `ParamsOf<"chat.{room}">` is `{ readonly room: string }`. */
export type ParamsOf<T extends string> = string extends T ? Params : { readonly [Name in ParamNames<T>]: string };

type ParamNames<T extends string> = T extends `${string}{${infer Name}}${infer Rest}` ? Name | ParamNames<Rest> : never;

/** The names that a template can make, as a type: `chat.${string}` of `chat.{room}`. */
export type FilledIn<T extends string> = T extends `${infer Head}{${string}}${infer Rest}`
  ? `${Head}${string}${FilledIn<Rest>}`
  : T;

/**
 * A channel template: text with parameters in braces. Separators such as `.`, `:` and `/` are text like any other.
 *
 * In a name, a parameter's value keeps its ASCII letters, digits, `-` and `_`; everything else in it is percent-encoded,
 * as UTF-8. So every value comes back as it was, and no two sets of values share a name.
 */
export interface AnyChannel {
  readonly template: string;
  /** In the order in which they stand; none: the template is a name itself. */
  readonly paramNames: readonly string[];
  /** The Redis glob that matches every name of the template, and maybe others: `params` tells them apart. */
  readonly pattern: string;
  /**
   * The name to publish to.
   *
   * @throws {InvalidArgumentError} for a parameter that is missing, empty or unknown, and for a name of over 200 bytes
   */
  name(params: Params): string;
  /** What the parameters stand for in a name; undefined for a name that the template does not make. */
  params(name: string): Params | undefined;
}

/** The same, for a template that the compiler knows. */
export interface Channel<T extends string = string> extends AnyChannel {
  readonly template: T;
  name(params: ParamsOf<T>): FilledIn<T>;
  params(name: string): ParamsOf<T> | undefined;
}

/** What a value is written with. `%` begins an escape. */
const WRITTEN = "[A-Za-z0-9_%-]";
const PLAIN = /^[A-Za-z0-9_-]+$/;
const NOT_WRITTEN = /[^A-Za-z0-9_%-]/u;
/** Begins with a letter: `__proto__` is none. */
const PARAM_NAME = /^[A-Za-z][A-Za-z0-9_]*$/;

/**
 * Reads a template.
 *
 * @throws {InvalidArgumentError} for what is no template, or one whose parameters could not be told apart in a name
 */
export function channel<const T extends string>(template: T): Channel<T> {
  const { texts, names } = parse(template);
  if (names.length === 0) return exactChannel(texts[0]) as Channel<T>; // A name is what its template says.
  const pattern = texts.join("*");
  const matcher = matcherOf(pattern);
  const read = (name: string): Params | undefined => {
    const values = matcher.exec(name)?.slice(1).map(unescapeValue);
    if (values === undefined || values.includes(undefined)) return undefined;
    return Object.fromEntries(names.map((param, index) => [param, String(values[index])]));
  };
  return {
    template: texts.reduce((text, next, index) => `${text}{${names[index - 1]}}${next}`) as T, // Normalised, else as given.
    paramNames: names,
    pattern,
    name: (params) => fill(template, texts, names, params) as FilledIn<T>,
    params: (name) => read(name) as ParamsOf<T> | undefined, // Of exactly these names.
  };
}

/** Of a legal name, which is its own template: there may be many. */
export function exactChannel(name: string): AnyChannel {
  return {
    template: name,
    paramNames: [],
    pattern: name,
    name: (params) => fill(name, [name], [], params),
    params: (other) => (other === name ? {} : undefined),
  };
}

/** Matches names of a template's pattern, and captures the values in them: of each there is one way to be read. */
function matcherOf(pattern: string): RegExp {
  const texts = pattern.split("*").map((text) => text.replaceAll(/[.^$+()|]/g, "\\$&"));
  return new RegExp(`^${texts.join(`(${WRITTEN}+)`)}$`, "s");
}

/** Whether a text has parameters. */
export function isTemplate(text: string): boolean {
  return /[{}]/.test(text);
}

interface Parts {
  /** One more than names: what stands before, between and behind the parameters. */
  readonly texts: readonly [string, ...string[]];
  readonly names: readonly string[];
}

function parse(template: unknown): Parts {
  if (typeof template !== "string") throw new InvalidArgumentError(`a template is text, not ${show(template)}`);
  const [first = "", ...rest] = template.split("{");
  const texts: [string, ...string[]] = [first];
  const names: string[] = [];
  for (const piece of rest) {
    const end = piece.indexOf("}");
    const name = piece.slice(0, Math.max(end, 0));
    if (end < 0) throw refusal(template, `"{${piece}" has no closing brace`);
    if (!PARAM_NAME.test(name))
      throw refusal(template, `"{${name}}" is no parameter: its name is a letter, then letters, digits and "_"`);
    if (names.includes(name)) throw refusal(template, `the parameter {${name}} stands in it twice`);
    names.push(name);
    texts.push(piece.slice(end + 1));
  }
  // What the names are going to be has to be legal, whatever the values.
  validName("template", texts.join("x"));
  if (names.length > 0) checkTexts(template, texts, names);
  return { texts: texts.map((text) => text.normalize("NFC")) as [string, ...string[]], names };
}

/** Where a value begins and ends has to show in every name. */
function checkTexts(template: string, texts: readonly string[], names: readonly string[]): void {
  if (texts.some((text) => text.includes("%")))
    throw refusal(template, '"%" in a name begins an escape of a value: leave it out of the text');
  for (const [index, text] of texts.entries()) {
    if (index > 0 && /^\p{M}/u.test(text))
      throw refusal(template, `what follows {${names[index - 1]}} is a mark that would join the value before it`);
    if (index > 0 && index < names.length && !NOT_WRITTEN.test(text))
      throw refusal(
        template,
        `{${names[index - 1]}} and {${names[index]}} could not be told apart: put a ".", ":" or "/" between them`,
      );
  }
}

function refusal(template: string, problem: string): InvalidArgumentError {
  return new InvalidArgumentError(`template ${show(template)}: ${problem}`);
}

function fill(
  template: string,
  texts: readonly string[],
  names: readonly string[],
  params: Readonly<Record<string, unknown>>,
): string {
  if (!isPlainObject(params))
    throw new InvalidArgumentError(`the parameters of ${show(template)} are a plain object, not ${show(params)}`);
  const unknown = Object.keys(params).find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new InvalidArgumentError(`${show(template)} has no parameter {${unknown}}${suggestion(unknown, names)}`);
  const values = names.map((name) =>
    escapeValue(template, name, Object.hasOwn(params, name) ? params[name] : undefined),
  );
  const name = texts.reduce((text, next, index) => text + values[index - 1] + next);
  return validName("channel", name);
}

function escapeValue(template: string, name: string, value: unknown): string {
  if (typeof value !== "string" || value === "" || !value.isWellFormed())
    throw new InvalidArgumentError(
      `the parameter {${name}} of ${show(template)} must be text that is not empty and valid Unicode, not ${show(value)}`,
    );
  if (PLAIN.test(value)) return value;
  return encodeURIComponent(value).replaceAll(
    /[.!~*'()]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** Undefined for what escaping does not make: of one set of values there is one name. */
function unescapeValue(written: string): string | undefined {
  if (PLAIN.test(written)) return written;
  try {
    const value = decodeURIComponent(written);
    return escapeValue("", "", value) === written ? value : undefined;
  } catch {
    // Half an escape, or bytes that are no UTF-8.
    return undefined;
  }
}

// ------------------------------------------------------------------------------------------------------- among others

/**
 * How the names of one template lie to those of another. `apart`: no name is in both; `within`: all of the first are
 * in the second; `around`: the reverse; `same`; `across`: some are in both, and each has names of its own.
 */
export type Relation = "apart" | "within" | "around" | "same" | "across";

type Named = Pick<AnyChannel, "template" | "pattern">;

/** Templates alone are compared, so that what is ambiguous is known before any name is. */
export function relate(one: Named, other: Named): Relation {
  const [left, right] = [runsOf(one), runsOf(other)];
  // A value holds no separator: each stands at the same place in both, or no name is in both.
  if (left.separators !== right.separators) return "apart";
  const pairs = left.runs.map((run, index) => [run, right.runs[index] ?? ""] as const);
  if (!pairs.every(([a, b]) => meet(a, b))) return "apart";
  const isWithin = pairs.every(([a, b]) => lies(a, b));
  const isAround = pairs.every(([a, b]) => lies(b, a));
  if (isWithin && isAround) return "same";
  return isWithin ? "within" : isAround ? "around" : "across";
}

/** What a value may be part of, between what it cannot hold. In a run there is one parameter at most, written `*`. */
function runsOf({ pattern }: Named): { readonly runs: readonly string[]; readonly separators: string } {
  return {
    runs: pattern.split(/[^A-Za-z0-9_%*-]/u),
    separators: pattern.replaceAll(/[A-Za-z0-9_%*-]+/gu, ""),
  };
}

/** Whether two runs have a text in common. */
function meet(a: string, b: string): boolean {
  if (!a.includes("*") || !b.includes("*")) return lies(a, b) || lies(b, a);
  const [[beforeA, behindA], [beforeB, behindB]] = [halves(a), halves(b)];
  const doStart = beforeA.startsWith(beforeB) || beforeB.startsWith(beforeA);
  return doStart && (behindA.endsWith(behindB) || behindB.endsWith(behindA));
}

/** Whether every text of run `a` is one of run `b`. */
function lies(a: string, b: string): boolean {
  if (!b.includes("*")) return a === b;
  const [before, behind] = halves(b);
  // The star of `a` stands for one character at least, as that of `b` does.
  return a.length > before.length + behind.length && a.startsWith(before) && a.endsWith(behind);
}

function halves(run: string): readonly [before: string, behind: string] {
  const at = run.indexOf("*");
  return [run.slice(0, at), run.slice(at + 1)];
}

/** Templates that share names, none of them holding all of the other's: whose a message is would be anybody's guess. */
export function findAmbiguities(templates: readonly Named[]): string[] {
  return templates.flatMap((one, index) =>
    templates.slice(index + 1).flatMap((other) => {
      const relation = relate(one, other);
      if (relation !== "same" && relation !== "across") return [];
      const shared = relation === "same" ? "the same names" : "names in common, and neither is the more specific";
      return [`"${one.template}" and "${other.template}" have ${shared}`];
    }),
  );
}
