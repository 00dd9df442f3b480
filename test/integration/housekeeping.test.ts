// Housekeeping deletes what does not expire by itself, and restores index entries that Redis has lost.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Housekeeping } from "../../src/master/jobs/housekeeping.ts";
import { rememberTemplate } from "../../src/redis/stitch/group-template.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { claim, recordOutcomes } from "../../src/redis/job/outcomes.ts";
import { placementOptions } from "../../src/domain/stitch/placement-options.ts";
import { stitchSpec } from "../../src/domain/stitch/spec.ts";
import { assignStitches, endAssignments } from "../../src/redis/stitch/assignments.ts";
import { storeSpec } from "../../src/redis/stitch/specs.ts";
import { ENDS, stored } from "../support/test-spec.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { Keys } from "../../src/redis/keys.ts";
import { drawRevision } from "../../src/redis/revision.ts";
import { drawFreeNumbers, nextNumber } from "../../src/redis/stitch/sequences.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { leaveTombstone } from "../../src/redis/stitch/tombstones.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { pingJob, SUCCEEDED } from "../support/ping-job.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const LEADERLESS = { mode: "leaderless", preferred: null, lease: null, election: null } as const;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Runs all chores of a Master, as if each were due. */
async function doChores({ open: { redis, keys }, errors }: TestCluster): Promise<void> {
  await Promise.all(
    ["jobs", "groups", "dead-letters", "tombstones", "specs"].map((chore) => redis.del(keys.housekeeping(chore))),
  );
  const late: unknown[] = [];
  const chores = new Housekeeping({
    id: "test",
    redis,
    keys,
    deadAfterMs: 2000,
    jobRetentionMs: HOUR_MS,
    onLate: (error) => late.push(error),
    onUnreadable: (error) => errors.push(error),
  });
  await chores.work();
  assert.deepEqual(late, []);
}

