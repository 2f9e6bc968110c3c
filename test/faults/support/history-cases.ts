/** Histories of which it is known whether they are sound; each begins with one publisher and two consumers of one group. */

import type { Rule } from "./history-findings.js";
import { type Story, WORK } from "./history-story.js";

export interface Case {
  readonly title: string;
  tell(story: Story): Story;
}

export interface BrokenCase extends Case {
  readonly rule: Rule;
}

const stalls = { stalls: true };
const rollsBack = { stalls: true, rollsBack: true };

/** What sounds bad and is not. */
export const sound: readonly Case[] = [
  {
    title: "messages are delivered once, in order, and acknowledged",
    tell: (s) => s.published(0, 7).published(1, 7).handled(1, { n: 0 }, { n: 1 }).left(),
  },
  {
    title: "an unknown publish may have been stored",
    tell: (s) =>
      s.publish({ op: "invoke", n: 0 }).publish({ op: "unknown", n: 0, error: "x" }).handled(1, { n: 0 }).left(),
  },
  {
    title: "an unknown publish may not have been stored",
    tell: (s) => s.publish({ op: "invoke", n: 0 }).publish({ op: "unknown", n: 0, error: "x" }).left(),
  },
  {
    title: "a publisher dies before it hears of its receipt",
    tell: (s) => s.publish({ op: "invoke", n: 0 }).direct({ op: "died", process: "publisher", number: 1 }).left(),
  },
  {
    title: "a retry comes again as the next attempt",
    tell: (s) => s.published(0, 1).begin(1, { n: 0 }).end(1, { n: 0 }, "retry").handled(2, { n: 0, a: 2 }).left(),
  },
  {
    title: "a deferred message comes again as the same attempt",
    tell: (s) => s.published(0, 1).begin(1, { n: 0 }).end(1, { n: 0 }, "defer").handled(2, { n: 0 }).left(),
  },
  {
    title: "a message becomes a dead letter",
    tell: (s) =>
      s
        .published(0, 1)
        .begin(1, { n: 0 })
        .end(1, { n: 0 }, "dead")
        .direct({ op: "letter", group: "work", p: 1, n: 0, attempts: 1, kind: "rejected" })
        .left({ dead: 1 }),
  },
  {
    title: "a consumer dies, and another has its message before the lease would have ended",
    tell: (s) =>
      s
        .published(0, 1)
        .begin(1, { n: 0 })
        .direct({ op: "died", process: "consumer", number: 1 })
        .handled(2, { n: 0, a: 2 })
        .left(),
  },
  {
    title: "a message that died with its consumers is a dead letter, and the next of its key goes on",
    tell: (s) =>
      s
        .published(0, 1)
        .published(1, 1)
        .fault(1, stalls)
        .begin(1, { n: 0, a: 3 })
        .direct({ op: "died", process: "consumer", number: 1 })
        .handled(2, { n: 1 })
        .direct({ op: "letter", group: "work", p: 1, n: 0, attempts: 3, kind: "abandoned" })
        .left({ dead: 1 }),
  },
  {
    title: "a late outcome is refused by the store",
    tell: (s) =>
      s
        .consumer(3, WORK, true)
        .published(0, 1)
        .begin(3, { n: 0 })
        .fault(1, stalls)
        .handled(2, { n: 0, a: 2 })
        .end(3, { n: 0 })
        .consumed(3, { op: "lost", p: 1, n: 0, a: 1, as: "ack" })
        .left(),
  },
  {
    title: "somebody who stood still begins what was handed to him long ago",
    tell: (s) =>
      s
        .consumer(3, WORK, true)
        .published(0, 1)
        .published(1, 1)
        .begin(3, { n: 0 })
        .end(3, { n: 0 }, "retry")
        .begin(3, { n: 0, a: 2 })
        .end(3, { n: 0, a: 2 })
        .consumed(3, { op: "stored", p: 1, n: 0, a: 2, as: "ack" })
        .begin(2, { n: 1 })
        .fault(1, stalls)
        .begin(1, { n: 0 })
        .end(1, { n: 0 })
        .end(2, { n: 1 })
        .left(),
  },
  {
    title: "a primary is lost: a position, an attempt and an acknowledgement that no replica had",
    tell: (s) =>
      s
        .consumer(3, WORK, true)
        .published(0, 1)
        .begin(1, { n: 0 }, "5-0")
        .end(1, { n: 0 }, "retry")
        .begin(3, { n: 0, a: 2 }, "5-0")
        .end(3, { n: 0, a: 2 })
        .consumed(3, { op: "stored", p: 1, n: 0, a: 2, as: "ack" })
        .fault(1, rollsBack)
        .begin(2, { n: 0, a: 1 }, "6-0")
        .end(2, { n: 0, a: 1 })
        .left(),
  },
  {
    title: "another group has its own deliveries",
    tell: (s) =>
      s
        .consumer(3, { ...WORK, name: "audit", order: "none" })
        .published(0, 1)
        .published(1, 1)
        .handled(1, { n: 0 }, { n: 1 })
        .handled(3, { n: 1 }, { n: 0 })
        .left()
        .left({}, "audit"),
  },
  {
    title: "a file ends in the middle of a line",
    tell: (s) => s.published(0).handled(1, { n: 0 }).left().torn("consumer-1"),
  },
  {
    title: "a process stands still, though nobody had stopped it, and what it was handed comes again unseen",
    tell: (s) =>
      s.published(0).consumed(2, { op: "stood", until: 1_004e9 }).wait(4_000).handled(1, { n: 0, a: 2 }).left(),
  },
];

