/** Pub/sub over every kind of connection: what a URL and the options of `connect` can say of a server. */

import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { type ConnectOptions, connect } from "../../src/index.js";
import { type Authority, createAuthority } from "../faults/support/certificates.js";
import { freePorts } from "../support/process.js";
import { startCluster, startRedis, startSentinelSet } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import { silentLogger } from "./support/lanes.js";

interface Place extends AsyncDisposable {
  readonly url: string;
  readonly options?: ConnectOptions;
}

/** Whoever stops last stops the server. */
function placeOf(server: { stop(): Promise<void> }, url: string, options?: ConnectOptions): Place {
  return { url, ...(options !== undefined && { options }), [Symbol.asyncDispose]: () => server.stop() };
}

async function openTls(): Promise<Place> {
  const authority: Authority = await createAuthority();
  const [port] = await freePorts(1);
  const { cert, key } = await authority.sign("localhost");
  const config = { "tls-port": String(port), "tls-cert-file": cert, "tls-key-file": key, "tls-auth-clients": "no" };
  const server = await startRedis({ config });
  return placeOf(server, `rediss://localhost:${port}`, { tls: { ca: await readFile(authority.cert) } });
}

const PLACES: Readonly<Record<string, () => Promise<Place>>> = {
  async "host and port"() {
    const server = await startRedis();
    return placeOf(server, `redis://127.0.0.1:${server.port}`);
  },
  async "a user, a password and a database"() {
    const server = await startRedis({ users: { app: "on >p%w ~* &* +@all" } });
    return placeOf(server, `redis://app:p%25w@127.0.0.1:${server.port}/3`);
  },
  TLS: openTls,
  async Sentinel() {
    const set = await startSentinelSet();
    return placeOf(set, set.url);
  },
  async Cluster() {
    const cluster = await startCluster();
    return placeOf(cluster, cluster.url);
  },
};

test.each(Object.entries(PLACES))(
  "[D4] a connection by %s carries what is published to whoever listens",
  async (_, openPlace) => {
    await using place = await openPlace();
    const options = { ...place.options, logger: silentLogger };
    await using listener = await connect(place.url, options);
    await using publisher = await connect(place.url, options);
    const heard: unknown[] = [];
    await listener.pubsub.subscribe("news", (data) => void heard.push(data));
    await publisher.pubsub.publish("news", { n: 1 });
    await until(() => heard.length > 0, { what: "the message" });
    expect(heard).toEqual([{ n: 1 }]);
  },
  60_000,
);
