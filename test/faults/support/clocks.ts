/** Stores whose clocks can be moved by an hour. */

import { join } from "node:path";
import { type Clock, type ConnectOptions, systemClock } from "../../../src/index.js";
import { tempDir } from "../../support/process.js";
import { startStandalone } from "./systems.js";
import { createUnreliable } from "./unreliable.js";

export const HOUR_S = 3_600;

/** The system's clock, but for an offset. */
export function createJumpingClock(): Clock & { offsetSeconds: number } {
  return {
    offsetSeconds: 0,
    now() {
      return systemClock.now() + this.offsetSeconds * 1_000;
    },
    setTimer: (run, ms) => systemClock.setTimer(run, ms),
  };
}

export interface ClockedStore extends AsyncDisposable {
  readonly url: string;
  /** What to connect with. */
  readonly connect: Pick<ConnectOptions, "clock">;
  /** Moves the clock that the store goes by, from what it is really. */
  setClock(offsetSeconds: number): void;
}

/** By the name of the backend: in Redis it is the server's clock, otherwise the process's. */
export const CLOCKED_STORES: Readonly<Record<string, () => Promise<ClockedStore>>> = {
  memory: async () => withOwnClock("memory:"),
  SQLite: async () => withOwnClock(`sqlite:${join(await tempDir(), "messages.db")}`),
  async Redis() {
    const unreliable = await createUnreliable();
    const { url, stop } = await startStandalone({ env: unreliable.env });
    return {
      url,
      connect: {},
      setClock: (clockOffsetSeconds) => unreliable.set({ clockOffsetSeconds }),
      async [Symbol.asyncDispose]() {
        await stop();
        await unreliable.close();
      },
    };
  },
};

function withOwnClock(url: string): ClockedStore {
  const clock = createJumpingClock();
  return {
    url,
    connect: { clock },
    setClock: (offsetSeconds) => void (clock.offsetSeconds = offsetSeconds),
    [Symbol.asyncDispose]: async () => undefined,
  };
}
