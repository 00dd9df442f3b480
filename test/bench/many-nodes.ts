import type { RedisClient } from "../../src/redis/connection/client.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { beatNode } from "../../src/redis/node/node-lease.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const AT_ONCE = 500;
const LEASE_MS = 600_000;

export const nodeName = (index: number): string => `n${String(index).padStart(5, "0")}`;

/** Sends one heartbeat of a node that is only in Redis. */
export async function beatTestNode(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  const { outcome } = await beatNode(redis, keys, id, {
    session: `session-of-${id}`,
    incarnation: 1,
    leaseMs: LEASE_MS,
    status: {
      reserved: { cpu: 1.5, memoryBytes: 2 ** 29 },
      stitchCount: 3,
      states: { running: 3 },
      eligibility: "eligible",
    },
    load: { cpuPercent: 12.5, memoryBytes: 123_456_789, eventLoopDelayMs: 1.25 },
    beats: 0,
    leaseUntilHintMs: Date.now() + LEASE_MS,
  });
  if (outcome !== "ok") throw new Error(`the heartbeat of ${id} ended ${outcome}`);
}

/** Registers nodes `from` to `to`, and sends one heartbeat of each. */
export async function registerMany(redis: RedisClient, keys: Keys, from: number, to: number): Promise<void> {
  for (let at = from; at < to; at += AT_ONCE) {
    const ids = Array.from({ length: Math.min(AT_ONCE, to - at) }, (_, index) => nodeName(at + index));
    await Promise.all(ids.map((id) => registerTestNode(redis, keys, id, LEASE_MS)));
    await Promise.all(ids.map((id) => beatTestNode(redis, keys, id)));
  }
}
