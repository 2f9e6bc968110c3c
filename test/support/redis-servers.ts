/** Real servers for tests, in one place: standalone, Cluster and Sentinel. */

export { type CliArgument, harnessClientName, harnessUser } from "./redis-cli.js";
export { type ClusterOptions, type RedisCluster, startCluster } from "./redis-cluster.js";
export type { Failover, FailoverOptions } from "./redis-failover.js";
export type { RedisServer, RedisState, RestartOptions } from "./redis-process.js";
export { type SentinelOptions, type SentinelSet, sentinelMasterName, startSentinelSet } from "./redis-sentinel.js";
export { type RedisOptions, startRedis } from "./redis-standalone.js";
