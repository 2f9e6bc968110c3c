/** Names and payloads that are refused wherever they are given: the row of the list of faults, what it is, the value, and what is said of it. */

export const BAD_NAMES: readonly (readonly [row: number, input: string, name: unknown, says: RegExp])[] = [
  [37, "an empty name", "", /empty/],
  [38, "a blank name", " ", /empty/],
  [39, "a line feed", "a\nb", /control character/],
  [40, "a NUL", "a\0b", /control character/],
  [42, "{x}", "{x}", /"\{"/],
  [43, "}{", "a}{b", /"\}"/],
  [44, "* in a name", "a*", /"\*"/],
  [45, "[", "a[b", /"\["/],
  [46, "a trailing \\", "a\\", /\\/],
  [47, "257 bytes", "x".repeat(257), /257 bytes.*at most 200/],
  [48, "half a surrogate pair", "a\ud800", /surrogate/],
  [52, "a thousand stars", `${"*".repeat(1_000)}b`, /"\*"/],
  [53, "no string", 7, /must be a string/],
];

const cyclic: Record<string, unknown> = {};
cyclic["self"] = cyclic;
const nested = (depth: number): unknown => (depth === 0 ? 1 : { in: nested(depth - 1) });
const thrower = {
  toJSON: () => {
    throw new Error("no");
  },
};
const trap = new Proxy(
  {},
  {
    ownKeys: () => {
      throw new Error("no");
    },
  },
);

export const BAD_PAYLOADS: readonly (readonly [
  row: number,
  input: string,
  data: unknown,
  code: string,
  says: RegExp,
])[] = [
  [56, "undefined", undefined, "CODEC", /undefined/],
  [57, "a function", () => 1, "CODEC", /function/],
  [58, "a BigInt", { n: 1n }, "CODEC", /\.n.*bigint/],
  [59, "NaN", { a: [Number.NaN] }, "CODEC", /\.a\[0\].*NaN/],
  [60, "a cycle", cyclic, "CODEC", /contains itself/],
  [61, "a depth of 65", nested(65), "CODEC", /deeper than 64/],
  [64, "a Map", { m: new Map([[1, 2]]) }, "CODEC", /\.m.*Map/],
  [65, "a byte more than 1 MiB", "x".repeat(1_048_575), "LIMIT", /1048577.*maxPayloadBytes/],
  [66, "a toJSON that throws", thrower, "CODEC", /toJSON/],
  [67, "a proxy that throws", trap, "CODEC", /threw/],
];

/** Bad input 77. */
export const TOO_MANY_HEADERS: Readonly<Record<string, string>> = Object.fromEntries(
  Array.from({ length: 10_000 }, (_, n) => [`h${n}`, "v"]),
);

/** Bad inputs 11 to 16, in the order of their rows. */
export const BAD_CONCURRENCIES: readonly unknown[] = [0, -1, 1.5, Number.NaN, "5", Number.POSITIVE_INFINITY];
