/** What templates make of types: names, parameters and payloads of a contract's channels. `npm run types` is the test. */

import { expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import {
  type ChannelIn,
  channel,
  defineContract,
  type FilledIn,
  type InputOf,
  type NameIn,
  type NoContract,
  type OutputOf,
  type ParamsIn,
  type ParamsOf,
} from "../../src/index.js";

const contract = defineContract({
  channels: {
    notifications: z.object({ userId: z.number(), at: z.string().transform((text) => new Date(text)) }),
    "user:{id}": z.object({ kind: z.string() }),
    "chat.{room}": { schema: z.string(), version: 2, upgrade: (data, from) => (from < 2 ? String(data) : data) },
    "chat.{room}.typing": z.boolean(),
    "chat.lobby": z.number(),
    "{kind}/{id}": z.null(),
  },
});
type C = typeof contract;
type Out<N> = OutputOf<C, "channels", N>;

test("a template's parameters and names are types of their own", () => {
  expectTypeOf<ParamsOf<"events.{type}">>().toEqualTypeOf<{ readonly type: string }>();
  expectTypeOf<ParamsOf<"{a}.{b}">>().toEqualTypeOf<{ readonly a: string; readonly b: string }>();
  expectTypeOf<FilledIn<"{a}.{b}!">>().toEqualTypeOf<`${string}.${string}!`>();
  expectTypeOf<FilledIn<"notifications">>().toEqualTypeOf<"notifications">();
  const user = channel("user:{id}");
  expectTypeOf(user.name).parameter(0).toEqualTypeOf<{ readonly id: string }>();
  expectTypeOf(user.name({ id: "7" })).toEqualTypeOf<`user:${string}`>();
  expectTypeOf(user.params("user:7")).toEqualTypeOf<{ readonly id: string } | undefined>();
  // @ts-expect-error a parameter that the template does not have
  expect(() => user.name({ idd: "7" })).toThrow('did you mean "id"?');
  // @ts-expect-error a value that is no text
  expect(() => user.name({ id: 7 })).toThrow("must be text");
});

test("a name has the payload of the most specific template that makes it", () => {
  expectTypeOf<Out<"notifications">>().toEqualTypeOf<{ userId: number; at: Date }>();
  expectTypeOf<InputOf<C, "channels", "notifications">>().toEqualTypeOf<{ userId: number; at: string }>();
  expectTypeOf<Out<"user:7">>().toEqualTypeOf<{ kind: string }>();
  expectTypeOf<Out<`user:${string}`>>().toEqualTypeOf<{ kind: string }>();
  expectTypeOf<Out<"chat.kitchen">>().toEqualTypeOf<string>();
  expectTypeOf<Out<"chat.lobby">>().toEqualTypeOf<number>();
  expectTypeOf<Out<"chat.lobby.typing">>().toEqualTypeOf<boolean>();
  expectTypeOf<Out<"chat.{room}">>().toEqualTypeOf<string>();
  expectTypeOf<Out<"chat.*">>().toEqualTypeOf<string>();
  expectTypeOf<Out<"user:7" | "chat.lobby">>().toEqualTypeOf<{ kind: string } | number>();
  // Of several names: what fits whichever it is.
  expectTypeOf<InputOf<C, "channels", "user:7" | "notifications">>().toEqualTypeOf<
    { kind: string } & { userId: number; at: string }
  >();
});

test("only the contract's names are names", () => {
  type Name = NameIn<C, "channels">;
  expectTypeOf<"notifications">().toExtend<Name>();
  expectTypeOf<"user:7">().toExtend<Name>();
  expectTypeOf<"a/b">().toExtend<Name>();
  expectTypeOf<"notification">().not.toExtend<Name>();
  expectTypeOf<"user.7">().not.toExtend<Name>();
  expectTypeOf<"chat.{room}">().toExtend<ChannelIn<C>>();
  expectTypeOf<"chat.*">().toExtend<ChannelIn<C>>();
  expectTypeOf<"chats.*">().not.toExtend<ChannelIn<C>>();
  expectTypeOf<NameIn<NoContract, "channels">>().toEqualTypeOf<string>();
  expectTypeOf<OutputOf<NoContract, "channels", "any">>().toEqualTypeOf<unknown>();
});

test("a handler finds its template's parameters, and a pattern's captures by their numbers", () => {
  expectTypeOf<ParamsIn<C, "chat.{room}">>().toEqualTypeOf<{ readonly room: string }>();
  expectTypeOf<ParamsIn<C, "chat.kitchen">>().toEqualTypeOf<{ readonly room: string }>();
  expectTypeOf<ParamsIn<C, "a/b">>().toEqualTypeOf<{ readonly kind: string; readonly id: string }>();
  expectTypeOf<ParamsIn<C, "chat.*">>().toEqualTypeOf<Readonly<Record<string, string>>>();
  expectTypeOf<ParamsIn<NoContract, "any">>().toEqualTypeOf<Readonly<Record<string, string>>>();
  expectTypeOf<ParamsIn<NoContract, "user:{id}">>().toEqualTypeOf<{ readonly id: string }>();
});
