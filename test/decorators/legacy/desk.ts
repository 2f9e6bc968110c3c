/** Decorators in TypeScript's older mode, as NestJS and others compile with. Compiled by `legacy.test.ts`; each directive is an assertion. */

import { z } from "zod";
import { Consume, ConsumeQueue, decoratorsFor, Subscribe } from "../../../src/decorators/index.js";
import { type Context, defineContract } from "../../../src/index.js";

const OPTIONS = { group: "g", from: "beginning" } as const;

export class Desk {
  readonly heard: unknown[] = [];

  @Consume("order.created", OPTIONS)
  onCreated(data: unknown, { message }: Context): void {
    this.heard.push(["created", data, message.type]);
  }

  @Subscribe("chat.{room}")
  onChat(data: unknown, { params }: Context): void {
    this.heard.push([params["room"], data]);
  }

  @ConsumeQueue("parcels")
  @ConsumeQueue("letters")
  onParcel(data: unknown): void {
    this.heard.push(["parcel", data]);
  }
}

export class Loud extends Desk {
  override onCreated(data: unknown): void {
    this.heard.push(["loud", data]);
  }

  @ConsumeQueue("letters")
  override onParcel(data: unknown): void {
    this.heard.push(["loud parcel", data]);
  }
}

/** Throws where the class is made. */
export function decorateStatic(): unknown {
  class Static {
    @Consume("t", OPTIONS)
    static on(): void {}
    off(): void {}
  }
  return Static;
}

export function decorateAccessor(): unknown {
  class Accessor {
    // @ts-expect-error an accessor is no method
    @Consume("t", OPTIONS)
    get on(): number {
      return 1;
    }
  }
  return Accessor;
}

const contract = defineContract({
  events: {
    "order.created": z.object({ at: z.string().transform((text) => new Date(text)) }),
    "order.paid": z.number(),
  },
  queues: { parcels: z.object({ kilos: z.number() }) },
  channels: { "chat.{room}": z.string() },
});
const typed = decoratorsFor(contract);

export class Typed {
  @typed.Consume("order.created", OPTIONS)
  right(data: { at: Date }, context: Context<{ at: Date }>): unknown {
    return [data, context];
  }

  @typed.ConsumeQueue("parcels")
  loose(data: unknown): unknown {
    return data;
  }

  @typed.Subscribe("chat.{room}")
  hear(text: string, context: Context<string, { room: string }>): unknown {
    return [text, context];
  }

  // @ts-expect-error a channel's payload
  @typed.Subscribe("chat.{room}")
  deaf(text: number): unknown {
    return text;
  }

  // @ts-expect-error the input type is not what a handler gets
  @typed.Consume("order.created", OPTIONS)
  wrong(data: { at: string }): unknown {
    return data;
  }

  // @ts-expect-error a name that the contract does not have
  @typed.Consume("order.craeted", OPTIONS)
  misspelt(): void {}

  // @ts-expect-error a group is required
  @Consume("order.created", { from: "new" })
  groupless(): void {}
}
