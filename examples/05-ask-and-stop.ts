/** Three consumers share one queue and answer whoever asks. On Ctrl-C or SIGTERM they finish what they have begun. */

import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { connect, defineContract } from "signalbox";
import { z } from "zod";

const contract = defineContract({ queues: { tasks: z.object({ number: z.number() }) } });
const broker = await connect("memory:", { contract });
const tasks = broker.queue("tasks", { ttlMs: 60_000 });

let begun = 0;
let finished = 0;
for (const agent of ["agent_1", "agent_2", "agent_3"]) {
  await tasks.subscribe({ concurrency: 1 }, async ({ number }, ctx) => {
    begun += 1;
    await pause(20);
    // The answer leaves together with the acknowledgement, once this has returned. Most messages are no requests.
    if (ctx.message.replyTo !== undefined) ctx.reply({ square: number ** 2, by: agent });
    finished += 1;
  });
}

const answer = await tasks.request({ number: 7 }, { source: "planner", timeoutMs: 5_000 });
console.log("answered:", JSON.stringify(answer));

// More than they get done before somebody stops them.
await tasks.publishMany(Array.from({ length: 1_000 }, (_, number) => ({ number })));
console.log("they work: stop them with Ctrl-C");
const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stopping.abort());
await once(stopping.signal, "abort");

const { waiting, leased } = await tasks.stats();
console.log(`${leased} in hand, ${waiting} go to whoever comes next`);
await broker.close({ drainMs: 5_000 });
console.log(`${begun} begun, ${finished} finished`);
