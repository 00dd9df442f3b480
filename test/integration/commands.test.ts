import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { RequestError } from "../../src/domain/errors.ts";
import type { JobResource } from "../../src/contract/job.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { holdBack } from "../support/hold-back.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const withCode = (code: string) => (error: unknown) => (error as RequestError).code === code;
const sleeper = { adaptor: "process", protocol: "none", command: ["sleep", "600"] };

const openJobs = ({ open: { redis, keys } }: TestCluster) => redis.zrange(keys.openJobs, 0, "-1");

/** Two Masters that each have a connection of their own. */
async function withTwins(
  redisUrl: string,
  work: (cluster: TestCluster, one: OpenMaster, other: OpenMaster) => Promise<void>,
): Promise<void> {
  await withCluster(redisUrl, {}, async (cluster) => {
    const other = await cluster.openMaster("other");
    try {
      await work(cluster, cluster.open, other);
    } finally {
      other.close();
    }
  });
}

/** Sends the same request, under the same key, to the given Master. */
async function ping({ master }: OpenMaster): Promise<JobResource> {
  const command = COMMANDS["node.ping"].schema.parse({ command: "node.ping", target: "n1" });
  const submitted = await master.commands.submit({ command, idempotencyKey: "key", scope: "", by: null, waitMs: 0 });
  return submitted.kind === "job" ? submitted.job : assert.fail();
}

