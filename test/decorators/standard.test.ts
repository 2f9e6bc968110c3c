/** Decorators in TC39's mode: what they subscribe, with inheritance, and where they may not stand. */

import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import { type Broker, connect, type Context, defineContract, type Registered } from "../../src/index.js";
import { Consume, ConsumeQueue, decoratorsFor, Subscribe } from "../../src/decorators/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { until } from "../support/wait.js";

const OPTIONS = { group: "g", from: "beginning" } as const;

let broker: Broker;
beforeEach(async () => {
  broker = await connect("memory:", { logger: silentLogger });
});
afterEach(() => broker.close({ drainMs: 0 }));

class Desk {
  readonly heard: unknown[] = [];

  @Consume("order.created", OPTIONS)
  onCreated(data: unknown, { message, attempt }: Context): void {
    this.heard.push(["created", data, message.type, attempt]);
  }

  @Consume(["order.paid", "order.refunded"], OPTIONS)
  onMoney(data: unknown, context: Context): void {
    this.heard.push([context.channel, data]);
  }

  @ConsumeQueue("parcels")
  @ConsumeQueue("letters", { concurrency: 1 })
  async onParcel(data: unknown): Promise<void> {
    this.heard.push(["parcel", data]);
  }
}

/** What an object is subscribed to. */
function namesOf(registered: Registered): string[] {
  const stats = registered.stats() as { channels?: string[]; channel?: string; reader?: string }[];
  return stats.map(({ channels, channel, reader }) => channels?.join() ?? `${channel} ${reader}`.trim());
}

async function publishAll(): Promise<void> {
  await broker.events.publish("order.created", 1);
  await broker.events.publish("order.paid", 2);
  await broker.events.publish("order.refunded", 3);
  await broker.queue("parcels").publish(4);
  await broker.queue("letters").publish(5);
}

test("[D12] decorated methods are handlers once their object is registered, and until it is closed", async () => {
  await publishAll();
  const desk = new Desk();
  const registered = await broker.register(desk);
  await until(() => desk.heard.length === 5);
  expect(desk.heard).toEqual(
    expect.arrayContaining([
      ["created", 1, "order.created", 1],
      ["order.paid", 2],
      ["order.refunded", 3],
      ["parcel", 4],
      ["parcel", 5],
    ]),
  );
  expect(namesOf(registered)).toHaveLength(5);
  await registered.close();
  await registered.close();
  await publishAll();
  expect((await broker.health()).details.consumers).toEqual([]);
  expect(desk.heard).toHaveLength(5);
});

test("[D7] nothing but the object is needed: no framework, no container, no reflection, and each object is its own", async () => {
  expect(Reflect).not.toHaveProperty("getMetadata");
  const [one, two] = [new Desk(), new Desk()];
  await using _one = await broker.register(one);
  await broker.events.publish("order.created", 1);
  await until(() => one.heard.length === 1);
  expect(two.heard).toEqual([]);
});

test("[D12] a method that subscribes hears its channels, with the parameters of its template", async () => {
  class Screen {
    readonly heard: unknown[] = [];

    @Subscribe("notifications")
    onNotification(data: unknown): void {
      this.heard.push(data);
    }

    @Subscribe("chat.{room}", { dedupe: true })
    @Subscribe("chat.*", { dedupe: true })
    onChat(data: unknown, { channel, params }: Context): void {
      this.heard.push([channel, params, data]);
    }
  }
  const screen = new Screen();
  const registered = await broker.register(screen);
  expect(namesOf(registered).toSorted()).toEqual(["chat.*", "chat.{room}", "notifications"]);
  await broker.pubsub.publish("notifications", 1);
  await broker.pubsub.publish("chat.kitchen", 2);
  await until(() => screen.heard.length === 2);
  expect(screen.heard).toContainEqual(1);
  // One method is one subscriber, however many decorators it has.
  expect(screen.heard.filter((each) => Array.isArray(each))).toHaveLength(1);
  expect(broker.metrics().some(({ labels }) => labels["handler"] === "Screen.onChat")).toBe(true);
  await registered.close();
  expect(await broker.pubsub.publish("notifications", 3)).toMatchObject({ receivers: 0 });
});

