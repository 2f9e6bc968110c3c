/** Histories of a queue that sound bad and are sound: one publisher and two consumers, the second of which is answered. */

import type { Case } from "./history-cases.js";
import { EVERYBODY } from "./history-items.js";

const rollsBack = { stalls: true, rollsBack: true };

export const soundItems: readonly Case[] = [
  {
    title: "the most urgent comes first, and then the oldest",
    tell: (s) => s.item(0).item(1, { priority: 5 }).item(2).wait(50).done(1, { n: 1 }, { n: 0 }, { n: 2 }).rest(),
  },
  {
    title: "something urgent comes while a take is under way that brings something else",
    tell: (s) =>
      s.item(0).wait(50).item(1, { priority: 5 }).taken(1, { n: 0 }, 10).settled(1, { n: 0 }).done(2, { n: 1 }).rest(),
  },
  {
    title: "two takes at once, and the later answer brings what is more urgent",
    tell: (s) =>
      s
        .item(0)
        .item(1, { priority: 5 })
        .wait(50)
        .taken(1, { n: 0 }, 3)
        .taken(2, { n: 1 }, 5)
        .settled(1, { n: 0 })
        .settled(2, { n: 1 })
        .rest(),
  },
  {
    title: "something urgent is delayed, and something else comes meanwhile",
    tell: (s) =>
      s.item(0, { priority: 5, delayMs: 200 }).item(1).wait(50).done(1, { n: 1 }).wait(200).done(1, { n: 0 }).rest(),
  },
  {
    title: "something urgent waits for its retry, and something else comes meanwhile",
    tell: (s) =>
      s
        .item(0, { priority: 5 })
        .item(1)
        .taken(2, { n: 0 })
        .settled(2, { n: 0 }, "retry", 100)
        .wait(50)
        .done(1, { n: 1 })
        .wait(60)
        .done(2, { n: 0, a: 2 })
        .rest(),
  },
  {
    title: "something expires",
    tell: (s) =>
      s
        .item(0, { ttlMs: 100 })
        .wait(200)
        .tell(1, { op: "itemExpired", r: "", p: 1, n: 0, from: 1_000.15e9, until: 1_000.16e9 })
        .rest({ "": { expired: 1 } }),
  },
  {
    title: "something expires, and nobody hears of which it was",
    tell: (s) =>
      s
        .item(0, { ttlMs: 100 })
        .item(1)
        .wait(200)
        .done(1, { n: 1 })
        .rest({ "": { expired: 1 } }),
  },
  {
    title: "something expires after it began, and is not put back",
    tell: (s) =>
      s
        .item(0, { ttlMs: 100 })
        .taken(1, { n: 0 })
        .wait(200)
        .tell(1, { op: "itemEnd", r: "", p: 1, n: 0, a: 1, as: "retry" })
        .rest({ "": { expired: 1 } }),
  },
  {
    title: "an unknown publish may have been stored, or not",
    tell: (s) =>
      s
        .push({ op: "itemInvoke", n: 0, to: "", priority: 0 })
        .push({ op: "unknown", n: 0, error: "x" })
        .push({ op: "itemInvoke", n: 1, to: EVERYBODY, priority: 0 })
        .push({ op: "unknown", n: 1, error: "x" })
        .done(1, { n: 0 }, { r: "ada", n: 1 })
        .rest(),
  },
  {
    title: "each of an audience has its own, and one of them parks it",
    tell: (s) =>
      s
        .item(0, { to: EVERYBODY })
        .done(1, { r: "ada", n: 0 })
        .taken(2, { r: "bob", n: 0 })
        .settled(2, { r: "bob", n: 0 }, "dead")
        .direct({ op: "itemLetter", r: "bob", p: 1, n: 0, attempts: 1, kind: "rejected" })
        .rest({ bob: { dead: 1 } }),
  },
  {
    title: "a consumer dies, and another gets its message once the lease has run out",
    tell: (s) =>
      s
        .item(0)
        .taken(1, { n: 0 })
        .direct({ op: "died", process: "consumer", number: 1 })
        .wait(3_100)
        .done(2, { n: 0, a: 2 })
        .rest(),
  },
  {
    title: "a consumer that closes gives back what it holds",
    tell: (s) => s.item(0).taken(1, { n: 0 }).tell(1, { op: "itemsReleased", r: "" }).done(2, { n: 0 }).rest(),
  },
  {
    title: "an outcome comes too late, and changes nothing",
    tell: (s) =>
      s
        .item(0)
        .taken(2, { n: 0 })
        .wait(3_100)
        .taken(1, { n: 0, a: 2 })
        .tell(2, { op: "itemEnd", r: "", p: 1, n: 0, a: 1, as: "ack" })
        .tell(2, { op: "itemLost", r: "", p: 1, n: 0, a: 1, as: "ack" })
        .settled(1, { n: 0, a: 2 })
        .rest(),
  },
  {
    title: "somebody who stood still begins what was handed to him long ago",
    tell: (s) =>
      s
        .item(0)
        .fault(1, { stalls: true })
        .wait(3_200)
        .done(2, { n: 0, a: 2 })
        .taken(1, { n: 0 }, 3_200)
        .tell(1, { op: "itemEnd", r: "", p: 1, n: 0, a: 1, as: "ack" })
        .tell(1, { op: "itemLost", r: "", p: 1, n: 0, a: 1, as: "ack" })
        .rest(),
  },
  {
    title: "a primary is lost, and with it an acknowledgement that no replica had",
    tell: (s) =>
      s
        .item(0)
        .item(1, { priority: 5 })
        .wait(30)
        .taken(2, { n: 1 })
        .done(2, { n: 0 })
        .settled(2, { n: 1 })
        .fault(1, rollsBack)
        .done(1, { n: 0 }, { n: 1 })
        .rest(),
  },
];
