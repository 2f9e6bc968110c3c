/** Orders of several publishers, to be counted and put into their order after a journey. */

import { expect } from "vitest";
import type { Broker, Message } from "../../../src/index.js";

export const ORDERS = "order.created";

export interface Order {
  readonly publisher: number;
  readonly number: number;
}

export const PUBLISHERS = 4;
const AT_ONCE = 250;

/**
 * Publishes `count` orders, from several publishers at once, each in its own order and with a key of its own.
 *
 * @param from the first number of each publisher
 * @returns their ids, in no order
 */
export async function publishOrders(broker: Broker, from: number, count: number): Promise<string[]> {
  const each = count / PUBLISHERS;
  const publish = async (publisher: number): Promise<string[]> => {
    const ids: string[] = [];
    for (let done = 0; done < each; done += AT_ONCE) {
      const orders: Order[] = [];
      for (let index = done; index < Math.min(done + AT_ONCE, each); index += 1)
        orders.push({ publisher, number: from + index });
      const receipts = await broker.events.publishMany(ORDERS, orders, { key: `customer-${publisher}` });
      ids.push(...receipts.map(({ id }) => id));
    }
    return ids;
  };
  return (await Promise.all(Array.from({ length: PUBLISHERS }, (_, publisher) => publish(publisher)))).flat();
}

/** Everything the stream holds. */
export async function ordersIn(broker: Broker): Promise<Message<Order>[]> {
  const messages: Message<Order>[] = [];
  await broker.events.replay(ORDERS, { from: "beginning" }, (_, { message }) => {
    messages.push(message as Message<Order>); // As `publishOrders` has published them.
  });
  return messages;
}

/** Nothing lost, nothing twice, each publisher's in its order, from 0, and each with its key. */
export function expectWhole(messages: readonly Message<Order>[], ids: readonly string[]): void {
  expect(new Set(messages.map(({ id }) => id)).size).toBe(messages.length);
  expect(messages.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
  for (let publisher = 0; publisher < PUBLISHERS; publisher += 1) {
    const mine = messages.filter(({ data }) => data.publisher === publisher);
    expect(mine.map(({ data }) => data.number)).toEqual(Array.from(mine, (_, index) => index));
    expect(new Set(mine.map(({ key }) => key))).toEqual(new Set([`customer-${publisher}`]));
  }
}