/** What must be found, by the rule that it breaks. */
export const broken: readonly BrokenCase[] = [
  {
    rule: "lost",
    title: "an acknowledged message never comes",
    tell: (s) => s.published(0).published(1).handled(1, { n: 0 }).left(),
  },
  {
    rule: "lost",
    title: "one is left, and two are missing",
    tell: (s) => s.published(0).published(1).left({ lag: 1 }),
  },
  {
    rule: "lost",
    title: "one group has it and the other not",
    tell: (s) =>
      s
        .consumer(3, { ...WORK, name: "audit" })
        .published(0)
        .handled(1, { n: 0 })
        .left()
        .left({}, "audit"),
  },
  {
    rule: "unfinished",
    title: "a consumer dies with its message",
    tell: (s) => s.published(0).begin(1, { n: 0 }).left(),
  },
  {
    rule: "unfinished",
    title: "a retry is forgotten",
    tell: (s) => s.published(0).begin(1, { n: 0 }).end(1, { n: 0 }, "retry").left(),
  },
  {
    rule: "unfinished",
    title: "a dead letter is nowhere to be found",
    tell: (s) => s.published(0).begin(1, { n: 0 }).end(1, { n: 0 }, "dead").left(),
  },
  {
    rule: "phantom",
    title: "a message that nobody has published",
    tell: (s) => s.published(0).handled(1, { n: 0 }, { n: 1 }).left(),
  },
  { rule: "phantom", title: "a message of nobody", tell: (s) => s.handled(1, { p: 9, n: 0 }).left() },
  {
    rule: "phantom",
    title: "it comes before it was published",
    tell: (s) => s.handled(1, { n: 0 }).published(0).left(),
  },
  {
    rule: "phantom",
    title: "a dead letter of nothing",
    tell: (s) => s.direct({ op: "letter", group: "work", p: 1, n: 4, attempts: 3, kind: "failed" }).left({ dead: 1 }),
  },
  {
    rule: "refused",
    title: "a refused message comes",
    tell: (s) =>
      s.publish({ op: "invoke", n: 0 }).publish({ op: "fail", n: 0, error: "x" }).handled(1, { n: 0 }).left(),
  },
  {
    rule: "corrupt",
    title: "other data than were published",
    tell: (s) => s.consumed(1, { op: "corrupt", what: "x" }).left(),
  },
  {
    rule: "twice",
    title: "one message from two positions",
    tell: (s) => s.published(0).handled(1, { n: 0 }).begin(1, { n: 0 }, "9-9").end(1, { n: 0 }).left(),
  },
  {
    rule: "twice",
    title: "two dead letters of one message",
    tell: (s) =>
      s
        .published(0)
        .begin(1, { n: 0 })
        .end(1, { n: 0 }, "dead")
        .direct({ op: "letter", group: "work", p: 1, n: 0, attempts: 1, kind: "rejected" })
        .direct({ op: "letter", group: "work", p: 1, n: 0, attempts: 1, kind: "rejected" })
        .left({ dead: 2 }),
  },
  {
    rule: "order",
    title: "a later message of the key came first",
    tell: (s) => s.published(0, 7).published(1, 7).handled(1, { n: 1 }, { n: 0 }).left(),
  },
  {
    rule: "overtaken",
    title: "a message of the key is handed out while another waits for its retry",
    tell: (s) =>
      s
        .published(0, 7)
        .published(1, 7)
        .begin(1, { n: 0 })
        .end(1, { n: 0 }, "retry")
        .handled(2, { n: 1 })
        .handled(1, { n: 0, a: 2 })
        .left(),
  },
  {
    rule: "overtaken",
    title: "a message of the key is handed out while another is handled",
    tell: (s) =>
      s.published(0, 7).published(1, 7).begin(1, { n: 0 }).begin(2, { n: 1 }).end(1, { n: 0 }).end(2, { n: 1 }).left(),
  },
  {
    rule: "overlap",
    title: "two consumers have a message at once",
    tell: (s) =>
      s.published(0).begin(1, { n: 0 }).begin(2, { n: 0, a: 2 }).end(1, { n: 0 }).end(2, { n: 0, a: 2 }).left(),
  },
  {
    rule: "fence",
    title: "the acknowledgement of an attempt counts whose lease has passed on",
    tell: (s) =>
      s
        .consumer(3, WORK, true)
        .published(0)
        .begin(3, { n: 0 })
        .fault(1, stalls)
        .begin(2, { n: 0, a: 2 })
        .end(3, { n: 0 })
        .consumed(3, { op: "stored", p: 1, n: 0, a: 1, as: "ack" })
        .end(2, { n: 0, a: 2 })
        .left(),
  },
  {
    rule: "again",
    title: "a message comes again after its acknowledgement was stored",
    tell: (s) =>
      s
        .consumer(3, WORK, true)
        .published(0)
        .handled(3, { n: 0 })
        .consumed(3, { op: "stored", p: 1, n: 0, a: 1, as: "ack" })
        .handled(2, { n: 0, a: 2 })
        .left(),
  },
  {
    rule: "unseen",
    title: "a message is handed out, and no handler sees it before its lease has run out",
    tell: (s) => s.published(0).wait(4_000).handled(1, { n: 0, a: 2 }).left(),
  },
  {
    rule: "unseen",
    title: "a retry is handed out, and no handler sees it",
    tell: (s) =>
      s.published(0).begin(1, { n: 0 }).end(1, { n: 0 }, "retry").wait(4_000).handled(2, { n: 0, a: 3 }).left(),
  },
  {
    rule: "stuck",
    title: "what a dead consumer held comes again too late",
    tell: (s) =>
      s
        .published(0)
        .begin(1, { n: 0 })
        .direct({ op: "died", process: "consumer", number: 1 })
        .wait(9_000)
        .handled(2, { n: 0, a: 2 })
        .left(),
  },
  {
    rule: "attempts",
    title: "a counted retry comes again as the same attempt",
    tell: (s) => s.published(0).begin(1, { n: 0 }).end(1, { n: 0 }, "retry").handled(2, { n: 0 }).left(),
  },
  {
    rule: "attempts",
    title: "more attempts than there may be",
    tell: (s) => s.published(0).handled(1, { n: 0, a: 4 }).left(),
  },
  {
    rule: "attempts",
    title: "a message has failed too soon",
    tell: (s) =>
      s
        .published(0)
        .begin(1, { n: 0 })
        .end(1, { n: 0 }, "retry")
        .direct({ op: "letter", group: "work", p: 1, n: 0, attempts: 2, kind: "failed" })
        .left({ dead: 1 }),
  },
  { rule: "left", title: "the group has not finished", tell: (s) => s.published(0).left({ lag: 1 }) },
  { rule: "equation", title: "letters are counted that are not there", tell: (s) => s.left({ dead: 1 }) },
  { rule: "equation", title: "nobody has asked the store", tell: (s) => s.published(0).handled(1, { n: 0 }) },
  {
    rule: "gone",
    title: "something was dropped",
    tell: (s) => s.published(0).consumed(1, { op: "gone", count: 1 }).left(),
  },
  {
    rule: "stuck",
    title: "one consumer works on and the other sleeps",
    tell: (s) =>
      s
        .direct({ op: "fault", number: 1, kind: "test", stalls: false, rollsBack: false, quiet: false })
        .direct({ op: "writable", number: 1, work: ["events"] })
        .publish({ op: "invoke", n: 0 })
        .publish({ op: "ok", n: 0 })
        .handled(1, { n: 0 })
        .consumed(1, { op: "settled", count: 1 })
        .direct({ op: "over", number: 1 })
        .left(),
  },
  {
    rule: "stuck",
    title: "work goes on too late",
    tell: (s) =>
      s
        .published(0)
        .direct({ op: "fault", number: 1, kind: "test", stalls: false, rollsBack: false, quiet: true })
        .direct({ op: "writable", number: 1, work: ["events"] })
        .wait(5_500)
        .handled(1, { n: 0 })
        .consumed(1, { op: "settled", count: 1 })
        .direct({ op: "over", number: 1 })
        .left(),
  },
  {
    rule: "stuck",
    title: "the store is gone for too long",
    tell: (s) =>
      s
        .direct({ op: "fault", number: 1, kind: "test", stalls: true, rollsBack: true, quiet: true })
        .wait(11_000)
        .direct({ op: "writable", number: 1, killedAt: 1_000e9, work: [] })
        .left(),
  },
  {
    rule: "stuck",
    title: "the store never comes back",
    tell: (s) => s.direct({ op: "fault", number: 1, kind: "test", stalls: true, rollsBack: true, quiet: true }).left(),
  },
  { rule: "memory", title: "too much memory", tell: (s) => s.consumed(1, { op: "rss", bytes: 2 ** 31 }).left() },
  {
    rule: "unhandled",
    title: "an unhandled rejection",
    tell: (s) => s.consumed(1, { op: "unhandled", what: "x" }).left(),
  },
  {
    rule: "unhandled",
    title: "a process ends by itself",
    tell: (s) => s.direct({ op: "ended", process: "consumer-1", what: "exit 1" }).left(),
  },
  { rule: "history", title: "an answer to what was never asked", tell: (s) => s.publish({ op: "ok", n: 5 }).left() },
  { rule: "history", title: "a message number is left out", tell: (s) => s.publish({ op: "invoke", n: 3 }).left() },
];
