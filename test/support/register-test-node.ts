import type { RedisClient } from "../../src/redis/connection/client.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { registerNode } from "../../src/redis/node/node-lease.ts";

/** Registers a node in Redis only: it takes no tasks, and its lease ends after `leaseMs`. @returns what `leaveNode` needs. */
export async function registerTestNode(
  redis: RedisClient,
  keys: Keys,
  id: string,
  leaseMs = 600_000,
): Promise<{ session: string; incarnation: number }> {
  const session = `session-of-${id}`;
  const registered = await registerNode(redis, keys, id, {
    session,
    formerSessions: [],
    leaseMs,
    facts: { zones: [], labels: {}, capacity: { cpu: 4, memoryBytes: 2 ** 30 }, modules: [], version: "0.1.0" },
    status: { reserved: { cpu: 0, memoryBytes: 0 }, stitchCount: 0, states: {}, eligibility: "eligible" as const },
    leastIncarnation: 0,
  });
  if (!registered.ok) throw new Error(`${id} is another's for ${registered.leaseLeftMs} ms`);
  return { session, incarnation: registered.incarnation };
}
