/** What is told to watchers who read too slowly. */

import fc from "fast-check";
import { expect, test } from "vitest";
import type { KnownChange } from "../../src/core/group-news.js";
import { mergeChanges } from "../../src/presence/watch.js";

const IDS = ["a", "b", "c", "d"];

/** Changes as they can come, of a group in which `a` and `b` were present. */
const steps = fc.array(fc.record({ id: fc.constantFrom(...IDS), meta: fc.string(), leaves: fc.boolean() }), {
  maxLength: 50,
});

function play(changes: readonly KnownChange[], present: Map<string, string>): Map<string, string> {
  for (const { kind, member } of changes) {
    expect(present.has(member.id)).toBe(kind !== "joined");
    if (kind === "left") present.delete(member.id);
    else present.set(member.id, member.meta);
  }
  return present;
}

test("merged changes come to the same, with one for each member, and none for who has come and gone", () => {
  fc.assert(
    fc.property(steps, (all) => {
      const start = (): Map<string, string> => new Map(IDS.slice(0, 2).map((id) => [id, "start"]));
      const present = start();
      const changes = all.flatMap(({ id, meta, leaves }): KnownChange[] => {
        const isThere = present.has(id);
        if (leaves && !isThere) return [];
        if (leaves) present.delete(id);
        else present.set(id, meta);
        const kind = leaves ? "left" : isThere ? "updated" : "joined";
        return [{ kind, member: { id, meta, connections: 1, joinedAt: 0, lastSeen: 0 } }];
      });
      const merged = mergeChanges(changes);
      expect(Object.fromEntries(play(merged, start()))).toEqual(Object.fromEntries(play(changes, start())));
      expect(merged.length).toBeLessThanOrEqual(IDS.length);
      expect(new Set(merged.map(({ member }) => member.id)).size).toBe(merged.length);
    }),
  );
});
