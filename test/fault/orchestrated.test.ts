import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { orderEligibility } from "../../src/redis/node/node-orders.ts";
import { listStitchesOfNode } from "../../src/redis/stitch/stitch-records.ts";
import { leaveTombstone } from "../../src/redis/stitch/tombstones.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { openCuttingProxy } from "../support/cutting-proxy.ts";
import { startedTimes } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
/** A stitch that speaks process-v1. */
const MAIL = join(import.meta.dirname, "../support/stitches/mail.mjs");
const GROUP = "shop.orders.1";
/** Counts its starts in its data folder. */
const COUNTING = {
  adaptor: "process",
  protocol: "none",
  command: ["sh", "-c", "echo started >> starts; exec sleep 600"],
  minHealthyMs: 0,
};

/** Comes up on every node but n2, where it never answers. */
const NEVER_UP_ON_N2 = {
  adaptor: "process",
  command: ["sh", "-c", `[ "$STITCH_NODE_ID" = n2 ] && exec sleep 600; exec "$0" "$1"`, process.execPath, MAIL],
  stopGraceMs: 500,
  minHealthyMs: 0,
};

type Body = { command: CommandName } & Record<string, unknown>;

const stitchesOf = async (cluster: TestCluster, group: string) =>
  (await cluster.master.state.stitches({ limit: 100, cursor: null }, { group })).items;
const running = async (cluster: TestCluster, group: string) =>
  (await stitchesOf(cluster, group)).filter(({ state }) => state === "running").map(({ fullId }) => fullId);
const create = async (cluster: TestCluster, body: Record<string, unknown>) => {
  const job = await cluster.run({ command: "stitch.create", target: GROUP, spec: COUNTING, ...body });
  assert.equal(job.status, "succeeded", JSON.stringify(job.error));
};
const isEnded = async ({ open: { redis, keys } }: TestCluster, id: string) =>
  (await redis.hexists(keys.job(id), "closed")) === 1;
/** Sends it to the Master of this process, which does nothing more for the job: reading a job would advance it. */
const begin = (cluster: TestCluster, body: Body): Promise<JobResource> => cluster.run(body, null, 0);
const endOf = async (cluster: TestCluster, id: string): Promise<JobResource> => {
  await until("it has ended", () => isEnded(cluster, id), 60_000);
  return cluster.master.commands.job(id, 0);
};

/** Is this a save of a job of many steps? Its words: EVALSHA, hash, 1, the job, version, how much is written, the record. */
const isSave = (words: readonly string[]): boolean =>
  /^eval(sha)?$/i.test(words[0] ?? "") && words[6]?.startsWith('{"id":') === true;

/**
 * Starts master workers one after the other until the job has ended. Each is killed at its first save, in turn just before
 * and just after Redis has it, so before it can dispatch what it saved. @returns how many were killed.
 */
async function killAtEachSave(cluster: TestCluster, id: string): Promise<number> {
  for (let kills = 0; ; kills++) {
    assert.ok(kills < 40, "it comes to an end");
    const proxy = await openCuttingProxy(cluster.redisUrl);
    try {
      const { child, output } = cluster.part(["master"], { REDIS_URL: proxy.url });
      const cut = proxy.cut({ at: isSave, passes: kills % 2 === 1, kill: () => child.kill("SIGKILL") });
      await until(
        "it was killed, or the job has ended",
        async () => child.signalCode === "SIGKILL" || (await isEnded(cluster, id)),
        60_000,
      );
      assert.equal(child.exitCode, null, output);
      if (child.signalCode === null) return kills;
      await cut;
    } finally {
      await proxy.close();
    }
  }
}

