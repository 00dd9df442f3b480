import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { JobResource } from "../../src/contract/job.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { Observer } from "../../src/master/state/observer.ts";

/** A stitch counts as healthy as soon as it is up, so that no test waits longer than it must. */
const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"], minHealthyMs: 0 };
const GROUP = "shop.orders.1";

const stitchesOf = async (cluster: TestCluster, group: string) =>
  (await cluster.master.state.stitches({ limit: 100, cursor: null }, { group })).items;
const perNode = async (cluster: TestCluster, group: string) => {
  const counts: Record<string, number> = {};
  for (const { node } of await stitchesOf(cluster, group)) counts[node] = (counts[node] ?? 0) + 1;
  return counts;
};

const spreadOf = async (cluster: TestCluster, group: string) =>
  Object.values(await perNode(cluster, group)).sort((a, b) => a - b);

/** Rolls a job back. Resolves with the rollback's job when it has ended. */
const backed = async (cluster: TestCluster, job: string) =>
  cluster.master.commands.job((await cluster.master.commands.rollback(job)).id, 60_000);

for (const redis of REDISES) {
  describe(`commands of many steps on a ${redis.name}`, () => {
    it("scale a group up, down, to 0, and up again with the spec it had", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        await assert.rejects(cluster.run({ command: "group.scale", target: GROUP, count: 1 }), { code: "no_template" });
        const first = await cluster.run({ command: "stitch.create", target: GROUP, node: "n1", spec });
        // A clone copies its source. Only a create sets the template of the group.
        const cloned = await cluster.run({ command: "stitch.clone", target: first.stitches[0] ?? "" });
        await cluster.run({ command: "stitch.remove", target: cloned.stitches[0] ?? "" });
        const up = await cluster.run({ command: "group.scale", target: GROUP, count: 5 });
        assert.deepEqual([up.status, up.counts.total, up.progress.message], ["succeeded", 4, "4 of 4 created"]);
        assert.deepEqual(await spreadOf(cluster, GROUP), [2, 3]);
        const all = await Promise.all(
          (await stitchesOf(cluster, GROUP)).map(({ fullId }) => cluster.master.state.stitch(fullId)),
        );
        const bound = all.filter((each) => each.spec?.reschedule === false);
        assert.deepEqual(
          bound.map(({ node }) => node),
          ["n1"],
          "the one that was put there by name stays there; those that were not, need not",
        );
        const same = await cluster.run({ command: "group.scale", target: GROUP, count: 5 });
        assert.deepEqual([same.status, same.counts.total], ["succeeded", 0]);
        const down = await cluster.run({ command: "group.scale", target: GROUP, count: 2 });
        assert.deepEqual([down.status, down.counts.succeeded], ["succeeded", 3]);
        assert.deepEqual(await perNode(cluster, GROUP), { n1: 1, n2: 1 }, "from the fullest node");
        const back = await cluster.master.commands.rollback(down.id);
        assert.equal((await cluster.master.commands.job(back.id, 60_000)).status, "succeeded");
        assert.equal((await stitchesOf(cluster, GROUP)).length, 5);
        await cluster.run({ command: "group.scale", target: GROUP, count: 0 });
        assert.deepEqual(await stitchesOf(cluster, GROUP), []);
        const again = await cluster.run({ command: "group.scale", target: GROUP, count: 1 });
        assert.equal(again.status, "succeeded");
        assert.equal((await stitchesOf(cluster, GROUP))[0]?.state, "running");
      });
    });

    it("restart a group in batches, the next batch only when the last one is green", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        await cluster.run({ command: "stitch.create", target: GROUP, count: 4, spec });
        const before = new Map((await stitchesOf(cluster, GROUP)).map(({ fullId, pid }) => [fullId, pid]));
        const job = await cluster.run({ command: "group.restart", target: "shop", batch: "50%" });
        assert.deepEqual([job.status, job.progress.wave, job.progress.waves], ["succeeded", 2, 2]);
        for (const { fullId, pid, state } of await stitchesOf(cluster, GROUP)) {
          assert.equal(state, "running");
          assert.notEqual(pid, before.get(fullId));
        }
        const times = job.tasks.map(({ steps }) => steps.map(({ startedAt, finishedAt }) => [startedAt, finishedAt]));
        assert.equal(times.flat().length, 4);
      });
    });

    it("move a stitch: create the new one, change the route, remove the old one; and move it back", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        await cluster.run({ command: "stitch.create", target: GROUP, id: "one", node: "n1", spec });
        const moved = await cluster.run({ command: "stitch.move", target: "one", toNode: "n2" });
        assert.equal(moved.status, "succeeded");
        assert.deepEqual(
          moved.tasks.flatMap(({ node, steps }) => steps.map(({ action, status }) => `${node} ${action} ${status}`)),
          ["n2 create succeeded", "n1 remove succeeded", "n2 settle succeeded"],
        );
        assert.equal((await cluster.master.state.stitch("one")).fullId, "n2:one");
        await assert.rejects(cluster.master.state.stitch("n1:one"), {
          code: "not_found",
          facts: { movedTo: "n2:one" },
        });
        assert.deepEqual(await perNode(cluster, "shop"), { n2: 1 });
        const back = await cluster.master.commands.rollback(moved.id);
        assert.equal((await cluster.master.commands.job(back.id, 60_000)).status, "succeeded");
        assert.equal((await cluster.master.state.stitch("one")).fullId, "n1:one");
        assert.equal((await cluster.master.commands.job(moved.id, 0)).rolledBackBy, back.id);
      });
    });

    it("follow a stitch that has moved since, when a job about it is rolled back", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        const created = await cluster.run({ command: "stitch.create", target: GROUP, id: "one", node: "n1", spec });
        await cluster.run({ command: "stitch.create", target: GROUP, id: "other", node: "n1", spec });
        const stopped = await cluster.run({ command: "group.stop", target: "shop" });
        let last = stopped;
        for (const toNode of ["n2", "n1", "n2"])
          last = await cluster.run({ command: "stitch.move", target: "one", toNode });
        const observer = new Observer({ ...cluster.open, deadAfterMs: 1000, onUnreadable: assert.ifError });
        const since = (revision: number) =>
          observer.movedSince(revision, [{ action: "start", stitch: "n1:one", timeoutMs: 1 }]);
        assert.deepEqual([...(await since(Number(last.revision) - 1))], [["n1:one", "n2:one"]]);
        assert.deepEqual([...(await since(Number(last.revision)))], [], "a later job never was about that one");
        const started = await backed(cluster, stopped.id);
        assert.deepEqual([started.status, started.stitches.toSorted()], ["succeeded", ["n1:other", "n2:one"]]);
        const gone = await backed(cluster, created.id);
        assert.deepEqual([gone.status, gone.target, gone.stitches], ["succeeded", "n2:one", ["n2:one"]]);
        await assert.rejects(cluster.master.state.stitch("one"), { code: "not_found" });
      });
    });

    it("retry a rollback that failed, on the same stitches", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const nodes = await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        let n2 = nodes[1] ?? assert.fail();
        await cluster.run({ command: "stitch.create", target: GROUP, id: "one", node: "n1", spec });
        const cloned = await cluster.run({ command: "stitch.clone", target: "n1:one", toNode: "n2" });
        const [clone = ""] = cloned.stitches;
        /** Rolls a job back while n2 is away, and retries the rollback when n2 is back. */
        const backLate = async (job: string) => {
          await n2.kill("SIGTERM");
          const refused = await backed(cluster, job);
          assert.deepEqual([refused.status, refused.error?.code], ["failed", "node_left"]);
          n2 = await cluster.node("n2");
          const { id } = await cluster.master.commands.retry(refused.id);
          const { status, target, stitches } = await cluster.master.commands.job(id, 60_000);
          assert.deepEqual([status, target, stitches], ["succeeded", clone, [clone]]);
          return id;
        };
        const data = join(cluster.dir, "state-n2", cluster.name, "n2", "data", clone.slice(3));
        writeFileSync(join(data, "kept"), "");
        const removed = await backLate(cloned.id);
        assert.deepEqual(await perNode(cluster, GROUP), { n1: 1 });
        await backLate(removed);
        assert.deepEqual(await perNode(cluster, GROUP), { n1: 1, n2: 1 });
        assert.ok(existsSync(join(data, "kept")), "it is the one that was removed");
      });
    });

    it("leave a stitch where it is if the new one does not come up", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        const only = { ...spec, command: ["sh", "-c", `[ "$STITCH_NODE_ID" = n1 ] && exec sleep 600; exit 3`] };
        await cluster.run({
          command: "stitch.create",
          target: GROUP,
          id: "one",
          node: "n1",
          spec: { ...only, restart: { policy: "never" } },
        });
        const before = await cluster.master.state.stitch("one");
        const job = await cluster.run({ command: "stitch.move", target: "one", timeoutMs: 30_000 });
        assert.deepEqual([job.status, job.error?.code], ["failed", "exited_early"]);
        const after = await cluster.master.state.stitch("one");
        assert.deepEqual([after.fullId, after.pid], ["n1:one", before.pid]);
        assert.deepEqual(await perNode(cluster, GROUP), { n1: 1 });
        assert.deepEqual((await cluster.master.state.stitches({ limit: 100, cursor: null }, { node: "n2" })).items, []);
      });
    });

    it("rebalance a group, with no more moves than an even spread needs", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        await cluster.run({ command: "stitch.create", target: GROUP, count: 5, spec });
        await Promise.all(["n2", "n3"].map((id) => cluster.node(id)));
        const job = await cluster.run({ command: "group.rebalance", target: "shop" });
        assert.deepEqual([job.status, job.progress.message], ["succeeded", "3 of 3 moved"]);
        assert.deepEqual(await spreadOf(cluster, GROUP), [1, 2, 2]);
      });
    });

    it("drain a node: move the stitches that can move, stop the others after forceAfterMs", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        await cluster.run({ command: "stitch.create", target: GROUP, count: 3, spec });
        await cluster.run({ command: "stitch.create", target: "shop.pinned.1", id: "pinned", node: "n1", spec });
        await cluster.node("n2");
        const job = await cluster.run({ command: "node.drain", target: "n1", forceAfterMs: 4000 });
        assert.equal(job.status, "succeeded");
        assert.deepEqual(await perNode(cluster, GROUP), { n2: 3 });
        assert.equal((await cluster.master.state.stitch("pinned")).state, "stopped");
        assert.equal((await cluster.master.state.node("n1")).eligibility, "cordoned");
        await until("the event", async () => {
          const { items } = await cluster.master.state.events(null, 100);
          return items.some(({ type, node }) => type === "node.drained" && node === "n1");
        });
      });
    });

    it("retry or roll back a scale whose new stitches did not come up", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const flag = join(cluster.dir, "up");
        const command = ["sh", "-c", `[ -e ${flag} ] || exit 3; exec sleep 600`];
        const broken = { ...spec, command, restart: { policy: "never" } };
        await cluster.run({ command: "stitch.create", target: GROUP, spec: broken, start: false });
        const scaled = await cluster.run({ command: "group.scale", target: GROUP, count: 3 });
        assert.deepEqual([scaled.status, scaled.counts.failed], ["failed", 2]);
        writeFileSync(flag, "");
        const { id } = await cluster.master.commands.retry(scaled.id);
        const retried = await cluster.master.commands.job(id, 60_000);
        assert.deepEqual([retried.status, retried.progress.message], ["succeeded", "2 of 2 started"]);
        assert.deepEqual(retried.stitches.toSorted(), scaled.stitches.toSorted());
        assert.equal((await backed(cluster, scaled.id)).status, "succeeded");
        assert.equal((await stitchesOf(cluster, GROUP)).length, 1);
      });
    });

    it("stop older versions once the new one has as many healthy stitches; roll that back", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        for (const version of ["2", "9", "10"])
          await cluster.run({ command: "stitch.create", target: `shop.orders.${version}`, spec });
        const job = await cluster.run({ command: "group.stopOldVersions", target: "shop.orders.9" });
        const states = async () =>
          (await stitchesOf(cluster, "shop")).map(({ group, state }) => `${group} ${state}`).sort();
        assert.deepEqual(await states(), ["shop.orders.10 running", "shop.orders.2 stopped", "shop.orders.9 running"]);
        const [stopped] = await stitchesOf(cluster, "shop.orders.2");
        assert.deepEqual([stopped?.health, stopped?.healthySince], [null, null]);
        const back = await cluster.master.commands.rollback(job.id, "it is slow");
        const { status, command, target, reason, stitches } = await cluster.master.commands.job(back.id, 60_000);
        assert.deepEqual([status, command, target, reason], ["succeeded", "stitch.start", stitches[0], "it is slow"]);
        assert.deepEqual(await states(), ["shop.orders.10 running", "shop.orders.2 running", "shop.orders.9 running"]);
      });
    });

    it("stop no older version while the new one has fewer healthy stitches; with force, at once", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        await cluster.run({ command: "stitch.create", target: "shop.orders.1", count: 2, spec });
        const dies = { ...spec, command: ["sh", "-c", "sleep 1.2; exit 3"], restart: { backoffMs: 10_000 } };
        await cluster.run({ command: "stitch.create", target: "shop.orders.2", spec: dies });
        await cluster.run({ command: "stitch.create", target: "shop.orders.2", spec });
        const body = { command: "group.stopOldVersions", target: "shop.orders.2" } as const;
        const running = async () =>
          (await stitchesOf(cluster, "shop.orders.1")).filter(({ state }) => state === "running").length;
        const job = await cluster.run({ ...body, minHealthyMs: 2000, timeoutMs: 4000 });
        assert.deepEqual([job.status, job.error?.code], ["failed", "unhealthy"]);
        assert.match(job.error?.message ?? "", /^1 of the 2 stitches that shop\.orders\.2 needs/);
        assert.equal(await running(), 2, "nothing is stopped");
        // The job waits for the stitch that is missing.
        const waiting = await cluster.run({ ...body, minHealthyMs: 100, timeoutMs: 60_000 }, null, 0);
        assert.equal(waiting.status, "pending");
        await cluster.run({ command: "stitch.create", target: "shop.orders.2", spec });
        assert.equal((await cluster.master.commands.job(waiting.id, 60_000)).status, "succeeded");
        assert.equal(await running(), 0);
        await cluster.run({ command: "group.start", target: "shop.orders.1" });
        await cluster.run({ command: "group.stop", target: "shop.orders.2" });
        assert.equal((await cluster.run({ ...body, force: true })).status, "succeeded");
        assert.equal(await running(), 0);
      });
    });

    it("stop a restart if a restarted stitch dies after it has come up: the others stay as they are", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const flag = join(cluster.dir, "broken");
        const script = `[ -e ${flag} ] || exec sleep 600; sleep 1.5; echo "no port is set" >&2; exit 3`;
        const release = { ...spec, command: ["sh", "-c", script], minHealthyMs: 3000, restart: { policy: "never" } };
        await cluster.run({ command: "stitch.create", target: GROUP, count: 3, spec: release });
        writeFileSync(flag, "");
        const job = await cluster.run({ command: "group.restart", target: GROUP });
        assert.deepEqual([job.status, job.error?.code], ["failed", "exited_early"]);
        assert.deepEqual([job.counts.failed, job.counts.cancelled], [1, 2]);
        assert.equal(job.error?.stderrTail, "no port is set");
        const states = (await stitchesOf(cluster, GROUP)).map(({ state }) => state).sort();
        assert.deepEqual(states, ["failed", "running", "running"]);
      });
    });

    it("stop older versions: the job succeeds at once if there is none", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const { url } = await cluster.api();
        await cluster.node("n1");
        await cluster.run({ command: "stitch.create", target: GROUP, spec });
        const response = await checkedFetch(`${url}/v1/commands?waitMs=20000`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ command: "group.stopOldVersions", target: GROUP }),
        });
        const { id, status, counts } = (await response.json()) as JobResource;
        assert.deepEqual([response.status, status, counts.total], [200, "succeeded", 0]);
        await assert.rejects(cluster.master.commands.rollback(id), { code: "not_reversible" });
      });
    });
  });
}
