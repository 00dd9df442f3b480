import { stitchSpec } from "../../src/domain/stitch/spec.ts";
import type { NodeStatus } from "../../src/domain/node/node.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { assignStitches } from "../../src/redis/stitch/assignments.ts";
import { storeSpec } from "../../src/redis/stitch/specs.ts";
import { ENDS, stored } from "./test-spec.ts";
import { createInbox } from "../../src/redis/inbox/inbox.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { publishStitches, type StitchChange } from "../../src/redis/stitch/stitch-records.ts";
import { registerTestNode } from "./register-test-node.ts";
import { testStitch } from "./test-stitch.ts";

/** Writes a stitch into Redis as if a Master had assigned it and its node had published it. It does not run. */
export async function publishTestStitch(
  { redis, keys }: Pick<OpenMaster, "redis" | "keys">,
  node: string,
  id: string,
  group = "shop.orders.1",
): Promise<void> {
  const record = testStitch(id, { group, observedAtMs: Date.now() });
  const status = {
    reserved: { cpu: 0, memoryBytes: 0 },
    stitchCount: 1,
    states: { stopped: 1 },
    eligibility: "eligible" as const,
  };
  const { specHash, placement, born } = record;
  await storeSpec(redis, keys, stored(ENDS));
  await assignStitches(redis, keys, node, new Map([[id, { specHash, group, placement, born, placed: born }]]));
  await publishAsNode(redis, keys, node, [{ kind: "set", record, isNew: true }], status);
}

/** Publishes as the node itself would. Registers the node first, in Redis only, if it is not there yet. */
export async function publishAsNode(
  redis: RedisClient,
  keys: Keys,
  node: string,
  changes: readonly StitchChange[],
  status: NodeStatus,
): Promise<void> {
  if ((await redis.exists(keys.nodeMeta(node))) === 0) await registerTestNode(redis, keys, node);
  const [incarnation, published] = await redis.hmget(keys.nodeMeta(node), "incarnation", "published");
  let number = Number(published);
  const as = { incarnation: Number(incarnation), known: number, draw: () => (number += 1) };
  const done = await publishStitches(redis, keys, node, changes, status, () => true, as);
  if (done.kind !== "ok") throw new Error(`${node} could not publish: ${done.kind}`);
}

const TALKS = stitchSpec.parse({ adaptor: "process", command: ["true"] });

/** Publishes a stitch as its node would, which takes messages and answers none: nothing runs, and no worker reads the inbox. */
export async function publishMuteStitch(redis: RedisClient, keys: Keys, node: string, id: string): Promise<void> {
  const record = testStitch(id, { spec: TALKS, desired: "running", state: "running", observedAtMs: Date.now() });
  const status = {
    reserved: { cpu: 0, memoryBytes: 0 },
    stitchCount: 1,
    states: { running: 1 },
    eligibility: "eligible" as const,
  };
  await publishAsNode(redis, keys, node, [{ kind: "set", record, isNew: true }], status);
  await createInbox(redis, keys, node, Number(await redis.hget(keys.nodeMeta(node), "incarnation")));
}
