/** Names and keys: nothing a user calls something can reach another key, slot or namespace. */

import { assert, constantFrom, oneof, pre, property, string, tuple } from "fast-check";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  channelKey,
  channelName,
  channelPattern,
  decodeName,
  encodeName,
  fromStoredId,
  holderKeys,
  leasesKey,
  logKeys,
  indexedValue,
  memberKeys,
  queueKeys,
  toStoredId,
} from "../../../src/backends/redis/keys.js";
import { slotOfKey } from "../../../src/backends/redis/slots.js";
import { compileGlob } from "../../../src/core/glob.js";
import { privateRecipient } from "../../../src/core/private-recipients.js";

const name = oneof(string({ unit: "binary" }), string({ unit: constantFrom(...Array.from("{}:%*?[]\\ 0A\n|/.é😀")) }));

function allLogKeys(namespace: string, stream: string, group: string): string[] {
  const keys = logKeys(namespace, stream);
  const own = keys.group(group);
  return [keys.stream, keys.groups, keys.parked, keys.dropped, keys.publisher("p"), ...Object.values(own)];
}

function allQueueKeys(namespace: string, queue: string, recipient: string): string[] {
  const { publisher, index, recipient: keysOf, ids, ...keys } = queueKeys(namespace, queue);
  const { taken, ...own } = keysOf(recipient);
  const indexes = [index("all"), index("dead"), index(indexedValue(queue, recipient))];
  return [
    ...Object.values(keys),
    ...ids,
    publisher("p"),
    ...indexes,
    ...Object.values(own),
    taken("c", 0),
    taken("c", 1),
  ];
}

function allMemberKeys(namespace: string, group: string, holder: string): string[] {
  const { ids, ...own } = memberKeys(namespace, group);
  return [...Object.values(own), ids(holder)];
}

test("scripts know an inbox for answers by how its name begins", () => {
  const lua = readFileSync(new URL("../../../src/backends/redis/lua/lib/answers.lua", import.meta.url), "utf8");
  const prefix = /string\.sub\(recipient, 1, (\d+)\) == '(.*)'/.exec(lua);
  const encoded = encodeName(privateRecipient("reply"));
  expect(encoded.slice(0, Number(prefix?.[1]))).toBe(prefix?.[2]);
  expect(encodeName(privateRecipient("fanout"))).not.toContain(prefix?.[2]);
});

describe("names", () => {
  test("every name can be read back, and is written in harmless characters", () => {
    assert(
      property(name, (one) => {
        expect(encodeName(one)).toMatch(/^(?:[A-Za-z0-9._-]|%[0-9A-F]{2})*$/);
        expect(decodeName(encodeName(one))).toBe(one);
      }),
    );
  });

  test("no two names are written the same way", () => {
    assert(property(name, name, (one, other) => (encodeName(one) === encodeName(other)) === (one === other)));
  });

  test("half a surrogate pair is refused", () => {
    expect(() => encodeName("a\ud800")).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  test("an id can be read back, and is stored without line feeds", () => {
    assert(
      property(name, (id) => {
        expect(toStoredId(id)).not.toContain("\n");
        expect(fromStoredId(toStoredId(id))).toBe(id);
      }),
    );
    expect(toStoredId("0190a000-0000-7000-8000-000000000000")).toBe("0190a000-0000-7000-8000-000000000000");
  });
});

describe("keys", () => {
  test("all keys of a stream, a queue, a group of members or a holder begin with the layout and are in one Cluster slot", () => {
    assert(
      property(name, name, name, (namespace, subject, part) => {
        for (const keys of [
          allLogKeys(namespace, subject, part),
          allQueueKeys(namespace, subject, part),
          allMemberKeys(namespace, subject, part),
          Object.values(holderKeys(namespace, subject)),
          [leasesKey(namespace)],
        ]) {
          expect(new Set(keys).size).toBe(keys.length);
          expect(new Set(keys.map(slotOfKey)).size).toBe(1);
          for (const key of keys) expect(key).toMatch(/^sb1:\{[^{}]*:0\}:/);
        }
      }),
    );
  });

  test("two different names never share a key", () => {
    assert(
      property(tuple(name, name, name), tuple(name, name, name), (one, other) => {
        pre(one.join("\u0000") !== other.join("\u0000"));
        // Names of streams and queues have keys of their own, those of groups and recipients within them.
        const sameSubject = one[0] === other[0] && one[1] === other[1];
        const own = (keys: string[]): string[] => (sameSubject ? keys.filter((key) => /:[ghr]:/.test(key)) : keys);
        const all = (names: typeof one): string[] =>
          [allLogKeys(...names), allQueueKeys(...names), allMemberKeys(...names)].flatMap(own);
        const first = new Set(all(one));
        for (const key of all(other)) expect(first).not.toContain(key);
      }),
    );
  });

  test("what has the same name and is of another kind has nothing in common", () => {
    const keys = [
      ...allLogKeys("ns", "name", "part"),
      ...allQueueKeys("ns", "name", "part"),
      ...allMemberKeys("ns", "name", "part"),
      ...Object.values(holderKeys("ns", "name")),
      leasesKey("ns"),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe("channels", () => {
  test("a channel's name stays as it is, and is found again in its namespace only", () => {
    assert(
      property(name, name, name, (namespace, other, channel) => {
        const key = channelKey(namespace, channel);
        expect(key.endsWith(channel)).toBe(true);
        expect(channelName(namespace, key)).toBe(channel);
        if (other !== namespace) expect(channelName(other, key)).toBeUndefined();
      }),
    );
  });

  test("a pattern matches the channels of its namespace that its glob matches, whatever the namespace is called", () => {
    const namespaces = ["shop", "a*b", "[x]", "a?c", "back\\slash", "%2A"];
    for (const namespace of namespaces) {
      const matches = compileGlob(channelPattern(namespace, "events.*"));
      for (const other of namespaces) {
        expect(matches(channelKey(other, "events.signup"))).toBe(other === namespace);
        expect(matches(channelKey(other, "other.signup"))).toBe(false);
      }
    }
  });
});