describe("a class below", () => {
  class Loud extends Desk {
    override onCreated(data: unknown): void {
      this.heard.push(["loud", data]);
    }

    @Consume("order.paid", { ...OPTIONS, group: "loud" })
    override onMoney(data: unknown): void {
      this.heard.push(["loud money", data]);
    }
  }

  test("[D12] has what is above it; overriding changes the method, decorating anew the subscription", async () => {
    await publishAll();
    const loud = new Loud();
    await using registered = await broker.register(loud);
    await until(() => loud.heard.length === 4);
    expect(loud.heard).toEqual(
      expect.arrayContaining([
        ["loud", 1],
        ["loud money", 2],
        ["parcel", 4],
        ["parcel", 5],
      ]),
    );
    expect(namesOf(registered)).toContain("order.paid loud");
    expect(namesOf(registered)).not.toContain("order.refunded");
  });

  test("is told from another decorator, which may put a method of its own between two of these", async () => {
    const wrapped = (method: (this: Wrapped, data: unknown) => void) =>
      function (this: Wrapped, data: unknown): void {
        method.call(this, ["wrapped", data]);
      };
    class Wrapped {
      readonly heard: unknown[] = [];
      @ConsumeQueue("parcels")
      @wrapped
      @ConsumeQueue("letters")
      on(data: unknown): void {
        this.heard.push(data);
      }
    }
    const object = new Wrapped();
    await using registered = await broker.register(object);
    expect(namesOf(registered).toSorted()).toEqual(["letters", "parcels"]);
    await broker.queue("letters").publish(1);
    await until(() => object.heard.length === 1);
    expect(object.heard).toEqual([["wrapped", 1]]);
  });

  test("is told from another decorator also where the method is overridden, or bound by its object", async () => {
    const wrapped = (method: (this: object, data: unknown) => void) =>
      function (this: object, data: unknown): void {
        method.call(this, data);
      };
    class Above {
      @ConsumeQueue("above")
      on(_data: unknown): void {}
    }
    class Below extends Above {
      @ConsumeQueue("parcels")
      @wrapped
      @ConsumeQueue("letters")
      override on(_data: unknown): void {}
    }
    class Bound {
      constructor() {
        this.on = this.on.bind(this);
      }
      @ConsumeQueue("parcels")
      @wrapped
      @ConsumeQueue("letters")
      on(_data: unknown): void {}
    }
    for (const object of [new Below(), new Bound()]) {
      await using registered = await broker.register(object);
      expect(namesOf(registered).toSorted()).toEqual(["letters", "parcels"]);
    }
  });

  test("changes nothing of the class above", async () => {
    await using registered = await broker.register(new Desk());
    expect(registered.stats()).toHaveLength(5);
  });
});

