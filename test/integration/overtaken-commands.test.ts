// What happens to a command if the cluster changes between the reads that it is planned from and its acceptance.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { heldScopes } from "../support/held-scopes.ts";
import { FAST, REDISES, type TestCluster, withCluster } from "../support/cluster.ts";

/** A stitch counts as healthy as soon as it is up, so that no test waits longer than it must. */
const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"], minHealthyMs: 0 };
const GROUP = "shop.orders.1";
/** The script that every plan draws its revision with. */
const DRAW = "cs_draw_revision";

const stitchesOf = async (cluster: TestCluster, group: string) =>
  (await cluster.master.state.stitches({ limit: 100, cursor: null }, { group })).items;

/**
 * Submits a command through another Master. That Master pauses after it has read the state from which it plans, until
 * `meanwhile` is done.
 * @param read what it reads, by the name of the command: by default what is read together with the revision.
 */
async function overtaken(
  cluster: TestCluster,
  body: { command: CommandName } & Record<string, unknown>,
  meanwhile: () => Promise<void>,
  read = DRAW,
): Promise<JobResource> {
  const slow = await cluster.openMaster("slow");
  const [hasRead, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { redis } = slow;
  const call: () => unknown = Reflect.get(redis, read);
  // A pipeline takes the function over, and calls it on itself.
  Reflect.set(redis, read, function (this: unknown, ...args: []): unknown {
    const answer = Reflect.apply(call, this, args);
    return this === redis ? held(answer) : answer;
  });
  const held = async (answer: unknown) => {
    const found = await answer;
    hasRead.resolve();
    await goOn.promise;
    return found;
  };
  try {
    const command = COMMANDS[body.command].schema.parse(body);
    const asked = slow.master.commands.submit({ command, idempotencyKey: null, scope: "", by: null, waitMs: 60_000 });
    await Promise.all([hasRead.promise.then(meanwhile).finally(goOn.resolve), asked]);
    const submitted = await asked;
    return submitted.kind === "job" ? submitted.job : assert.fail();
  } finally {
    await slow.settled();
    slow.close();
  }
}

describe("commands that were planned from a state that has changed since", () => {
  const url = REDISES[0]?.url ?? "";

  it("scale a group to the right number if two of them ask for the same number", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      await cluster.run({ command: "stitch.create", target: GROUP, spec });
      const body = { command: "group.scale", target: GROUP, count: 5 } as const;
      const first = await overtaken(cluster, body, async () => {
        await assert.rejects(cluster.run(body), { code: "group_busy" });
      });
      assert.deepEqual([first.status, first.counts.total], ["succeeded", 4]);
      assert.equal((await cluster.run(body)).counts.total, 0);
      assert.equal((await stitchesOf(cluster, GROUP)).length, 5);
    });
  });

  it("drain a node also of a stitch whose group came to it after the scopes were looked up", async () => {
    await withCluster(url, {}, async (cluster) => {
      await Promise.all([cluster.node("n1"), cluster.node("n2")]);
      const free = { ...spec, reschedule: true };
      await cluster.run({ command: "stitch.create", target: GROUP, node: "n1", id: "first", spec: free });
      const drain = { command: "node.drain", target: "n1", minHealthyMs: 0 } as const;
      const drained = await overtaken(
        cluster,
        drain,
        async () => {
          const later = { command: "stitch.create", target: "test.later.1", node: "n1", id: "later" } as const;
          assert.equal((await cluster.run({ ...later, spec: free })).status, "succeeded");
        },
        "hgetall",
      );
      assert.equal(drained.status, "succeeded", JSON.stringify(drained));
      assert.equal((await cluster.master.state.stitch("later")).node, "n2");
      assert.equal(await heldScopes(cluster.open.redis, cluster.open.keys), 0);
    });
  });

  for (const key of [null, "key"])
    it(`release their scope if they are refused after they took it, ${key === null ? "without" : "with"} a key`, async () => {
      await withCluster(url, {}, async (cluster) => {
        await cluster.node("n1");
        await cluster.run({ command: "stitch.create", target: GROUP, spec });
        assert.equal((await cluster.run({ command: "node.cordon", target: "n1" })).status, "succeeded");
        const scale = { command: "group.scale", target: GROUP, count: 5 } as const;
        await assert.rejects(cluster.run(scale, key), { code: "placement_failed" });
        const { redis, keys } = cluster.open;
        assert.deepEqual([await heldScopes(redis, keys), await redis.zcard(keys.openJobs)], [0, 0]);
      });
    });

  it("do not create a stitch on a node that was drained after the plan", async () => {
    await withCluster(url, FAST, async (cluster) => {
      await cluster.node("n1");
      const body = { command: "stitch.create", target: GROUP, node: "n1", id: "late", spec } as const;
      const late = await overtaken(cluster, body, async () => {
        assert.equal((await cluster.run({ command: "node.drain", target: "n1" })).status, "succeeded");
      });
      assert.deepEqual([late.status, late.error?.code], ["failed", "superseded"]);
      assert.deepEqual(await stitchesOf(cluster, GROUP), []);
    });
  });
});
