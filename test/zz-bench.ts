import { startRedis } from "/work/main/test/support/redis-servers.js";
import { connect } from "/work/main/src/index.js";
import { mkdtempSync, rmSync } from "node:fs";
const dir = mkdtempSync("/tmp/fb-");
const server = await startRedis();
for (const options of [{}, { fallback: `sqlite:${dir}/o.db` }, {}, { fallback: `sqlite:${dir}/o.db` }]) {
  const b = await connect(server.url, options);
  const data = Array.from({ length: 50_000 }, (_, i) => ({ i, text: "x".repeat(100) }));
  const t = performance.now();
  await b.events.publishMany("t", data); await b.events.publishMany("t", data);
  console.log(Object.keys(options), Math.round(100_000 / (performance.now() - t)), "k/s");
  await b.close();
}
await server.stop(); rmSync(dir, { recursive: true }); process.exit(0);