const CASES: readonly {
  readonly body: Body;
  readonly kills: number;
  readonly check: (cluster: TestCluster, job: JobResource) => Promise<void>;
}[] = [
  {
    body: { command: "group.restart", target: GROUP, batch: 2 },
    kills: 4,
    check: async (cluster) => {
      const ids = await running(cluster, GROUP);
      assert.equal(ids.length, 4);
      await startedTimes(cluster, 2, ids);
    },
  },
  {
    body: { command: "group.scale", target: GROUP, count: 6 },
    kills: 2,
    check: async (cluster) => {
      const ids = await running(cluster, GROUP);
      assert.equal(ids.length, 6);
      await startedTimes(cluster, 1, ids);
    },
  },
  {
    body: { command: "stitch.move", target: "orders-1" },
    kills: 6,
    check: async (cluster) => {
      const ids = (await running(cluster, GROUP)).filter((id) => id.endsWith(":orders-1"));
      assert.equal(ids.length, 1);
      await startedTimes(cluster, 1, ids);
      assert.equal((await cluster.master.state.stitch("orders-1")).fullId, ids[0]);
    },
  },
  {
    body: { command: "node.drain", target: "n1" },
    kills: 6,
    check: async (cluster) => {
      const ids = await running(cluster, GROUP);
      assert.equal(ids.length, 4);
      assert.ok(ids.every((id) => id.startsWith("n2:")));
      await startedTimes(cluster, 1, ids);
      assert.deepEqual((await cluster.master.state.stitches({ limit: 100, cursor: null }, { node: "n1" })).items, []);
      assert.equal((await cluster.master.state.node("n1")).eligibility, "cordoned");
    },
  },
];

describe("master workers killed at each save of a job (P1, P2, P5)", { concurrency: 2 }, () => {
  for (const { body, kills, check } of CASES) {
    it(`${body.command} is finished by other workers, which run each step once`, async () => {
      await withCluster(url, {}, async (cluster) => {
        await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        await create(cluster, { count: 4 });
        const { id } = await begin(cluster, body);
        const killed = await killAtEachSave(cluster, id);
        const job = await cluster.master.commands.job(id, 0);
        assert.equal(job.status, "succeeded", JSON.stringify(job));
        assert.ok(killed >= kills, `${killed} were killed`);
        await check(cluster, job);
      });
    });
  }

  it("group.rebalance is finished by other workers, which run each step once", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      await create(cluster, { count: 4 });
      await cluster.node("n2");
      const { id } = await begin(cluster, { command: "group.rebalance", target: "shop" });
      assert.ok((await killAtEachSave(cluster, id)) >= 6);
      assert.equal((await cluster.master.commands.job(id, 0)).status, "succeeded");
      const ids = await running(cluster, GROUP);
      assert.deepEqual([ids.length, ids.filter((each) => each.startsWith("n2:")).length], [4, 2]);
      await startedTimes(cluster, 1, ids);
    });
  });
});

describe("nodes that die in the middle of a job (P5, P6, P8)", { concurrency: 2 }, () => {
  it("the node a stitch moves to: the stitch stays where it was, and is not there when the node is back", async () => {
    await withCluster(url, FAST, async (cluster) => {
      await cluster.node("n1");
      await create(cluster, { id: "one", node: "n1", spec: NEVER_UP_ON_N2 });
      const n2 = await cluster.node("n2");
      await cluster.masterWorker();
      const { pid } = await cluster.master.state.stitch("one");
      const { id } = await begin(cluster, { command: "stitch.move", target: "one", toNode: "n2", timeoutMs: 60_000 });
      await until(
        "it arrives",
        async () => (await cluster.open.redis.hexists(cluster.open.keys.nodeStitches("n2"), "one")) === 1,
      );
      await n2.kill("SIGKILL");
      const job = await endOf(cluster, id);
      assert.deepEqual([job.status, job.error?.code], ["failed", "node_dead"]);
      await cluster.node("n2");
      await until(
        "it is buried",
        async () =>
          (await cluster.master.state.stitches({ limit: 10, cursor: null }, { node: "n2" })).items.length === 0,
      );
      const stitch = await cluster.master.state.stitch("one");
      assert.deepEqual([stitch.fullId, stitch.pid, stitch.state], ["n1:one", pid, "running"]);
    });
  });

  it("the node a stitch moves from: the stitch runs on the other node, and is gone when the old one is back", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const n1 = await cluster.node("n1");
      await create(cluster, { id: "one", node: "n1" });
      await startedTimes(cluster, 1, ["n1:one"]);
      await cluster.node("n2");
      await cluster.masterWorker();
      const { id } = await begin(cluster, { command: "stitch.move", target: "one", toNode: "n2" });
      await n1.kill("SIGKILL");
      const job = await endOf(cluster, id);
      assert.equal(job.status, "succeeded", JSON.stringify(job));
      assert.equal((await cluster.master.state.stitch("one")).fullId, "n2:one");
      await cluster.node("n1");
      await until(
        "it is gone there",
        async () =>
          (await cluster.master.state.stitches({ limit: 10, cursor: null }, { node: "n1" })).items.length === 0,
      );
      await startedTimes(cluster, 1, ["n1:one"]);
      assert.deepEqual(await running(cluster, GROUP), ["n2:one"]);
    });
  });

  it("a node that receives drained stitches: the stitches go to a third node", async () => {
    await withCluster(url, FAST, async (cluster) => {
      await cluster.node("n1");
      await create(cluster, { count: 2, spec: NEVER_UP_ON_N2 });
      const n2 = await cluster.node("n2");
      await cluster.masterWorker();
      const { id } = await begin(cluster, { command: "node.drain", target: "n1", timeoutMs: 60_000 });
      const { redis, keys } = cluster.open;
      await until("they arrive", async () => (await listStitchesOfNode(redis, keys, "n2")).length > 0);
      await n2.kill("SIGKILL");
      await cluster.node("n3");
      const job = await endOf(cluster, id);
      assert.equal(job.status, "succeeded", JSON.stringify(job));
      assert.deepEqual((await running(cluster, GROUP)).sort(), ["n3:orders-1", "n3:orders-2"]);
    });
  });

  it("the node that is drained: its stitches run elsewhere, and are gone when it is back", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const n1 = await cluster.node("n1");
      await create(cluster, { count: 2 });
      await cluster.node("n2");
      await cluster.masterWorker();
      const { id } = await begin(cluster, { command: "node.drain", target: "n1" });
      await until(
        "they arrive",
        async () => (await listStitchesOfNode(cluster.open.redis, cluster.open.keys, "n2")).length === 2,
      );
      await n1.kill("SIGKILL");
      assert.equal((await endOf(cluster, id)).status, "succeeded");
      await cluster.node("n1");
      await until(
        "they are gone there",
        async () =>
          (await cluster.master.state.stitches({ limit: 10, cursor: null }, { node: "n1" })).items.length === 0,
      );
      assert.deepEqual((await running(cluster, GROUP)).sort(), ["n2:orders-1", "n2:orders-2"]);
    });
  });
});

