import type { RedisClient } from "./client.ts";
import { RedisRefused } from "./connection.ts";

/** The oldest versions that have all commands and all of Lua that is used here. */
const OLDEST = { redis: [7, 0], valkey: [7, 2] } as const;

/** Servers that speak Redis's protocol, and differ in what the promises depend on: one writer at a time, scripts, what a restart keeps. */
const OTHERS: Readonly<Record<string, string>> = {
  dragonfly_version: "Dragonfly",
  garnet_version: "Garnet",
  kvrocks_version: "Kvrocks",
};

const ADVICE = "Let REDIS_URL lead to a Redis 7.0 or newer, or to a Valkey";

/** Why a server must not hold a cluster, in one line, from what it answers to INFO; null if it may. */
export function whyUnfit(info: string): string | null {
  const facts = new Map([...info.matchAll(/^(\w+):(.*?)\r?$/gm)].map(([, name = "", value = ""]) => [name, value]));
  for (const [fact, name] of Object.entries(OTHERS))
    if (facts.has(fact)) return `REDIS_URL: this is ${name} ${facts.get(fact)}, which is not supported. ${ADVICE}`;
  // Valkey, and what else has come out of Redis since 7.2, says its name.
  const ownName = facts.get("server_name") ?? "valkey";
  if (ownName !== "valkey" && ownName !== "redis")
    return `REDIS_URL: this is ${ownName}, which is not supported. ${ADVICE}`;
  const valkey = facts.get("valkey_version");
  const [name, version] = valkey === undefined ? ["Redis", facts.get("redis_version") ?? ""] : ["Valkey", valkey];
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [oldestMajor, oldestMinor] = valkey === undefined ? OLDEST.redis : OLDEST.valkey;
  // What does not say its version is judged by what it does.
  if (version !== "" && (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)))
    return `REDIS_URL: this ${name} has version ${version}, and ${oldestMajor}.${oldestMinor} is the oldest that is supported. ${ADVICE}`;
  const policy = facts.get("maxmemory_policy");
  if (policy !== undefined && policy !== "noeviction")
    return (
      `Redis has maxmemory-policy ${policy}: it would drop jobs and node state when memory is short. ` +
      "Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)."
    );
  return null;
}

/**
 * Refuses a server that CrossStitch does not keep its promises on: one too old, another program that speaks the same protocol, or one
 * that may evict keys under memory pressure, and would silently lose accepted commands. One round trip.
 * @throws RedisRefused with what to change.
 */
export async function refuseUnfitServer(client: RedisClient): Promise<void> {
  const reason = whyUnfit(await client.info());
  if (reason !== null) throw new RedisRefused(reason);
}
