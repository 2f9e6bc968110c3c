/** Shows how far the desk is: one line that is rewritten on a terminal, a line now and then elsewhere. */

import type { Logger } from "signalbox";
import type { Progress } from "./desk.js";

const BAR_CHARS = 10;
/** Elsewhere than on a terminal: a line for each tenth of the feed. */
const STEPS = 10;

export interface ProgressView {
  show(progress: Progress): void;
  /** Leaves the terminal's line to what comes next. */
  end(): void;
}

/** @param total quakes in the feed */
export function createProgressView(total: number, out: NodeJS.WriteStream): ProgressView {
  let lastStep = -1;
  return {
    show(progress) {
      const share = total === 0 ? 1 : progress.published / total;
      if (out.isTTY) {
        const filled = Math.round(share * BAR_CHARS);
        const line = `${"█".repeat(filled)}${"░".repeat(BAR_CHARS - filled)} ${describe(progress, total)}`;
        // A line longer than the terminal is wide would wrap, and could not be rewritten.
        out.write(`\r\u001b[K${line.slice(0, out.columns - 1)}`);
        return;
      }
      const step = Math.floor(share * STEPS);
      if (step === lastStep) return;
      lastStep = step;
      out.write(`${describe(progress, total)}\n`);
    },
    end() {
      if (out.isTTY) out.write("\r\u001b[K");
    },
  };
}

/** Shows what the broker warns of, without breaking the line. Not the dead letters: they belong to the play, and its summary lists them. */
export function createLogger(out: NodeJS.WriteStream): Logger {
  const show = (fields: object, message: string): void => {
    if ("event" in fields && fields.event === "message_dead_lettered") return;
    const error = "error" in fields ? `: ${String(fields.error)}` : "";
    out.write(`${out.isTTY ? "\r\u001b[K" : ""}${message}${error}\n`);
  };
  return { debug: () => undefined, info: () => undefined, warn: show, error: show };
}

function describe({ published, unhandled, alertsUnderWay, deadLetters }: Progress, total: number): string {
  return (
    `${count(published)} of ${count(total)} published, ${count(unhandled)} to handle; ` +
    `alerts: ${count(alertsUnderWay)} open, ${count(deadLetters)} dead`
  );
}

/** 1707 as `1,707`, wherever the user lives: the tests read it. */
export function count(value: number): string {
  return value.toLocaleString("en-US");
}
