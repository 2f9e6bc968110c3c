/** The comparison with others: complete, and honest in that each gets its due. */

import { expect, test } from "vitest";
import { readPage } from "./support/pages.js";

const { lines } = readPage("docs/concepts/alternatives.md");

test("[E2] every alternative has a reason to take it instead, and every claim of ours a page behind it", () => {
  const rows = lines
    .filter((line) => line.startsWith("| "))
    .map((line) =>
      line
        .slice(1, -1)
        .split("|")
        .map((cell) => cell.trim()),
    );
  const [head = [], ...body] = rows;
  expect(head.slice(1)).toEqual(["Redis Streams by hand", "BullMQ 6", "NATS JetStream", "Kafka", "signalbox"]);
  for (const name of ["Redis Streams by hand", "BullMQ", "NATS JetStream", "Kafka", "`EventEmitter`", "signalbox"]) {
    expect(lines.join("\n")).toMatch(new RegExp(`^Take (?:an )?\\*\\*${name}\\*\\* (?:when|for) `, "m"));
  }
  // Where we do say yes, a page says how; where we do not, it stands there as plainly.
  const claims = body.map((cells) => cells.at(-1) ?? "");
  expect(claims.filter((claim) => /^yes\b/i.test(claim))).toEqual([]);
  expect(claims.filter((claim) => claim.includes("](")).length).toBeGreaterThanOrEqual(8);
  expect(claims).toContain("no");
});