for (const { name, url } of REDISES) {
  describe(`housekeeping on a ${name}`, { concurrency: 3 }, () => {
    it("removes jobs without a record from the list, however many; restores open jobs that the index has lost", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        const rows = Array.from({ length: 2500 }, (_, n) => [Date.now() - 2 * HOUR_MS + n, `gone${n}`]);
        await redis.zadd(keys.recentJobs, ...rows.flat());
        await redis.zadd(keys.recentJobs, Date.now(), "new");
        // An open job that is as old as those. It stays at the front of the list, and must not keep the others in it.
        await registerTestNode(redis, keys, "n1");
        const open = await pingJob(cluster.open, "open");
        await createJob(redis, keys, { ...open, createdAtMs: Date.now() - 3 * HOUR_MS }, "");
        assert.equal(await redis.zscore(keys.openJobs, "open"), null);
        await doChores(cluster);
        assert.deepEqual(await redis.zrange(keys.recentJobs, 0, "-1"), ["open", "new"]);
        assert.notEqual(await redis.zscore(keys.openJobs, "open"), null);
      });
    });

    it("only one Master does a chore, and only once per interval", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await doChores(cluster);
        await redis.zadd(keys.recentJobs, 1, "gone");
        const options = { redis, keys, deadAfterMs: 2000, jobRetentionMs: HOUR_MS };
        const others = [1, 2, 3].map(
          (n) => new Housekeeping({ ...options, id: `m${n}`, onLate: assert.ifError, onUnreadable: assert.ifError }),
        );
        await Promise.all(others.map((each) => each.work()));
        assert.equal(await redis.zcard(keys.recentJobs), 1, "its time has not come");
        const ttlMs = await redis.pttl(keys.housekeeping("jobs"));
        assert.ok(ttlMs > 0 && ttlMs <= 30_000, String(ttlMs));
        // A claim that never expires belongs to no Master.
        await redis.set(keys.housekeeping("jobs"), "garbage");
        await others[0]?.work();
        await others[0]?.work();
        assert.equal(await redis.zcard(keys.recentJobs), 0);
      });
    });

    it("keeps specs that a stitch or a group has; deletes assignments that ended long ago", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        const names = ["ofStitch", "before", "ofTemplate", "ofGone", "ofNobody"] as const;
        const specs = Object.fromEntries(
          names.map((word) => [word, stored(stitchSpec.parse({ adaptor: "process", command: [word] }))]),
        );
        const hashOf = (word: (typeof names)[number]) => specs[word]?.specHash ?? assert.fail();
        for (const spec of Object.values(specs)) {
          await storeSpec(redis, keys, spec);
          await redis.pexpire(keys.spec(spec.specHash), HOUR_MS);
        }
        const assigned = (word: (typeof names)[number], placed: string, born = placed) => ({
          specHash: hashOf(word),
          group: "shop.orders.1",
          placement: placementOptions.parse({ strategy: "spread" }),
          born,
          placed,
        });
        for (const node of ["n0", "n1", "n2"]) await registerTestNode(redis, keys, node);
        const assign = (id: string, ...as: Parameters<typeof assigned>) =>
          assignStitches(redis, keys, "n1", new Map([[id, assigned(...as)]]));
        const linesOf = async (id: string) => ((await redis.hget(keys.nodeAssigned("n1"), id)) ?? "").split("\n");
        const overOf = async (id: string) => (await linesOf(id)).map((line) => /^\d+(x?) /.exec(line)?.[1]);
        await assign("lives", "before", "1.0");
        await assign("lives", "ofStitch", "2.0");
        await assign("lives", "ofStitch", "2.0");
        assert.equal((await linesOf("lives")).length, 2, "what is repeated has one line");
        // A removal ends the earlier assignments of the stitch with that `born`; a failed create ends only its own.
        await endAssignments(redis, keys, "n1", [{ stitch: "lives", removed: "2.0", born: null }]);
        assert.deepEqual(await overOf("lives"), ["", "x"]);
        await assign("lives", "before", "1.0");
        assert.deepEqual(await overOf("lives"), ["x", ""], "what is over stays so");
        await endAssignments(redis, keys, "n1", [{ stitch: "lives", removed: "9.0", born: "1.0" }]);
        await endAssignments(redis, keys, "n1", [{ stitch: "lives", created: "1.5" }]);
        assert.deepEqual(await overOf("lives"), ["x", ""]);
        await assign("gone", "ofGone", "4.0");
        await endAssignments(redis, keys, "n1", [
          { stitch: "gone", created: "4.0" },
          { stitch: "nobody", removed: "4.0", born: null },
        ]);
        for (let n = 5; n < 50; n++) await assign("busy", "ofStitch", `${n}.0`);
        assert.equal((await linesOf("busy")).length, 32);
        for (const id of ["lives", "gone", "busy"]) {
          const old = (await linesOf(id)).map((line) =>
            line.replace(/^\d+/, String(Date.now() - 2 * DAY_MS - HOUR_MS)),
          );
          await redis.hset(keys.nodeAssigned("n1"), id, old.join("\n"));
        }
        await assign("fresh", "ofGone", "4.0");
        await endAssignments(redis, keys, "n1", [{ stitch: "fresh", created: "4.0" }]);
        await redis.hset(keys.nodeAssigned("n1"), "garbage", "none");
        await redis.pexpire(keys.nodeAssigned("n1"), HOUR_MS);
        // A broken key of another node does not stop the chore for this node.
        await redis.set(keys.nodeAssigned("n0"), "x");
        const template = {
          specHash: hashOf("ofTemplate"),
          reschedule: true,
          placement: { strategy: "spread" },
        } as const;
        await rememberTemplate(redis, keys, "shop.orders.1", 1, template);
        await redis.sadd(keys.applications, "shop");
        await redis.sadd(keys.application("shop"), "orders.1");
        await doChores(cluster);
        const shown = async () => (await redis.hkeys(keys.nodeAssigned("n1"))).sort();
        assert.deepEqual(await shown(), ["busy", "fresh", "lives"]);
        assert.ok((await redis.pttl(keys.nodeAssigned("n1"))) > 9 * DAY_MS);
        const isKept = async (word: (typeof names)[number]) => (await redis.pttl(keys.spec(hashOf(word)))) > 7 * DAY_MS;
        assert.deepEqual(await Promise.all(names.map(isKept)), [true, true, true, true, false]);
        assert.equal(await redis.exists(keys.nodeAssigned("n2")), 0);
      });
    });

    it("keeps the newest ten versions without a stitch; deletes an application without any version", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        const template = {
          specHash: stored(ENDS).specHash,
          reschedule: true,
          placement: placementOptions.parse({ strategy: "spread" }),
        };
        const remember = (version: string, revision: number) =>
          rememberTemplate(redis, keys, `shop.web.${version}`, revision, template);
        await publishTestStitch(cluster.open, "n1", "lives", "shop.web.v0");
        await remember("v0", 1);
        await redis.pexpire(keys.groupTemplate("shop.web.v0"), 60_000);
        for (let version = 1; version <= 15; version++) {
          await remember(`v${version}`, version + 1);
          await redis.sadd(keys.application("shop"), `web.v${version}`);
        }
        await redis.sadd(keys.applications, "old");
        await redis.sadd(keys.application("old"), "web.v1");
        await redis.set(keys.sequence("web"), "5", "PX", 60_000);
        await doChores(cluster);
        const kept = ["v0", "v10", "v11", "v12", "v13", "v14", "v15", "v6", "v7", "v8", "v9"];
        assert.deepEqual(
          (await redis.smembers(keys.application("shop"))).sort(),
          kept.map((version) => `web.${version}`),
        );
        for (let version = 0; version <= 15; version++) {
          const key = keys.groupTemplate(`shop.web.v${version}`);
          assert.equal(await redis.exists(key), kept.includes(`v${version}`) ? 1 : 0, key);
        }
        assert.deepEqual(await redis.smembers(keys.applications), ["shop"]);
        for (const key of [
          keys.groupTemplate("shop.web.v0"),
          keys.groupTemplate("shop.web.v15"),
          keys.sequence("web"),
        ]) {
          const ttlMs = await redis.pttl(key);
          assert.ok(ttlMs > 29 * DAY_MS && ttlMs <= 30 * DAY_MS, `${key} ${ttlMs}`);
        }
      });
    });

    it("deletes a node's tombstones a week after the node has obeyed them", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        const word = { revision: "1.0", movedTo: null, arrivingFrom: null, born: null };
        for (const node of ["back", "away", "new"]) {
          const as = await registerTestNode(redis, keys, node);
          for (const stitch of ["old", "young"]) await leaveTombstone(redis, keys, node, stitch, word);
          await redis.hset(keys.nodeGone(node), "old", JSON.stringify({ ...word, atMs: Date.now() - 8 * DAY_MS }));
          if (node !== "new") await redis.hset(keys.nodeMeta(node), "startedAt", Date.now() - 2 * HOUR_MS);
          if (node === "away") await leaveNode(redis, keys, node, as);
        }
        await doChores(cluster);
        const left = async (node: string) => (await redis.hkeys(keys.nodeGone(node))).sort();
        assert.deepEqual(await left("back"), ["young"]);
        assert.deepEqual(await left("away"), ["old", "young"], "it has not heard of it");
        assert.deepEqual(await left("new"), ["old", "young"], "it may not have heard of it yet");
      });
    });

    it("outcomes expire with their job, whenever they are written", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        const record = await pingJob(cluster.open, "late");
        const [task = assert.fail()] = record.tasks;
        const key = keys.jobOutcomes("late", "n1");
        const write = (index: number) =>
          recordOutcomes(redis, keys, "late", "n1", task, 1, new Map([[index, SUCCEEDED]]), true);
        await createJob(redis, keys, record, "");
        assert.equal(await claim(redis, keys, "late", "n1", task, 1), "ok");
        await write(0);
        assert.equal(await redis.pttl(key), -1, "as long as the job is open");
        await redis.pexpire(keys.job("late"), 60_000);
        await write(1);
        const ttlMs = await redis.pttl(key);
        assert.ok(ttlMs > 0 && ttlMs <= 60_000, String(ttlMs));
        await redis.del(keys.job("late"));
        await redis.del(key);
        await write(2);
        const aloneMs = await redis.pttl(key);
        assert.ok(aloneMs > 0 && aloneMs <= DAY_MS, String(aloneMs));
        // The record was missing because it was on its way to another Redis.
        await createJob(redis, keys, record, "");
        await write(3);
        assert.equal(await redis.pttl(key), -1);
      });
    });

    it("a task that can no longer be claimed leaves the queue of a node that is away", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await leaveNode(redis, keys, "n1", await registerTestNode(redis, keys, "n1"));
        const job = await cluster.run({ command: "node.ping", target: "n1", waitForNode: true }, null, 0);
        const entry = keys.nodeQueue("n1", `${job.id}.t0.1`);
        await until("it is in the queue", async () => (await redis.exists(entry)) === 1);
        assert.equal((await cluster.master.commands.cancel(job.id)).status, "cancelled");
        await until("it is out of the queue", async () => (await redis.exists(entry)) === 0);
        assert.equal(await redis.llen(keys.nodeQueue("n1", "wait")), 0);
      });
    });
  });
}