describe("what a Master decides about a node that it takes for dead", () => {
  it("is obeyed with the next heartbeat if the node is back before the tombstone is written", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const { redis, keys } = cluster.open;
      await cluster.node("n1");
      await create(cluster, { id: "one", node: "n1" });
      await create(cluster, { id: "other", node: "n1" });
      const revision = `${await redis.incr(keys.revision)}.3`;
      // This tombstone is only for a stitch that arrives from n9, and this stitch does not.
      const word = { revision, movedTo: null, arrivingFrom: null, born: null };
      await leaveTombstone(redis, keys, "n1", "other", { ...word, arrivingFrom: "n9:other" });
      await leaveTombstone(redis, keys, "n1", "one", { ...word, movedTo: "n2:one" });
      await until("it is gone", async () => (await redis.hexists(keys.nodeStitches("n1"), "one")) === 0);
      await assert.rejects(cluster.master.state.stitch("n1:one"), { code: "not_found", facts: { movedTo: "n2:one" } });
      assert.deepEqual(await running(cluster, GROUP), ["n1:other"]);
    });
  });

  it("about its eligibility is not undone by an earlier wave of the same job that comes late", async () => {
    await withCluster(url, {}, async ({ open: { redis, keys } }) => {
      const order = (eligibility: "draining" | "cordoned", wave: number) =>
        orderEligibility(redis, keys, "n1", eligibility, { revision: 7, wave });
      assert.deepEqual([await order("draining", 0), await order("cordoned", 2)], ["changed", "changed"]);
      assert.deepEqual([await order("draining", 0), await order("cordoned", 2)], ["superseded", "changed"]);
    });
  });
});

