/** Small connections for asking servers about the others, apart from all traffic. */

import type { Clock, Timer } from "../../core/clock.js";
import type { Reply } from "./connection.js";
import { openSocket, type Socket, type SocketSettings } from "./socket.js";
import type { Server } from "./target.js";

/** A server that has not answered by then does not know either. */
const ANSWER_MS = 1_000;
/** Once one has answered, the others get this long: a dead one must not hold up the rest. */
const STRAGGLER_MS = 100;

export interface Scouts {
  /** Sends the questions in one go; rejects with a typed error. */
  ask(server: Server, questions: readonly (readonly string[])[]): Promise<readonly Reply[]>;
  /** Lets go of all connections but those to `servers`. */
  keep(servers: ReadonlySet<Server>): void;
  close(): void;
}

export function createScouts(settings: SocketSettings): Scouts {
  const opened = new Map<Server, Promise<Socket>>();
  const closing = new AbortController();
  const hasty = { ...settings, connectTimeoutMs: Math.min(settings.connectTimeoutMs, ANSWER_MS) };

  const socketTo = (server: Server): Promise<Socket> => {
    let socket = opened.get(server);
    if (socket === undefined) {
      const forget = (): void => {
        if (opened.get(server) === socket) opened.delete(server);
      };
      socket = openSocket(server, hasty, closing.signal).then((fresh) => {
        fresh.onEnd = forget;
        if (closing.signal.aborted || opened.get(server) !== socket) fresh.destroy("closed");
        return fresh;
      });
      socket.catch(forget);
      opened.set(server, socket);
    }
    return socket;
  };
  const drop = (server: Server): void => {
    const socket = opened.get(server);
    opened.delete(server);
    // One that could not be opened has told whoever asked for it.
    socket?.then(
      (open) => open.destroy("closed"),
      () => {},
    );
  };
  return {
    async ask(server, questions) {
      const socket = await socketTo(server);
      return Promise.all(questions.map((question) => socket.ask(question, ANSWER_MS)));
    },
    keep(servers) {
      for (const server of opened.keys()) if (!servers.has(server)) drop(server);
    },
    close() {
      closing.abort();
      for (const server of opened.keys()) drop(server);
    },
  };
}

export interface Gathered<T> {
  readonly answers: readonly T[];
  readonly errors: readonly unknown[];
}

/** Waits for all, or for those that have answered shortly after the first one did. Never rejects. */
export function gather<T>(clock: Clock, asked: readonly Promise<T>[]): Promise<Gathered<T>> {
  return new Promise((resolve) => {
    const answers: T[] = [];
    const errors: unknown[] = [];
    let timer: Timer | undefined;
    const done = (): void => {
      timer?.cancel();
      resolve({ answers: [...answers], errors: [...errors] });
    };
    const settled = (): void => {
      if (answers.length + errors.length === asked.length) done();
    };
    const answered = (answer: T): void => {
      answers.push(answer);
      timer ??= clock.setTimer(done, STRAGGLER_MS);
      settled();
    };
    const failed = (error: unknown): void => {
      errors.push(error);
      settled();
    };
    for (const one of asked) one.then(answered, failed);
    settled();
  });
}
