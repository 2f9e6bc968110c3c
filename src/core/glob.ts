/** Redis globs, matched the same way on every backend: `*` any run of characters, `?` one, `[ab]`, `[^a]`, `[a-z]` a set, `\` escapes. */

interface Any {
  readonly kind: "any";
}
interface One {
  readonly kind: "one";
  readonly accepts: (char: string) => boolean;
  /** It stands for itself, so that what it matched says nothing. */
  readonly isLiteral: boolean;
}
type Part = Any | One;

const ANY: Any = { kind: "any" };

/** Channels of signalbox's own begin with it: users' names hold no control characters, and no pattern matches these. */
export const INTERNAL = "\u0001";

/**
 * Compiles a pattern to a matcher. Time is at most pattern × name, whatever the pattern: no recursion, so that a
 * thousand stars cannot hang a process (CVE-2022-36021 did that to Redis).
 */
export function compileGlob(pattern: string): (name: string) => boolean {
  const parts = parse(pattern);
  return (name) => !name.startsWith(INTERNAL) && placesOf(parts, Array.from(name)) !== undefined;
}

/**
 * Compiles a pattern to what each of its `*`, `?` and sets stands for in a name, in their order; stars side by side are one.
 * The earlier ones stand for as little as can be. Undefined for a name that does not match.
 */
export function compileCaptures(pattern: string): (name: string) => readonly string[] | undefined {
  const parts = parse(pattern);
  return (name) => {
    const chars = Array.from(name);
    const places = placesOf(parts, chars);
    if (places === undefined) return undefined;
    return parts.flatMap((part, index) => {
      if (part.kind === "one") return part.isLiteral ? [] : [String(chars[places[index] ?? 0])];
      return [chars.slice(places[index], index + 1 < parts.length ? places[index + 1] : undefined).join("")];
    });
  };
}

/**
 * Walks name and parts together, going back to behind the last star on a mismatch.
 *
 * @returns where in the name each part begins; undefined where it does not match
 */
function placesOf(parts: readonly Part[], chars: readonly string[]): readonly number[] | undefined {
  const places: number[] = [];
  let part = 0;
  let at = 0;
  // Where to go on after a mismatch: behind the last star, one character further.
  let starPart = -1;
  let starAt = 0;
  while (at < chars.length) {
    const current = parts[part];
    places[part] = at;
    if (current?.kind === "any") {
      starPart = part;
      starAt = at;
      part += 1;
    } else if (current?.kind === "one" && current.accepts(String(chars[at]))) {
      part += 1;
      at += 1;
    } else if (starPart >= 0) {
      part = starPart + 1;
      starAt += 1;
      at = starAt;
    } else {
      return undefined;
    }
  }
  for (; parts[part]?.kind === "any"; part += 1) places[part] = at;
  return part === parts.length ? places : undefined;
}

function parse(pattern: string): Part[] {
  const chars = Array.from(pattern);
  const parts: Part[] = [];
  for (let at = 0; at < chars.length; at += 1) {
    const char = String(chars[at]);
    if (char === "*") {
      if (parts.at(-1) !== ANY) parts.push(ANY);
    } else if (char === "?") {
      parts.push({ kind: "one", accepts: () => true, isLiteral: false });
    } else if (char === "[") {
      const set = parseSet(chars, at + 1);
      parts.push({ kind: "one", accepts: set.accepts, isLiteral: false });
      at = set.end;
    } else {
      // A trailing backslash stands for itself, as in Redis.
      const literal = char === "\\" && at + 1 < chars.length ? String(chars[(at += 1)]) : char;
      parts.push({ kind: "one", accepts: (other) => other === literal, isLiteral: true });
    }
  }
  return parts;
}

/** Reads a set from behind its `[`. An unclosed one ends with the pattern, as in Redis. */
function parseSet(chars: readonly string[], start: number): { accepts: (char: string) => boolean; end: number } {
  let at = start;
  const negated = chars[at] === "^";
  if (negated) at += 1;
  const ranges: { low: string; high: string }[] = [];
  for (; at < chars.length && chars[at] !== "]"; at += 1) {
    // What is escaped begins no range, as in Redis.
    const isEscaped = chars[at] === "\\" && at + 1 < chars.length;
    if (isEscaped) at += 1;
    const low = String(chars[at]);
    if (!isEscaped && chars[at + 1] === "-" && at + 2 < chars.length) {
      const high = String(chars[at + 2]);
      ranges.push(low <= high ? { low, high } : { low: high, high: low });
      at += 2;
    } else {
      ranges.push({ low, high: low });
    }
  }
  const accepts = (char: string): boolean => ranges.some(({ low, high }) => char >= low && char <= high) !== negated;
  return { accepts, end: at };
}
