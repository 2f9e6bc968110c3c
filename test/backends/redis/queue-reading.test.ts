/** Recipients are kept while a feed is open for them, whether or not it takes, and no longer. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import { CONSUMER, openPorts, type Ports } from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

const READING = { ...CONSUMER, registration: { ttlMs: 1_000, isAudience: true } } as const;

const known = async ({ queue }: Ports, name: string): Promise<readonly string[]> =>
  (await queue.recipients(name, { max: 10 })).recipients.map(({ recipient }) => recipient);

test("a feed that was opening when the backend was closed keeps nobody registered", async () => {
  const [ports, other] = [await openPorts(server), await openPorts(server)];
  await ports.queue.open("opening", "anna", READING);
  const opening = ports.queue.open("opening", "ben", READING);
  await ports.queue.close();
  await expect(opening).rejects.toMatchObject({ code: "CLOSED" });
  await until(async () => (await known(other, "opening")).length === 0, { what: "both to lapse", deadlineMs: 5_000 });
  expect(ports.reports).toEqual([]);
});

test("where it cannot be noted that somebody reads, that is reported once, and tried again until it can", async () => {
  const ports = await openPorts(server);
  const feed = await ports.queue.open("failing", "anna", READING);
  const registrations = "sb1:{test:queue:failing:0}:registrations";
  await server.cli("SET", registrations, "of another type");
  await until(() => ports.reports.length > 0, { what: "a report", deadlineMs: 5_000 });
  let errors = 0;
  ports.judge((args) => {
    if (args.includes("anna") && args.includes("read")) errors += 1;
    return "well";
  });
  await until(() => errors >= 2, { what: "further tries", deadlineMs: 10_000 });
  await server.cli("DEL", registrations);
  const isOnline = async (): Promise<boolean> =>
    (await ports.queue.recipients("failing", { max: 10 })).recipients.some(({ isOnline }) => isOnline);
  await until(isOnline, { what: "it to be noted again", deadlineMs: 5_000 });
  expect(ports.reports).toEqual([expect.stringMatching(/^noting that a recipient is read/)]);
  await feed.close();
  await until(async () => (await known(ports, "failing")).length === 0, { what: "her to lapse", deadlineMs: 5_000 });
}, 30_000);
