/** Subscriptions of the broadcast port that write down what they hear, and what is said to them. */

import { deepEqual } from "node:assert/strict";
import type { Backend, Bytes, BroadcastTarget, Unsubscribe } from "../core/backend.js";
import type { ContractStore } from "./contract.js";
import { textOf } from "./fixtures.js";
import { eventually } from "./waiting.js";

/** A subscription that writes down what it hears. */
export interface Ear {
  /** `"channel: text"` each. */
  readonly heard: readonly string[];
  readonly texts: readonly string[];
  readonly unsubscribe: Unsubscribe;
}

export async function listen(backend: Backend, target: BroadcastTarget): Promise<Ear> {
  const heard: string[] = [];
  const texts: string[] = [];
  const unsubscribe = await backend.broadcast.subscribe(target, {
    message: (channel, data) => {
      heard.push(`${channel}: ${textOf({ data })}`);
      texts.push(textOf({ data }));
    },
    gap: () => {},
  });
  return { heard, texts, unsubscribe };
}

export function say(backend: Backend, channel: string, ...texts: readonly string[]): Promise<readonly number[]> {
  return backend.broadcast.publish(texts.map((data) => ({ channel, data })));
}

export function saySharded(backend: Backend, channel: string, ...texts: readonly string[]): Promise<readonly number[]> {
  return backend.broadcast.publish(texts.map((data) => ({ channel, data, sharded: true })));
}

/** Expects each ear to have heard just these texts, once all that is under way has come. */
export async function expectHeard(
  store: ContractStore,
  pairs: readonly (readonly [Ear, readonly string[]])[],
): Promise<void> {
  const enough = (): boolean => pairs.every(([ear, texts]) => ear.texts.length >= texts.length);
  // Whatever else is wrong shows best in the comparison.
  await eventually(store, enough, "what was published").catch(() => {});
  for (const [ear, texts] of pairs) deepEqual(ear.texts, texts);
}

/** Everything that is heard, as text that any bytes have. */
export async function hold(backend: Backend, target: BroadcastTarget): Promise<readonly string[]> {
  const heard: string[] = [];
  const message = (_: string, data: Bytes): void => void heard.push(Buffer.from(data as string).toString("base64"));
  await backend.broadcast.subscribe(target, { message, gap: () => {} });
  return heard;
}
