/** What comes to logs, metrics and `onError` of membership: one place says it for everything that happens. */

import { DataLossDetected, LeaseLostError, toError } from "./errors.js";
import { createFailureNews } from "./failure-news.js";
import { type KnownChange, nameOfGroup } from "./group-news.js";
import type { ViewEvents } from "./group-view.js";
import type { Runtime } from "./runtime.js";

export interface MembersEvents {
  /** Of one group that is watched. */
  view(group: string): ViewEvents;
  /** This broker's holder has lapsed, and all its members are entered anew. */
  lapsed(holder: string, members: number): void;
  /** The store has lost members of a group, and they are entered anew. */
  lost(group: string, holder: string, members: number): void;
  /** Members of a process that died were taken away. */
  reaped(holder: string, members: number): void;
  /** The store cannot be reached, so many times in a row. */
  failing(thrown: unknown, failures: number): void;
  recovered(): void;
  /** News were not sent; whoever watches finds out by the version. */
  unsent(thrown: unknown): void;
}

export function createMembersEvents(runtime: Runtime): MembersEvents {
  const { telemetry } = runtime;
  const isNews = createFailureNews();
  let unsent = 0;
  return {
    view(group) {
      const channel = nameOfGroup(group);
      const members = telemetry.gauge("signalbox.presence.members", { channel });
      const lists = telemetry.counter("signalbox.presence.lists", { channel });
      const kinds = {
        joined: telemetry.counter("signalbox.presence.changes", { channel, kind: "joined" }),
        updated: telemetry.counter("signalbox.presence.changes", { channel, kind: "updated" }),
        left: telemetry.counter("signalbox.presence.changes", { channel, kind: "left" }),
      };
      const tell = ({ kind, member }: KnownChange): void => {
        kinds[kind].add(1);
        telemetry.log("presence_changed", { channel, kind, member: member.id, connections: member.connections });
      };
      return {
        changed: (changes) => changes.forEach(tell),
        listed(reason) {
          lists.add(1);
          if (reason !== undefined) telemetry.log("presence_listed", { channel, reason });
        },
        counted: (difference) => members.add(difference),
      };
    },
    lapsed(holder, members) {
      telemetry.counter("signalbox.presence.lapses", {}).add(1);
      telemetry.log("presence_lapsed", { holder, members });
      const message = `the lease of holder "${holder}" was lost; its ${members} members are entered again by another`;
      runtime.report(new LeaseLostError(message), "presence");
    },
    lost(group, holder, members) {
      const channel = nameOfGroup(group);
      telemetry.log("presence_lost", { channel, holder, members });
      const message = `the store has lost members of "${channel}"; the ${members} of this process are entered again`;
      runtime.report(new DataLossDetected(message, { channel, reader: holder }), "presence");
    },
    reaped(holder, members) {
      telemetry.counter("signalbox.presence.reaped", {}).add(members);
      telemetry.log("presence_reaped", { holder, members });
    },
    failing(thrown, failures) {
      const error = toError(thrown);
      if (failures === 1) telemetry.log("presence_failing", { err: error });
      if (isNews(error, failures)) runtime.report(error, "presence");
    },
    recovered: () => telemetry.log("presence_recovered"),
    unsent(thrown) {
      unsent += 1;
      runtime.report(toError(thrown), `telling of a change in presence (${unsent} so far)`);
    },
  };
}
