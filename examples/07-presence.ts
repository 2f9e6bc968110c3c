/** Presence: who is there, in all processes. A member may have several connections, and none outlives its process. */

import { connect, type PresentMember } from "signalbox";

// Three brokers on one store, as three processes would have them.
const office = await connect("memory:office");
const phone = await connect("memory:office");
await using screen = await connect("memory:office");

const lobby = office.presence("lobby");
const ada = await lobby.enter("ada", { status: "online" });

// Whoever watches is told who is there, and then every change, wherever it is made. Mostly that is a `for await` loop;
// here each change is awaited, so that the lines come in their order.
const watch = screen.presence("lobby").watch();
await showNext();

const bob = await lobby.enter("bob", { status: "online" });
await showNext();
await ada.update({ status: "away" });
await showNext();

// A second device: Bob is present until the last one leaves, and what was said last is shown.
const bobsPhone = await phone.presence("lobby").enter("bob", { status: "on the phone" });
await showNext();
const [adaIsHere, carlIsHere] = await Promise.all([lobby.isPresent("ada"), lobby.isPresent("carl")]);
console.log(`ada is here: ${adaIsHere}, carl is here: ${carlIsHere}, ${await lobby.count()} in all`);
await bobsPhone.leave();
await showNext();
await bob.leave();
await showNext();

// Closing leaves at once. A process that is killed leaves when its lease is over: after 90 seconds, unless told otherwise.
await office.close();
await showNext();
await phone.close();

async function showNext(): Promise<void> {
  const { value: change } = await watch.next();
  if (change === undefined) return;
  if (change.kind === "snapshot") console.log(`at first: ${change.members.map(describe).join()}`);
  else console.log(`${change.kind}: ${change.kind === "left" ? change.member.id : describe(change.member)}`);
}

function describe({ id, meta, connections }: PresentMember): string {
  const devices = connections > 1 ? `, on ${connections} devices` : "";
  return `${id} (${(meta as { status: string }).status})${devices}`;
}