describe("counters", () => {
  it("still count after another value was in their place, and do not advance while Redis is full", async () => {
    await withOwnRedis(async ({ url }) => {
      const redis = openRedis(url, "shared", () => undefined);
      const keys = new Keys("c");
      try {
        await connectRedis(redis, 10_000);
        await redis.set(keys.sequence("web"), 41);
        await redis.set(keys.revision, 41);
        await redis.config("SET", "maxmemory", "1");
        await assert.rejects(drawFreeNumbers(redis, keys, "web", 1), /OOM/);
        await assert.rejects(drawRevision(redis, keys, LEADERLESS), /OOM/);
        await redis.config("SET", "maxmemory", "0");
        assert.deepEqual(
          [await drawFreeNumbers(redis, keys, "web", 2), await drawRevision(redis, keys, LEADERLESS)],
          [42, 42],
        );
        for (const spoil of [(key: string) => redis.set(key, "garbage"), (key: string) => redis.lpush(key, "x")]) {
          const before = await drawRevision(redis, keys, LEADERLESS);
          for (const key of [keys.sequence("web"), keys.revision]) {
            await redis.del(key);
            await spoil(key);
          }
          assert.equal(await nextNumber(redis, keys, "web"), 1);
          assert.equal(await drawFreeNumbers(redis, keys, "web", 1), 1);
          const [next, last] = [
            await drawRevision(redis, keys, LEADERLESS),
            await drawRevision(redis, keys, LEADERLESS),
          ];
          assert.ok(next > before && last === next + 1, `${before} ${next} ${last}`);
        }
      } finally {
        redis.disconnect();
      }
    });
  });
});

describe("a Redis that comes back empty", () => {
  it("limits BullMQ's events again", async () => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        const { redis: client, keys } = cluster.open;
        await cluster.node("n1", { STITCH_HEARTBEAT_MS: "200" });
        const cap = () => client.hget(keys.nodeQueue("n1", "meta"), "opts.maxLenEvents");
        assert.equal(await cap(), "100");
        await client.flushall();
        await until("the node is back", async () => (await cap()) === "100");
      });
    });
  });
});
