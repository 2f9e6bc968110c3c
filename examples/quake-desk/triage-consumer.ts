/** One of the processes that compete for the alerts; `triage.ts` starts them. Takes the store's URL. */

import { once } from "node:events";
import { connect } from "signalbox";
import { contract } from "./contract.js";
import { handleAlerts } from "./desk.js";
import { openLedger } from "./ledger.js";
import { createLogger } from "./progress.js";
import { ledgerFileOf } from "./state.js";
import type { TriageNews } from "./triage.js";

const [url] = process.argv.slice(2);
const disconnected = once(process, "disconnect");
// A terminal sends Ctrl-C to everyone: this one ends with the desk, which has things to finish.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
const tell = (news: TriageNews): void => void (process.connected && process.send?.(news));

await using broker = await connect(url, { contract, namespace: "quake-desk", logger: createLogger(process.stderr) });
const ledger = openLedger(url === undefined ? undefined : ledgerFileOf(url));
await handleAlerts(broker, ledger, {
  onTaken: ({ id }) => tell({ taken: id }),
  onLeft: ({ id }) => tell({ left: id }),
  onHandled: ({ id, time }) => tell({ handled: id, tookMs: Date.now() - time }),
});
await disconnected;
