// Drafts: jobs that are about to be accepted, what they hold meanwhile, and how they are given up.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { giveUpDrafts, releaseDrafts, takeScopes } from "../../src/redis/job/busy.ts";
import {
  indexOpenJob,
  lookAgainIn,
  pruneRecentJobs,
  takeBackOpenJob,
  takeOpenJobs,
} from "../../src/redis/job/job-index.ts";
import { followUp } from "../../src/redis/job/job-record.ts";
import { askForJob, createJob } from "../../src/redis/job/drafts.ts";
import { redisTimeMs } from "../../src/redis/node/node-record.ts";
import { REDISES, withCluster } from "../support/cluster.ts";
import { pingJob } from "../support/ping-job.ts";

const LEADERLESS = { mode: "leaderless", preferred: null, lease: null, election: null } as const;

const [SLOW, OTHER] = [`j${"a".repeat(26)}`, `j${"b".repeat(26)}`];

for (const { name, url } of REDISES) {
  describe(`drafts on a ${name}`, { concurrency: 4 }, () => {
    it("a draft that was given up is not accepted; a draft begun after that is", async () => {
      await withCluster(url, {}, async ({ open }) => {
        const { redis, keys } = open;
        const record = await pingJob(open, SLOW);
        assert.equal((await takeScopes(redis, keys, LEADERLESS, SLOW, "first", ["shop.orders"])).holder, null);
        const { holder } = await takeScopes(redis, keys, LEADERLESS, OTHER, "other", ["shop.orders.1"]);
        assert.ok(holder !== null && holder.job === SLOW && holder.heldMs >= 0 && holder.heldMs < 10_000);

        assert.equal(await giveUpDrafts(redis, keys, SLOW), true);
        assert.equal((await takeScopes(redis, keys, LEADERLESS, OTHER, "other", ["shop.orders.1"])).holder, null);
        assert.equal(await createJob(redis, keys, record, "", 0), "void");
        assert.equal(await followUp(redis, keys, SLOW, "retriedBy", OTHER), null, "there is no such job");
        await pruneRecentJobs(redis, keys, 0);
        assert.equal(await redis.zcard(keys.recentJobs), 0, "nor is it listed");
        const keptMs = await redis.pttl(keys.job(SLOW));
        assert.ok(keptMs > 0, "that it is void is forgotten one day");

        assert.equal(await createJob(redis, keys, record, "", (await askForJob(redis, keys, SLOW)).voids), "created");
        assert.equal(await redis.pttl(keys.job(SLOW)), -1, "a record is not");
        assert.equal(await giveUpDrafts(redis, keys, SLOW), false);
        assert.equal(await createJob(redis, keys, record, "", 1), "known");
      });
    });

    it("a scope that two drafts of one job hold is free only when both have released it", async () => {
      await withCluster(url, {}, async ({ open: { redis, keys } }) => {
        for (const draft of ["first", "second", "second"])
          assert.equal((await takeScopes(redis, keys, LEADERLESS, SLOW, draft, ["shop.orders"])).holder, null);
        await releaseDrafts(redis, keys, SLOW, ["first"]);
        assert.equal((await takeScopes(redis, keys, LEADERLESS, OTHER, "other", ["shop.orders.1"])).holder?.job, SLOW);
        await releaseDrafts(redis, keys, SLOW, ["second"]);
        assert.equal((await takeScopes(redis, keys, LEADERLESS, OTHER, "other", ["shop.orders.1"])).holder, null);
      });
    });

    it("a pointer that another request has renewed is not removed by the request that created it", async () => {
      await withCluster(url, {}, async ({ open: { redis, keys } }) => {
        const first = await indexOpenJob(redis, keys, SLOW, 0);
        assert.equal(await indexOpenJob(redis, keys, SLOW, 0), null);
        assert.equal(await takeBackOpenJob(redis, keys, SLOW, first), false);
      });
    });

    it("the time to look at an open job is on the clock of the Redis that has the index", async () => {
      await withCluster(url, {}, async ({ open: { redis, keys } }) => {
        const due = async () => Number(await redis.zscore(keys.openJobs, SLOW));
        const fromMs = await redisTimeMs(redis, keys.openJobs);
        await indexOpenJob(redis, keys, SLOW, 60_000);
        const untilMs = await redisTimeMs(redis, keys.openJobs);
        assert.ok((await due()) >= fromMs + 60_000 && (await due()) <= untilMs + 60_001);
        assert.deepEqual(await takeOpenJobs(redis, keys, 10, 1000), []);
        await lookAgainIn(redis, keys, SLOW, 120_000);
        assert.ok((await due()) <= untilMs + 60_001, "never later than was said before");
        await lookAgainIn(redis, keys, SLOW, 0);
        assert.deepEqual(await takeOpenJobs(redis, keys, 10, 1000), [SLOW]);
      });
    });
  });
}
