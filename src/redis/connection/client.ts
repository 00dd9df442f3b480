import type { Cluster, Redis } from "ioredis";

/** A connection to a standalone Redis, one behind Sentinel, or a Redis Cluster: the same commands on each. */
export type RedisClient = Redis | Cluster;