describe("jobs of many steps that meet an obstacle", { concurrency: 2 }, () => {
  it("a scale down of a dead node's stitches succeeds in all steps; a drain of the node is not feasible", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const [n1] = await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
      await create(cluster, { count: 4 });
      await n1?.kill("SIGKILL");
      await until("n1 is dead", async () => (await cluster.master.state.node("n1")).liveness === "dead", 60_000);
      for (const { node, health, healthySince } of await stitchesOf(cluster, GROUP))
        assert.deepEqual([health, healthySince === null], node === "n1" ? [null, true] : ["green", false]);
      const drain = {
        command: COMMANDS["node.drain"].schema.parse({ command: "node.drain", target: "n1", dryRun: true }),
      };
      const dry = await cluster.master.commands.submit({
        ...drain,
        idempotencyKey: null,
        scope: "",
        by: null,
        waitMs: 0,
      });
      const plan = dry.kind === "plan" ? dry.plan : assert.fail();
      assert.deepEqual(
        [plan.feasible, plan.planToken, plan.refusals.map(({ node, code }) => [node, code])],
        [false, null, [["n1", "not_alive"]]],
      );
      await assert.rejects(cluster.run({ command: "node.drain", target: "n1" }), { code: "placement_failed" });
      const job = await cluster.run({ command: "group.scale", target: GROUP, count: 2 });
      assert.deepEqual(
        [job.status, job.counts.succeeded, job.counts.total, job.progress.message],
        ["succeeded", 2, 2, "2 of 2 removed"],
      );
      assert.deepEqual(
        job.tasks.flatMap(({ node, steps }) => steps.map(({ action, status }) => [node, action, status])),
        [
          ["n1", "remove", "succeeded"],
          ["n1", "remove", "succeeded"],
        ],
      );
      const { items } = await cluster.master.commands.steps(job.id, { limit: 100, cursor: null }, {});
      assert.equal(items.length, 2);
      assert.deepEqual(
        (await stitchesOf(cluster, GROUP)).map(({ node }) => node),
        ["n2", "n2"],
      );
    });
  });

  it("a batch that is not green stops the rest; a retry repeats only what did not succeed", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      // Its second start fails while the file `fail` exists.
      const once = {
        ...COUNTING,
        restart: { policy: "never" },
        command: ["sh", "-c", "[ -e starts ] && [ -e ../fail ] && exit 3; echo started >> starts; exec sleep 600"],
      };
      await create(cluster, { count: 3, spec: once });
      const flag = join(cluster.dir, "state-n1", cluster.name, "n1", "data", "fail");
      writeFileSync(flag, "");
      const job = await cluster.run({ command: "group.restart", target: GROUP, timeoutMs: 30_000 });
      assert.deepEqual(
        [job.status, job.error?.code, job.counts.failed, job.counts.cancelled],
        ["failed", "exited_early", 1, 2],
      );
      assert.equal((await running(cluster, GROUP)).length, 2, "those are left alone");
      rmSync(flag);
      const retried = await cluster.master.commands.retry(job.id);
      const again = await cluster.master.commands.retry(job.id);
      assert.equal(again.id, retried.id, "there is one retry of a job");
      assert.equal((await cluster.master.commands.job(retried.id, 60_000)).retryOf, job.id);
      assert.equal((await cluster.master.commands.job(job.id, 0)).retriedBy, retried.id);
    });
  });

  it("a stitch that never turns green elsewhere stays where it was; a drain with force stops it there", async () => {
    await withCluster(url, {}, async (cluster) => {
      await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
      await cluster.run({ command: "node.cordon", target: "n2" });
      await create(cluster, { id: "one", spec: NEVER_UP_ON_N2 });
      await cluster.run({ command: "node.uncordon", target: "n2" });
      const { pid } = await cluster.master.state.stitch("one");
      const moved = await cluster.run({ command: "stitch.move", target: "one", timeoutMs: 1500 });
      assert.deepEqual([moved.status, moved.error?.code], ["failed", "start_timeout"]);
      assert.deepEqual(
        [(await cluster.master.state.stitch("one")).pid, await running(cluster, GROUP)],
        [pid, ["n1:one"]],
      );
      const drained = await cluster.run({ command: "node.drain", target: "n1", timeoutMs: 1000, forceAfterMs: 6000 });
      assert.equal(drained.status, "succeeded", JSON.stringify(drained.error));
      const stitch = await cluster.master.state.stitch("one");
      assert.deepEqual([stitch.fullId, stitch.state], ["n1:one", "stopped"]);
      const { redis, keys } = cluster.open;
      await until("nothing of it is left", async () => (await listStitchesOfNode(redis, keys, "n2")).length === 0);
    });
  });

  it("a slow move does not delay the stops that a drain forces, and the stopped stitch is still moved", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      await cluster.masterWorker();
      const door = join(cluster.dir, "door");
      const waits = `until [ "$STITCH_NODE_ID" = n1 ] || [ -e ${door} ]; do sleep 0.1; done; exec "$0" "$1"`;
      const command = ["sh", "-c", waits, process.execPath, MAIL];
      const slow = { adaptor: "process", command, stopGraceMs: 500, minHealthyMs: 0 };
      await create(cluster, { id: "slow", spec: slow });
      await create(cluster, { id: "pinned", node: "n1" });
      await cluster.node("n2");
      const body = { command: "node.drain", target: "n1", timeoutMs: 60_000, forceAfterMs: 6000 } as const;
      const { id } = await begin(cluster, body);
      const { redis, keys } = cluster.open;
      await until("it arrives", async () => (await redis.hexists(keys.nodeStitches("n2"), "slow")) === 1);
      await until("both are stopped", async () => {
        const { items } = await cluster.master.state.stitches({ limit: 10, cursor: null }, { node: "n1" });
        return items.length === 2 && items.every(({ state }) => state === "stopped");
      });
      assert.equal(await isEnded(cluster, id), false);
      writeFileSync(door, "");
      const job = await endOf(cluster, id);
      assert.equal(job.status, "succeeded", JSON.stringify(job));
      assert.deepEqual((await stitchesOf(cluster, GROUP)).map(({ fullId, state }) => `${fullId} ${state}`).sort(), [
        "n1:pinned stopped",
        "n2:slow running",
      ]);
      assert.equal((await cluster.master.state.node("n1")).eligibility, "cordoned");
    });
  });

  it("a cancel between two links of a move takes the move back", async () => {
    await withCluster(url, {}, async (cluster) => {
      await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
      await create(cluster, { id: "one", node: "n1" });
      const { id } = await begin(cluster, { command: "stitch.move", target: "one" });
      await until(
        "it arrives",
        async () => (await cluster.open.redis.hexists(cluster.open.keys.nodeStitches("n2"), "one")) === 1,
      );
      await cluster.master.commands.cancel(id);
      const job = await cluster.master.commands.job(id, 60_000);
      assert.equal(job.status, "cancelled", JSON.stringify(job));
      assert.deepEqual(await running(cluster, GROUP), ["n1:one"]);
      await until(
        "nothing of it is left",
        async () => (await listStitchesOfNode(cluster.open.redis, cluster.open.keys, "n2")).length === 0,
      );
    });
  });

  it("an uncordon or a cancel ends a drain", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      await create(cluster, { id: "one", node: "n1" });
      for (const end of ["uncordon", "cancel"] as const) {
        const { id } = await begin(cluster, { command: "node.drain", target: "n1" });
        await until("it drains", async () => (await cluster.master.state.node("n1")).eligibility === "draining");
        if (end === "cancel") await cluster.master.commands.cancel(id);
        else await cluster.run({ command: "node.uncordon", target: "n1" });
        assert.equal((await cluster.master.commands.job(id, 60_000)).status, "cancelled");
        const { eligibility } = await cluster.master.state.node("n1");
        assert.equal(eligibility, end === "cancel" ? "cordoned" : "eligible");
      }
      assert.deepEqual(await running(cluster, GROUP), ["n1:one"]);
    });
  });

  it("a user's newer command for a stitch ends its move as superseded, and the stitch stays", async () => {
    await withCluster(url, {}, async (cluster) => {
      await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
      await create(cluster, { id: "one", node: "n1" });
      const { id } = await begin(cluster, { command: "stitch.move", target: "one" });
      assert.equal((await cluster.run({ command: "stitch.stop", target: "n1:one" })).status, "succeeded");
      const job = await cluster.master.commands.job(id, 60_000);
      assert.deepEqual([job.status, job.error?.code], ["failed", "superseded"]);
      const stitch = await cluster.master.state.stitch("one");
      assert.deepEqual([stitch.fullId, stitch.state], ["n1:one", "stopped"]);
      assert.equal((await stitchesOf(cluster, GROUP)).length, 1);
    });
  });

  it("a second job on the same stitches is refused with group_busy until the first one has ended", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      await create(cluster, { count: 2 });
      const { id } = await begin(cluster, { command: "group.restart", target: GROUP });
      for (const target of ["shop", "shop.orders", GROUP])
        await assert.rejects(cluster.run({ command: "group.rebalance", target }), {
          code: "group_busy",
          facts: { jobId: id },
        });
      await assert.rejects(cluster.run({ command: "node.drain", target: "n1" }), { code: "group_busy" });
      await assert.rejects(cluster.master.commands.retry(id), { code: "group_busy" });
      await cluster.master.commands.job(id, 60_000);
      assert.equal((await cluster.run({ command: "group.rebalance", target: "shop" })).status, "succeeded");
    });
  });
});
