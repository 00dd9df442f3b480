import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { UnreadableRecord } from "../../src/redis/unreadable.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { given, LED, leaderBeside, leaderOf, post, startMaster } from "../support/leaders.ts";

const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"], minHealthyMs: 0 };
const GROUP = "shop.web.1";
const create = { command: "stitch.create", target: GROUP, spec };
/** P3, and what a busy machine adds. */
const ANSWERS_MS = 3500;

for (const { name, url: redisUrl } of REDISES)
  describe(`the mode leader on a ${name}`, { concurrency: 3 }, () => {
    it("has one leader, which plans every command, whichever API is asked", async () => {
      await withCluster(redisUrl, LED, async (cluster) => {
        await cluster.node("n1");
        startMaster(cluster, "m1");
        startMaster(cluster, "m2");
        const [one, two] = await Promise.all([cluster.api(), cluster.api()]);
        const leader = await leaderBeside(cluster);
        await until("both are on the list", async () => (await cluster.master.state.cluster()).masters.length === 2);
        for (const [index, { url }] of [one, two].entries()) {
          const created = await post(url, "/v1/commands?waitMs=20000", { ...create, id: `s${index}`, node: "n1" });
          assert.deepEqual([created.status, created.body["status"]], [200, "succeeded"]);
          assert.equal(created.body["master"], leader.id, "the job names the leader");
        }
        // The leader's own refusal comes through, with its facts.
        const twice = await post(one.url, "/v1/commands", { ...create, id: "s0", node: "n1" });
        assert.deepEqual([twice.status, twice.body["code"]], [409, "stitch_exists"]);
        const elsewhere = await post(two.url, "/v1/commands", { ...create, node: "n9" });
        assert.equal(elsewhere.status, 404);
        // One job for one key, through any API; another body is refused.
        const keyed = { command: "stitch.restart", target: "n1:s0" };
        const [a, b] = await Promise.all([one, two].map(({ url }) => post(url, "/v1/commands", keyed, "k")));
        assert.deepEqual([a?.status, b?.body["id"]], [202, a?.body["id"]]);
        const conflict = await post(one.url, "/v1/commands", { ...keyed, target: "n1:s1" }, "k");
        assert.equal(conflict.body["code"], "idempotency_conflict");
        // A dry run is planned where it arrives, and says so.
        const dry = await post(one.url, "/v1/commands", { ...create, dryRun: true });
        assert.ok(!["m1", "m2"].includes(String(dry.body["master"])), String(dry.body["master"]));

        const told = async () => (await cluster.master.state.events(null, 10, { type: ["leader.*"] })).items;
        await until("the election has been told", async () => (await told()).length > 0);
        assert.deepEqual(
          (await told()).map(({ type, data }) => [type, data?.["master"]]),
          [["leader.elected", leader.id]],
        );
        const state = (await (await checkedFetch(`${one.url}/v1/cluster`)).json()) as Record<string, unknown>;
        assert.deepEqual([state["mode"], state["leader"], state["lease"]], ["leader", leader.id, "redis"]);
      });
    });

    it("decides conflicting commands one after the other: the later one counts, and the earlier one comes before it", async () => {
      await withCluster(redisUrl, LED, async (cluster) => {
        await cluster.node("n1");
        startMaster(cluster, "m1");
        const apis = await Promise.all([cluster.api(), cluster.api()]);
        await leaderBeside(cluster);
        assert.equal((await given(apis[0].url, { ...create, node: "n1", id: "s" }, "create"))["status"], "succeeded");
        for (let round = 0; round < 10; round++) {
          const commands = ["stitch.stop", "stitch.start"];
          const jobs = await Promise.all(
            commands.map((command, index) =>
              given(apis[(index + round) % 2]?.url ?? "", { command, target: "n1:s" }, `${command} ${round}`),
            ),
          );
          assert.deepEqual(new Set(jobs.map(({ master }) => master)), new Set(["m1"]));
          const [stop, start] = jobs.map(({ revision }) => Number(revision));
          const isStopped = (stop ?? 0) > (start ?? 0);
          const [earlier, later] = isStopped ? jobs.toReversed() : jobs;
          assert.equal(later?.["status"], "succeeded");
          // A start that is stopped before the stitch is up does not succeed. A stop always does, because it comes first.
          assert.ok(isStopped || earlier?.["status"] === "succeeded", JSON.stringify(earlier));
          const { desired } = await cluster.master.state.stitch("n1:s");
          assert.equal(desired, isStopped ? "stopped" : "running", "the later one counts");
        }
      });
    });

    it("repeats and takes back jobs by the leader, and carries out commands of many steps", async () => {
      await withCluster(redisUrl, LED, async (cluster) => {
        await cluster.node("n1");
        startMaster(cluster, "m1");
        const { url } = await cluster.api();
        await leaderBeside(cluster);
        const created = await given(url, { ...create, count: 3 }, "create");
        assert.equal(created["status"], "succeeded");
        const scaled = await given(url, { command: "group.scale", target: GROUP, count: 5 }, "scale");
        assert.equal(scaled["status"], "succeeded");
        assert.equal((await given(url, { command: "group.restart", target: GROUP }, "restart"))["status"], "succeeded");
        const back = await post(url, `/v1/jobs/${String(scaled["id"])}/rollback`, {});
        assert.equal(back.status, 202, JSON.stringify(back.body));
        assert.equal((await cluster.master.commands.job(String(back.body["id"]), 20_000)).status, "succeeded");
        const again = await post(url, `/v1/jobs/${String(scaled["id"])}/rollback`, {});
        assert.equal(again.body["id"], back.body["id"], "a job has one rollback");
        assert.equal((await cluster.master.state.group(GROUP)).stitches.byState.running, 3);
        const bad = {
          ...create,
          target: "shop.bad.1",
          spec: { ...spec, command: ["false"], restart: { policy: "never" } },
        };
        const failed = await given(url, bad, "bad");
        assert.equal(failed["status"], "failed");
        const retried = await post(url, `/v1/jobs/${String(failed["id"])}/retry`, null);
        assert.equal(retried.body["master"], "m1", JSON.stringify(retried.body));
        const succeeded = await post(url, `/v1/jobs/${String(created["id"])}/retry`, null);
        assert.deepEqual([succeeded.status, succeeded.body["code"]], [409, "job_finished"]);
        // What only a Master may write goes the same way.
        assert.equal((await given(url, { command: "node.cordon", target: "n1" }, "cordon"))["status"], "succeeded");
        assert.equal((await cluster.master.state.node("n1")).eligibility, "cordoned");
      });
    });

    it("without a leader: 503 no_leader within 3 s, and what was asked for is never carried out", async () => {
      await withCluster(redisUrl, LED, async (cluster) => {
        await cluster.node("n1");
        const { url } = await cluster.api();
        const atMs = Date.now();
        const refused = await post(url, "/v1/commands", create, "late");
        assert.deepEqual([refused.status, refused.body["code"]], [503, "no_leader"]);
        assert.ok(Number(refused.headers.get("retry-after")) > 0);
        assert.ok(Date.now() - atMs < ANSWERS_MS, `${Date.now() - atMs} ms`);
        assert.equal((await checkedFetch(`${url}/v1/stitches`)).status, 200, "reading needs no leader");
        // A client that waits longer is answered by the leader that comes meanwhile.
        const patient = post(url, "/v1/commands?waitMs=30000", { command: "node.ping", target: "n1" });
        startMaster(cluster, "m1");
        const pinged = await patient;
        assert.deepEqual([pinged.status, pinged.body["status"], pinged.body["master"]], [200, "succeeded", "m1"]);
        const { items } = (await (await checkedFetch(`${url}/v1/jobs`)).json()) as { items: { command: string }[] };
        assert.deepEqual(
          items.map(({ command }) => command),
          ["node.ping"],
        );
        // The same key again is the same command, not the one that was withdrawn.
        assert.equal((await given(url, create, "late"))["status"], "succeeded");
      });
    });

    it("gives the lease back when the leader ends in good order, and another one leads at once", async () => {
      await withCluster(redisUrl, { ...LED, STITCH_LEADER_LEASE_MS: "60000" }, async (cluster) => {
        const first = startMaster(cluster, "m1");
        await leaderBeside(cluster);
        startMaster(cluster, "m2");
        await until("both are on the list", async () => (await cluster.master.state.cluster()).masters.length === 2);
        const before = await leaderOf(cluster);
        assert.equal(before?.id, "m1");
        assert.equal(await first.kill("SIGTERM"), 0);
        // A candidate looks each second, however long the lease is.
        const after = await leaderBeside(cluster, ["m1"], 10_000);
        assert.deepEqual([after.epoch, after.n], [before.epoch, before.n + 1]);
        // The events follow the election.
        const items = await until("all have been told", async () => {
          const told = await cluster.master.state.events(null, 10, { type: ["leader.*"] });
          return told.items.length < 3 ? null : told.items;
        });
        assert.deepEqual(
          items.map(({ type, data }) => [type, data?.["master"]]),
          [
            ["leader.elected", "m1"],
            ["leader.lost", "m1"],
            ["leader.elected", "m2"],
          ],
        );
      });
    });

    it("refuses an election that cannot be read: a job's is not decided about, a lease's is void", async () => {
      await withCluster(redisUrl, LED, async (cluster) => {
        await (await cluster.node("n1")).kill("SIGTERM");
        startMaster(cluster, "m1");
        const { url } = await cluster.api();
        await leaderBeside(cluster);
        const { redis, keys } = cluster.open;
        const ping = { command: "node.ping", target: "n1", waitForNode: true };
        const jobs = [await given(url, ping, "one", 0), await given(url, ping, "two", 0)].map(({ id }) => String(id));
        const [wrong = "", right = ""] = jobs;
        await redis.hset(keys.job(wrong), "election", "1 2 nobody");
        await assert.rejects(cluster.master.commands.job(wrong, 0), UnreadableRecord);
        for (const field of ["election", "epoch", "n", "until"]) {
          const before = (await leaderOf(cluster)) ?? assert.fail();
          await redis.hset(keys.leaderLease, field, "x");
          const after = await until("there is a leader again", async () => {
            const leader = await leaderOf(cluster);
            return leader !== null && leader.epoch > before.epoch ? leader : null;
          });
          assert.deepEqual([after.id, after.n], ["m1", 1], field);
        }
        await cluster.node("n1");
        assert.equal((await cluster.master.commands.job(right, 20_000)).status, "succeeded");
        assert.deepEqual(
          await redis
            .hkeys(keys.jobOutcomes(wrong, "n1"))
            .then((found) => found.filter((each) => each.startsWith("s:"))),
          [],
        );
      });
    });

    it("can be left and entered while jobs are open: none is lost, and a later leader has a higher order", async () => {
      await withCluster(redisUrl, {}, async (cluster) => {
        await (await cluster.node("n1")).kill("SIGTERM");
        const ping = { command: "node.ping", target: "n1", waitForNode: true };
        const old = await cluster.api();
        const waiting = [String((await post(old.url, "/v1/commands", ping)).body["id"])];
        const change = (mode: string) => post(old.url, "/v1/masters/mode", { mode });
        assert.equal((await change("leader")).body["lease"], "redis");
        assert.equal((await post(old.url, "/v1/commands", ping)).body["code"], "wrong_mode");

        const led = await cluster.api(LED);
        const m1 = startMaster(cluster, "m1", LED);
        waiting.push(String((await given(led.url, ping, "led", 0))["id"]));
        const first = (await leaderOf(cluster)) ?? assert.fail();
        await until("the leader has taken over the job from before", async () => {
          const { redis, keys } = cluster.open;
          return (await redis.hget(keys.job(waiting[0] ?? ""), "election"))?.startsWith(`${first.epoch} ${first.n} `);
        });
        assert.equal((await change("leaderless")).status, 200);
        assert.equal(await m1.exited, 1);
        assert.match(
          m1.output,
          /runs its Masters with STITCH_MASTER=leaderless.* this process is set to STITCH_MASTER=leader/,
        );
        assert.equal((await post(led.url, "/v1/commands", ping)).body["code"], "wrong_mode");

        await cluster.masterWorker({ STITCH_NODE_ID: "m2" });
        await cluster.node("n1");
        for (const id of waiting) assert.equal((await cluster.master.commands.job(id, 20_000)).status, "succeeded");

        await change("leader");
        startMaster(cluster, "m1", LED);
        const second = await leaderBeside(cluster);
        assert.ok(second.epoch > first.epoch, `${second.epoch} is above ${first.epoch}`);
      });
    });
  });