describe("registering", () => {
  test("is all or none: what had been subscribed is closed when another is refused", async () => {
    class Half {
      @Consume("order.created", OPTIONS) good(): void {}
      @Consume("order.created", { ...OPTIONS, group: "" }) bad(): void {}
    }
    await expect(broker.register(new Half())).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect((await broker.health()).details.consumers).toEqual([]);
  });

  test("ends with its signal", async () => {
    const controller = new AbortController();
    const desk = new Desk();
    await broker.register(desk, { signal: controller.signal });
    expect((await broker.health()).details.consumers).toHaveLength(5);
    controller.abort();
    await until(async () => (await broker.health()).details.consumers.length === 0);
    await expect(broker.register(new Desk(), { signal: controller.signal })).rejects.toBe(controller.signal.reason);
  });

  test.each([
    ["an object without decorated methods", {}, "no decorated method"],
    ["a class instead of its object", Desk, "not a function"],
    ["nothing", null, "not null"],
    ["an object that shadows a method", Object.assign(new Desk(), { onCreated: 1 }), "onCreated was decorated"],
  ])("refuses %s", async (_, instance, says) => {
    await expect(broker.register(instance as object)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining(says),
    });
  });

  test("checks the names against the broker's contract", async () => {
    const contract = defineContract({ events: { "order.paid": z.number() }, queues: {} });
    await using checked = await connect("memory:", { contract, logger: silentLogger });
    await expect(checked.register(new Desk())).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

describe("a decorator stands at methods of objects alone", () => {
  test("static ones are refused", () => {
    expect(() => {
      class Static {
        @Consume("t", OPTIONS) static on(): void {}
        off(): void {}
      }
      return Static;
    }).toThrow('@Consume stands at "on", which is static');
  });

  test("private ones are refused", () => {
    expect(() => {
      class Private {
        @ConsumeQueue("t") #on(): void {}
        use(): void {
          this.#on();
        }
      }
      return Private;
    }).toThrow('@ConsumeQueue stands at "#on", which is private');
  });

  test("fields, accessors and classes are refused, where the compiler did not", () => {
    const decorate = Consume("t", OPTIONS) as (value: unknown, context: object) => void;
    for (const kind of ["field", "getter", "class"])
      expect(() => decorate(undefined, { kind, name: "x" })).toThrow(`which is a ${kind}`);
  });
});

/** Never called: it only has to compile, each directive an assertion. */
export function typedUse(): unknown {
  const contract = defineContract({
    events: {
      "order.created": z.object({ at: z.string().transform((text) => new Date(text)) }),
      "order.paid": z.number(),
    },
    queues: { parcels: z.object({ kilos: z.number() }) },
    channels: { "chat.{room}": z.string(), news: z.number() },
  });
  const typed = decoratorsFor(contract);
  class Typed {
    @typed.Consume("order.created", OPTIONS) right(data: { at: Date }, context: Context<{ at: Date }>): void {
      expectTypeOf(context.message.data).toEqualTypeOf(data);
    }
    @typed.Consume("order.paid", OPTIONS) less(): void {}
    @typed.Subscribe("chat.{room}") hear(text: string, { params }: Context<string, { room: string }>): unknown {
      expectTypeOf(params.room).toEqualTypeOf<string>();
      return text;
    }
    @typed.Subscribe(["chat.lobby", "news"], { buffer: 5 }) both(data: string | number): unknown {
      return data;
    }
    // @ts-expect-error a channel's payload
    @typed.Subscribe("chat.{room}") deaf(text: number): unknown {
      return text;
    }
    // @ts-expect-error a parameter that the template does not have
    @typed.Subscribe("chat.{room}") lost(_: string, context: Context<string, { id: string }>): unknown {
      return context;
    }
    // @ts-expect-error a channel that the contract does not have
    @typed.Subscribe("chats.*") nowhere(): void {}
    // @ts-expect-error an option that there is not
    @Subscribe("any", { buffers: 5 }) optionless(): void {}
    @typed.ConsumeQueue("parcels") loose(data: unknown): unknown {
      return data;
    }
    @typed.Consume(["order.created", "order.paid"], OPTIONS) either(data: { at: Date } | number): unknown {
      return data;
    }
    // @ts-expect-error the input type is not what a handler gets
    @typed.Consume("order.created", OPTIONS) wrong(data: { at: string }): unknown {
      return data;
    }
    // @ts-expect-error one of two types
    @typed.Consume(["order.created", "order.paid"], OPTIONS) half(data: number): unknown {
      return data;
    }
    // @ts-expect-error a name that the contract does not have
    @typed.Consume("order.craeted", OPTIONS) misspelt(): void {}
    // @ts-expect-error a queue that the contract does not have
    @typed.ConsumeQueue("parcel") unknown(): void {}
    // @ts-expect-error a group is required
    @Consume("order.created", { from: "new" }) groupless(): void {}
    // @ts-expect-error a field is no method
    @Consume("order.created", OPTIONS) field?: number;
  }
  return Typed;
}
