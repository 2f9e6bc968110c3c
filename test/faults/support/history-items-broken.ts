/** Histories of a queue that are broken, by the rule that has to find it: one publisher and two consumers, the second of which is answered. */

import type { BrokenCase } from "./history-cases.js";
import { EVERYBODY } from "./history-items.js";

export const brokenItems: readonly BrokenCase[] = [
  {
    rule: "lost",
    title: "an acknowledged message never comes",
    tell: (s) => s.item(0).item(1).done(1, { n: 1 }).rest(),
  },
  {
    rule: "lost",
    title: "more that may expire is missing than has expired",
    tell: (s) =>
      s
        .item(0, { ttlMs: 100 })
        .item(1, { ttlMs: 100 })
        .wait(200)
        .rest({ "": { expired: 1 } }),
  },
  {
    rule: "lost",
    title: "one of an audience never gets it",
    tell: (s) => s.item(0, { to: EVERYBODY }).done(1, { r: "ada", n: 0 }).rest(),
  },
  { rule: "unfinished", title: "a message is forgotten", tell: (s) => s.item(0).taken(1, { n: 0 }).rest() },
  {
    rule: "unfinished",
    title: "a dead letter is nowhere to be found",
    tell: (s) => s.item(0).taken(1, { n: 0 }).settled(1, { n: 0 }, "dead").rest(),
  },
  { rule: "phantom", title: "a message that nobody has published", tell: (s) => s.done(1, { n: 0 }).rest() },
  {
    rule: "phantom",
    title: "a message for somebody else",
    tell: (s) => s.item(0, { to: "ada" }).done(1, { r: "bob", n: 0 }, { r: "ada", n: 0 }).rest(),
  },
  {
    rule: "phantom",
    title: "a message for the audience comes to whoever consumes the queue",
    tell: (s) => s.item(0, { to: EVERYBODY }).done(1, { n: 0 }, { r: "ada", n: 0 }, { r: "bob", n: 0 }).rest(),
  },
  {
    rule: "refused",
    title: "a refused message comes",
    tell: (s) =>
      s
        .push({ op: "itemInvoke", n: 0, to: "", priority: 0 })
        .push({ op: "fail", n: 0, error: "x" })
        .done(1, { n: 0 })
        .rest(),
  },
  {
    rule: "twice",
    title: "one message under two ids",
    tell: (s) =>
      s
        .item(0)
        .taken(1, { n: 0 })
        .tell(1, { op: "itemEnd", r: "", p: 1, n: 0, a: 1, as: "retry" })
        .tell(1, { op: "itemBegin", r: "", p: 1, n: 0, a: 2, at: "another", from: 1_000.1e9, until: 1_000.1e9 })
        .settled(1, { n: 0, a: 2 })
        .rest(),
  },
  {
    rule: "priority",
    title: "something less urgent is handed out while something urgent waits",
    tell: (s) => s.item(0).item(1, { priority: 5 }).wait(50).done(1, { n: 0 }, { n: 1 }).rest(),
  },
  {
    rule: "priority",
    title: "of two equals the younger comes first",
    tell: (s) => s.item(0).item(1).wait(50).done(1, { n: 1 }, { n: 0 }).rest(),
  },
  {
    rule: "priority",
    title: "another consumer is given something less urgent",
    tell: (s) =>
      s
        .item(0, { to: "ada" })
        .item(1, { to: "ada", priority: 5 })
        .wait(50)
        .done(2, { r: "ada", n: 0 })
        .done(1, { r: "ada", n: 1 })
        .rest(),
  },
  {
    rule: "priority",
    title: "a retry has lost its priority",
    tell: (s) =>
      s
        .item(0, { priority: 5 })
        .item(1)
        .taken(2, { n: 0 })
        .settled(2, { n: 0 }, "retry")
        .wait(50)
        .done(1, { n: 1 })
        .done(2, { n: 0, a: 2 })
        .rest(),
  },
  {
    rule: "priority",
    title: "what was delayed has lost its priority",
    tell: (s) => s.item(0, { priority: 5, delayMs: 100 }).item(1).wait(150).done(1, { n: 1 }, { n: 0 }).rest(),
  },
  {
    rule: "expired",
    title: "something is handed out after its time",
    tell: (s) => s.item(0, { ttlMs: 100 }).wait(150).done(1, { n: 0 }).rest(),
  },
  {
    rule: "expired",
    title: "a retry is handed out after its time",
    tell: (s) =>
      s
        .item(0, { ttlMs: 100 })
        .taken(2, { n: 0 })
        .settled(2, { n: 0 }, "retry")
        .wait(150)
        .done(1, { n: 0, a: 2 })
        .rest(),
  },
  {
    rule: "early",
    title: "a delay is not waited for",
    tell: (s) => s.item(0, { delayMs: 100 }).wait(30).done(1, { n: 0 }).rest(),
  },
  {
    rule: "early",
    title: "a retry is not waited for",
    tell: (s) =>
      s.item(0).taken(2, { n: 0 }).settled(2, { n: 0 }, "retry", 500).wait(100).done(1, { n: 0, a: 2 }).rest(),
  },
  {
    rule: "early",
    title: "something expires before its time",
    tell: (s) =>
      s
        .item(0, { ttlMs: 900 })
        .tell(1, { op: "itemExpired", r: "", p: 1, n: 0, from: 1_000.01e9, until: 1_000.02e9 })
        .rest({ "": { expired: 1 } }),
  },
  {
    rule: "early",
    title: "something expires that has all the time there is",
    tell: (s) =>
      s
        .item(0)
        .tell(1, { op: "itemExpired", r: "", p: 1, n: 0, from: 1_000.01e9, until: 1_000.02e9 })
        .rest({ "": { expired: 1 } }),
  },
  {
    rule: "overlap",
    title: "two consumers have a message at once",
    tell: (s) => s.item(0).taken(1, { n: 0 }).done(2, { n: 0, a: 2 }).settled(1, { n: 0 }).rest(),
  },
  {
    rule: "overlap",
    title: "what a dead consumer held comes before its lease has run out",
    tell: (s) =>
      s
        .item(0)
        .taken(1, { n: 0 })
        .direct({ op: "died", process: "consumer", number: 1 })
        .wait(1_000)
        .done(2, { n: 0, a: 2 })
        .rest(),
  },
  {
    rule: "overlap",
    title: "a lease runs out although it was renewed",
    tell: (s) =>
      s
        .item(0)
        .taken(1, { n: 0 })
        .wait(2_000)
        .tell(1, { op: "itemExtended", r: "", p: 1, n: 0, a: 1, from: 1_001.9e9 })
        .wait(1_500)
        .done(2, { n: 0, a: 2 })
        .rest(),
  },
  {
    rule: "fence",
    title: "an outcome counts that comes too late",
    tell: (s) =>
      s
        .item(0)
        .taken(2, { n: 0 })
        .wait(3_100)
        .taken(1, { n: 0, a: 2 })
        .settled(2, { n: 0 })
        .settled(1, { n: 0, a: 2 })
        .rest(),
  },
  {
    rule: "again",
    title: "a message comes again after its acknowledgement was stored",
    tell: (s) => s.item(0).done(2, { n: 0 }).wait(3_100).done(1, { n: 0, a: 2 }).rest(),
  },
  {
    rule: "again",
    title: "a message comes again after it was parked",
    tell: (s) =>
      s
        .item(0)
        .taken(2, { n: 0 })
        .settled(2, { n: 0 }, "dead")
        .done(1, { n: 0, a: 2 })
        .direct({ op: "itemLetter", r: "", p: 1, n: 0, attempts: 1, kind: "rejected" })
        .rest({ "": { dead: 1 } }),
  },
  {
    rule: "again",
    title: "a message comes that the store has called expired",
    tell: (s) =>
      s
        .item(0, { ttlMs: 100 })
        .wait(110)
        .tell(1, { op: "itemExpired", r: "", p: 1, n: 0, from: 1_000.1e9, until: 1_000.11e9 })
        .done(1, { n: 0 })
        .rest({ "": { expired: 1 } }),
  },
  {
    rule: "attempts",
    title: "a counted retry comes again as the same attempt",
    tell: (s) => s.item(0).taken(2, { n: 0 }).settled(2, { n: 0 }, "retry").done(1, { n: 0 }).rest(),
  },
  { rule: "attempts", title: "more attempts than there may be", tell: (s) => s.item(0).done(1, { n: 0, a: 4 }).rest() },
  {
    rule: "attempts",
    title: "a message has failed too soon",
    tell: (s) =>
      s
        .item(0)
        .taken(2, { n: 0 })
        .settled(2, { n: 0 }, "retry")
        .direct({ op: "itemLetter", r: "", p: 1, n: 0, attempts: 2, kind: "failed" })
        .rest({ "": { dead: 1 } }),
  },
  {
    rule: "unseen",
    title: "a message is handed out, and no handler sees it",
    tell: (s) => s.item(0).wait(4_000).done(1, { n: 0, a: 2 }).rest(),
  },
  {
    rule: "stuck",
    title: "what a dead consumer held comes again too late",
    tell: (s) =>
      s
        .item(0)
        .taken(1, { n: 0 })
        .direct({ op: "died", process: "consumer", number: 1 })
        .wait(9_000)
        .done(2, { n: 0, a: 2 })
        .rest(),
  },
  {
    rule: "stuck",
    title: "in the quiet the stream goes on and the queue sleeps",
    tell: (s) =>
      s
        .publisher()
        .consumer(1)
        .published(0)
        .direct({ op: "fault", number: 1, kind: "test", stalls: false, rollsBack: false, quiet: true })
        .direct({ op: "writable", number: 1, work: ["events", "queue"] })
        .handled(1, { n: 0 })
        .consumed(1, { op: "settled", count: 1 })
        .direct({ op: "over", number: 1 })
        .left()
        .rest(),
  },
  {
    rule: "audience",
    title: "the receipt of a message for the audience counts too few",
    tell: (s) =>
      s
        .push({ op: "itemInvoke", n: 0, to: EVERYBODY, priority: 0 })
        .push({ op: "ok", n: 0, count: 1 })
        .done(1, { r: "ada", n: 0 }, { r: "bob", n: 0 })
        .rest(),
  },
  { rule: "left", title: "a recipient has not finished", tell: (s) => s.item(0).rest({ "": { delayed: 1 } }) },
  { rule: "equation", title: "letters are counted that are not there", tell: (s) => s.rest({ ada: { dead: 1 } }) },
  {
    rule: "equation",
    title: "more is counted as expired than may have",
    tell: (s) =>
      s
        .item(0, { ttlMs: 100 })
        .done(2, { n: 0 })
        .rest({ "": { expired: 1 } }),
  },
  { rule: "equation", title: "nobody has asked the store", tell: (s) => s.item(0).done(1, { n: 0 }) },
  {
    rule: "gone",
    title: "something was dropped",
    tell: (s) =>
      s
        .item(0)
        .done(1, { n: 0 })
        .rest({ ada: { dropped: 1 } }),
  },
  { rule: "history", title: "an answer to what was never asked", tell: (s) => s.push({ op: "ok", n: 5 }).rest() },
  {
    rule: "history",
    title: "a recipient that nobody knows of",
    tell: (s) => s.item(0).done(1, { n: 0 }, { r: "eve", n: 0 }).rest(),
  },
];