for (const redis of REDISES) {
  describe(`commands on a ${redis.name}`, { concurrency: 2 }, () => {
    it("start and stop real processes, spread over three nodes", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all(["n1", "n2", "n3"].map((id) => cluster.node(id, { STITCH_ZONES: id === "n3" ? "b" : "a" })));
        const created = await cluster.run({
          command: "stitch.create",
          target: "shop.orders.1",
          count: 4,
          spec: sleeper,
        });
        assert.equal(created.status, "succeeded", JSON.stringify(created));
        assert.deepEqual(created.stitches.map((id) => id.split(":")[1] ?? "").sort(), [
          "orders-1",
          "orders-2",
          "orders-3",
          "orders-4",
        ]);
        const { items } = await cluster.master.state.stitches({ limit: 100, cursor: null }, { group: "shop" });
        assert.deepEqual(
          items.map((stitch) => stitch.state),
          ["running", "running", "running", "running"],
        );
        assert.deepEqual(
          items.map((stitch) => stitch.node).sort(),
          ["n1", "n2", "n3", "n3"],
          "zones first, then nodes",
        );
        assert.ok(items.every(({ pid }) => pid !== null && isRunning(pid)));

        const [first] = items;
        assert.ok(first?.pid);
        const stopped = await cluster.run({ command: "stitch.stop", target: first.id });
        assert.equal(stopped.tasks[0]?.steps[0]?.changed, true);
        assert.ok(!isRunning(first.pid));
        assert.equal((await cluster.master.state.stitch(first.id)).state, "stopped");
        assert.equal(
          (await cluster.run({ command: "stitch.stop", target: first.id })).tasks[0]?.steps[0]?.changed,
          false,
        );

        const started = await cluster.run({ command: "stitch.start", target: first.fullId });
        assert.equal(started.status, "succeeded");
        const again = await cluster.master.state.stitch(first.id);
        assert.ok(again.pid !== null && again.pid !== first.pid && isRunning(again.pid));

        assert.equal((await cluster.run({ command: "stitch.remove", target: first.id })).status, "succeeded");
        assert.ok(!isRunning(again.pid));
        await assert.rejects(cluster.master.state.stitch(first.id), withCode("not_found"));
        assert.deepEqual((await cluster.master.state.group("shop")).stitches.byVersion, { 1: 3 });
        assert.equal((await cluster.master.state.cluster()).stitches.running, 3);
      });
    });

    it("ping, cordon and uncordon a node; a cordoned node gets no new stitch", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const ping = await cluster.run({ command: "node.ping", target: "n1" });
        assert.deepEqual(ping.tasks[0]?.steps[0]?.output, { incarnation: 1 });
        assert.equal((await cluster.run({ command: "node.cordon", target: "n1" })).status, "succeeded");
        assert.equal((await cluster.run({ command: "node.cordon", target: "n1" })).tasks[0]?.steps[0]?.changed, false);
        assert.equal((await cluster.master.state.node("n1")).eligibility, "cordoned");
        const create = { command: "stitch.create", target: "a.b.1", spec: sleeper } as const;
        await assert.rejects(cluster.run(create), (error: RequestError) => {
          assert.equal(error.code, "placement_failed");
          assert.deepEqual(
            (error.facts["refusals"] as { code: string }[]).map(({ code }) => code),
            ["cordoned"],
          );
          return true;
        });
        assert.equal((await cluster.master.state.stitches({ limit: 10, cursor: null }, {})).items.length, 0);
        await cluster.run({ command: "node.uncordon", target: "n1" });
        assert.equal((await cluster.run(create)).status, "succeeded");
      });
    });

    it("say why a stitch did not come up; the node still takes commands after that", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const attempt = async (id: string, spec: Record<string, unknown>) => {
          const job = await cluster.run({
            command: "stitch.create",
            target: "a.b.1",
            id,
            spec: { ...sleeper, ...spec },
          });
          assert.equal(job.status, "failed", JSON.stringify(job));
          return job.error;
        };
        assert.equal((await attempt("no-program", { command: ["/no/such/program"] }))?.code, "spawn_failed");
        const folder = await attempt("no-folder", { cwd: "/no/such/folder" });
        assert.match(folder?.message ?? "", /\/no\/such\/folder does not exist/);
        const early = await attempt("early", { command: ["sh", "-c", "echo the reason >&2; exit 7"] });
        assert.deepEqual([early?.code, early?.stderrTail], ["exited_early", "the reason"]);
        assert.match(early?.message ?? "", /code 7/);
        assert.equal((await cluster.master.state.stitch("early")).lastExit?.code, 7);
        const once = await cluster.run({
          command: "stitch.create",
          target: "a.b.1",
          id: "once",
          spec: { ...sleeper, command: ["true"], restart: { policy: "never" } },
        });
        assert.equal(once.status, "succeeded", "an exit with 0 is success where the policy is not always");
        assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
      });
    });

    it("stop a whole process tree, even one that ignores SIGTERM; an exit of a process is noticed", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        await cluster.create("n1", "dies", ["sleep", "600"], { restart: { policy: "never" } });
        const { pid } = await cluster.master.state.stitch("dies");
        process.kill(pid ?? assert.fail(), "SIGKILL");
        const failed = await until("the exit is seen", async () => {
          const stitch = await cluster.master.state.stitch("dies");
          return stitch.state === "failed" ? stitch : null;
        });
        assert.equal(failed.lastExit?.signal, "SIGKILL");
        assert.equal(failed.pid, null);
        const deaf = "trap '' TERM; sleep 601 & echo $! > child; while :; do sleep 1; done";
        await cluster.create("n1", "deaf", ["sh", "-c", deaf], { stopGraceMs: 200 });
        const stopped = await cluster.run({ command: "stitch.stop", target: "deaf" });
        assert.equal(stopped.status, "succeeded");
        assert.equal((await cluster.master.state.stitch("deaf")).lastExit?.signal, "SIGKILL");
        // `stop()` of the cluster checks that none of its processes is left, the sleeping child included.
      });
    });

    it("change nothing when only planned, and are refused with a stale plan", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const body = { command: "stitch.create", target: "a.b.1", spec: sleeper } as const;
        const dry = () =>
          cluster.master.commands.submit({
            command: COMMANDS["stitch.create"].schema.parse({ ...body, dryRun: true }),
            idempotencyKey: null,
            scope: "",
            by: null,
            waitMs: 0,
          });
        const first = await dry();
        assert.ok(first.kind === "plan" && first.plan.feasible && first.plan.planToken !== null);
        assert.equal((await cluster.master.state.cluster()).openJobs, 0);
        assert.equal((await cluster.master.commands.jobs({ limit: 10, cursor: null }, {})).items.length, 0);
        const job = await cluster.run({ ...body, planToken: first.plan.planToken });
        assert.deepEqual(job.stitches, ["n1:b-1"]);
        // Ids stay unique for components that give the same id prefix (b and B), and beside ids chosen by hand.
        assert.deepEqual((await cluster.run({ ...body, target: "a.B.1" })).stitches, ["n1:b-2"]);
        await cluster.create("n1", "b-3", ["sleep", "600"]);
        assert.deepEqual((await cluster.run(body)).stitches, ["n1:b-4"]);
        await cluster.node("n2");
        await assert.rejects(cluster.run({ ...body, planToken: first.plan.planToken }), withCode("plan_stale"));
      });
    });

    it("leave no open job when they are refused, with or without a key", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        for (const key of [null, "one", "two", "two"])
          await assert.rejects(cluster.run({ command: "stitch.stop", target: "nope" }, key), withCode("not_found"));
        const drained = cluster.run({ command: "node.drain", target: "nope" }, "three");
        await assert.rejects(drained, withCode("not_found"));
        assert.equal((await cluster.master.state.cluster()).openJobs, 0);
      });
    });

    // In each test one Master refuses a request because the node is not there, and another Master accepts the same request.
    it("a job stays in the index of open jobs if its twin was refused before the job was created", async () => {
      await withTwins(redis.url, async (cluster, accepting, refusing) => {
        const node = () => registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
        const session = await node();
        const making = holdBack(accepting, "create_job");
        const accepted = ping(accepting);
        await making.reached;
        await leaveNode(cluster.open.redis, cluster.open.keys, "n1", session);
        await cluster.master.commands.forgetNode("n1");
        await assert.rejects(ping(refusing), withCode("not_found"));
        await node();
        making.release();
        assert.deepEqual(await openJobs(cluster), [(await accepted).id]);
      });
    });

    it("a job stays in the index of open jobs if its refused twin removes the pointer while the job is created", async () => {
      await withTwins(redis.url, async (cluster, accepting, refusing) => {
        const takingBack = holdBack(refusing, "unpoint_at_job");
        const refused = ping(refusing);
        await takingBack.reached;
        await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
        const making = holdBack(accepting, "create_job");
        const accepted = ping(accepting);
        await making.reached;
        takingBack.release();
        await assert.rejects(refused, withCode("not_found"));
        making.release();
        assert.deepEqual(await openJobs(cluster), [(await accepted).id]);
      });
    });

    it("a job stays in the index of open jobs if its refused twin removes the pointer after the job was created", async () => {
      await withTwins(redis.url, async (cluster, accepting, refusing) => {
        const takingBack = holdBack(refusing, "unpoint_at_job");
        const refused = ping(refusing);
        await takingBack.reached;
        await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
        const { id } = await ping(accepting);
        takingBack.release();
        assert.equal((await refused).id, id, "by now it is known");
        assert.deepEqual(await openJobs(cluster), [id]);
      });
    });

    it("are recognized again by their key; a taken id and an ambiguous bare id are refused", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all([cluster.node("n1"), cluster.node("n2")]);
        const body = { command: "stitch.create", target: "a.b.1", node: "n1", id: "x", spec: sleeper } as const;
        const jobs = await Promise.all([1, 2, 3, 4].map(() => cluster.run(body, "key")));
        assert.equal(new Set(jobs.map(({ id }) => id)).size, 1);
        await assert.rejects(cluster.run({ ...body, id: "y" }, "key"), withCode("idempotency_conflict"));
        await assert.rejects(cluster.run(body), withCode("stitch_exists"));
        await cluster.create("n2", "x", ["sleep", "600"]);
        await assert.rejects(cluster.run({ command: "stitch.stop", target: "x" }), (error: RequestError) => {
          assert.deepEqual([error.code, error.facts["candidates"]], ["ambiguous_stitch", ["n1:x", "n2:x"]]);
          return true;
        });
        await cluster.run({ command: "stitch.remove", target: "n1:x" });
        assert.equal((await cluster.run(body, "key")).id, jobs[0]?.id, "also when its stitch is gone");
        assert.equal((await cluster.master.state.stitch("x")).node, "n2");
      });
    });
  });
}
