// Provokes the errors of jobs and of what commands need (http.md, Errors) on each platform.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { JobResource } from "../../src/contract/job.ts";
import type { StitchResource } from "../../src/contract/stitch.ts";
import { stitchSpec } from "../../src/domain/stitch/spec.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { until } from "../support/cluster.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { hashOf, stored } from "../support/test-spec.ts";
import { type ContractApi, create, ping, type Requests, startContractApi } from "../support/http-requests.ts";
import { PLATFORMS } from "../support/platforms.ts";

for (const platform of PLATFORMS) {
  describe(`the errors of jobs over HTTP on ${platform.name}`, () => {
    let api: ContractApi;
    let open: OpenMaster;
    before(async () => {
      api = await startContractApi(platform);
      open = api.open;
    });
    after(() => api.close());
    const send: Requests["send"] = (...request) => api.send(...request);
    const fails: Requests["fails"] = (...request) => api.fails(...request);
    const post: Requests["post"] = (...request) => api.post(...request);

    it("job_finished for the cancel of a job that has ended", async () => {
      const { id } = (await (await send("/v1/commands", { body: ping() })).json()) as { id: string };
      const cancelled = await send(`/v1/jobs/${id}/cancel`, { method: "POST" });
      assert.equal(cancelled.status, 200);
      assert.equal(((await cancelled.json()) as { status: string }).status, "cancelled");
      await fails("job_finished", `/v1/jobs/${id}/cancel`, { method: "POST" });
    });

    it("retry: a job that did not succeed becomes one new job; job_finished for one that did", async () => {
      const { id } = await post("/v1/commands", ping());
      await post(`/v1/jobs/${id}/cancel`);
      const { retryOf, id: again } = await post(`/v1/jobs/${id}/retry`);
      assert.equal(retryOf, id);
      assert.equal((await post(`/v1/jobs/${id}/retry`)).id, again);
      assert.equal(((await (await send(`/v1/jobs/${id}`)).json()) as JobResource).retriedBy, again);
      await fails("invalid_request", `/v1/jobs/${id}/retry`, { body: {} });
      await fails("invalid_request", "/v1/jobs/nope/retry", { method: "POST" });

      await registerTestNode(open.redis, open.keys, "c1");
      const cordon = await post("/v1/commands?waitMs=10000", { command: "node.cordon", target: "c1" });
      assert.equal(cordon.status, "succeeded");
      await fails("job_finished", `/v1/jobs/${cordon.id}/retry`, { method: "POST" });
      const back = await post(`/v1/jobs/${cordon.id}/rollback`);
      assert.deepEqual([back.command, back.rollbackOf], ["node.uncordon", cordon.id]);
    });

    it("a rollback has its own reason or none, never the reason of the job that it rolls back", async () => {
      await registerTestNode(open.redis, open.keys, "c2");
      const cordon = async () => {
        const body = { command: "node.cordon", target: "c2", reason: "its disk is full" };
        return (await post("/v1/commands?waitMs=10000", body)).id;
      };
      const first = await cordon();
      for (const body of [{ reason: 5 }, { reason: "x".repeat(1001) }, { other: 1 }, null])
        await fails("invalid_request", `/v1/jobs/${first}/rollback`, { body });
      const back = await post(`/v1/jobs/${first}/rollback`, { reason: "the disk was changed" });
      assert.deepEqual([back.rollbackOf, back.reason], [first, "the disk was changed"]);
      const again = await post(`/v1/jobs/${first}/rollback`, { reason: "another" });
      assert.deepEqual([again.id, again.reason], [back.id, "the disk was changed"]);
      assert.equal((await post(`/v1/jobs/${await cordon()}/rollback`)).reason, null);
    });

    it("retry: not_found if the stitch that the job did not reach is gone", async () => {
      await publishTestStitch(open, "n1", "passing");
      const { id } = await post("/v1/commands", { command: "stitch.stop", target: "passing" });
      await post(`/v1/jobs/${id}/cancel`);
      await open.redis.hdel(open.keys.nodeStitches("n1"), "passing");
      await fails("not_found", `/v1/jobs/${id}/retry`, { method: "POST" });
    });

    it("retry: placement_failed if every node already has its share of the group", async () => {
      const target = "full.one.1";
      const { id } = await post("/v1/commands", { ...create(), target, placement: { maxPerNode: 1 } });
      await post(`/v1/jobs/${id}/cancel`);
      const { items } = await open.master.state.nodes({ limit: 100, cursor: null }, {});
      for (const node of items) await publishTestStitch(open, node.id, "full", target);
      const { refusals } = await fails("placement_failed", `/v1/jobs/${id}/retry`, { method: "POST" });
      assert.ok(refusals?.some(({ code }) => code === "max_per_node"));
    });

    it("a job and its retry name each other, even if the Master died before it wrote the link", async () => {
      const { id } = await post("/v1/commands", ping());
      await post(`/v1/jobs/${id}/cancel`);
      const { id: again } = await post(`/v1/jobs/${id}/retry`);
      await open.redis.hdel(open.keys.job(id), "retriedBy");
      await post(`/v1/jobs/${again}/cancel`);
      await until("the first tells of it", async () => (await open.master.commands.job(id, 0)).retriedBy === again);
    });

    it("not_reversible for a job that changed nothing, and for one that has no inverse", async () => {
      const { id } = await post("/v1/commands", ping());
      await post(`/v1/jobs/${id}/cancel`);
      const { detail } = await fails("not_reversible", `/v1/jobs/${id}/rollback`, { method: "POST" });
      assert.match(detail, /a ping changes nothing/);
      const stop = await post("/v1/commands", create({ id: "never", node: "n1" }));
      await post(`/v1/jobs/${stop.id}/cancel`);
      await fails("not_reversible", `/v1/jobs/${stop.id}/rollback`, { method: "POST" });
    });

    it("no_template for a group without a template; group_busy names the job that holds the group", async () => {
      const scale = (count: number, target = "busy.one.1") => ({ command: "group.scale", target, count });
      await fails("no_template", "/v1/commands", { body: scale(1) });
      await registerTestNode(open.redis, open.keys, "b1");
      await publishTestStitch(open, "b1", "first", "busy.one.1");
      // The job stays open, because the node has no worker.
      const { id } = await post("/v1/commands", scale(2));
      const inTheWay = [
        await fails("group_busy", "/v1/commands", { body: scale(3) }),
        await fails("group_busy", "/v1/commands", { body: { command: "group.restart", target: "busy" } }),
        await fails("group_busy", `/v1/jobs/${id}/retry`, { method: "POST" }),
        await fails("group_busy", `/v1/jobs/${id}/rollback`, { method: "POST" }),
      ];
      for (const { jobId } of inTheWay) assert.equal(jobId, id);
      await post(`/v1/jobs/${id}/cancel`);
      const next = await post("/v1/commands", scale(1));
      assert.equal(next.command, "group.scale");
    });

    it("spec_unknown for a stitch that a node publishes and no Master has assigned, until the node is adopted", async () => {
      const { redis, keys } = open;
      await registerTestNode(redis, keys, "shows");
      await publishTestStitch(open, "shows", "shown", "shown.one.1");
      await redis.hdel(keys.nodeAssigned("shows"), "shown");
      for (const body of [
        { command: "stitch.clone", target: "shown" },
        { command: "stitch.move", target: "shows:shown" },
        { command: "group.scale", target: "shown.one.1", count: 2 },
        { command: "stitch.clone", target: "shown", dryRun: true },
      ]) {
        const { detail } = await fails("spec_unknown", "/v1/commands", { body });
        assert.match(detail, /"shows:shown".*stitch adopt shows/);
      }
      await fails("not_found", "/v1/nodes/nobody/adopt", { method: "POST" });
      await fails("invalid_request", "/v1/nodes/shows/adopt", { body: { force: true } });
      await fails("invalid_request", "/v1/nodes/shows/adopt?force=true", { method: "POST" });
      await fails("method_not_allowed", "/v1/nodes/shows/adopt");
      const adopt = async () => (await send("/v1/nodes/shows/adopt", { method: "POST" })).json();
      assert.deepEqual(await adopt(), { node: "shows", adopted: ["shows:shown"], unknown: [] });
      assert.deepEqual(await adopt(), { node: "shows", adopted: [], unknown: [] });
      const { id } = await post("/v1/commands", { command: "stitch.clone", target: "shown" });
      await post(`/v1/jobs/${id}/cancel`);
      // A forged record over an assigned stitch, with a spec that its node offers: adopt does not change the assignment.
      const offered = stored(stitchSpec.parse({ adaptor: "process", command: ["evil"] }));
      const huge = `{}${" ".repeat(2 ** 21)}`;
      const forge = async (specHash: string) => {
        const record = JSON.parse((await redis.hget(keys.nodeStitches("shows"), "shown")) ?? "") as object;
        await redis.hset(keys.nodeStitches("shows"), "shown", JSON.stringify({ ...record, specHash }));
      };
      await redis.hset(keys.nodeSpecs("shows"), { [offered.specHash]: offered.text, [hashOf(huge)]: huge });
      for (const hash of [offered.specHash, hashOf(huge)]) {
        await forge(hash);
        assert.deepEqual(await adopt(), { node: "shows", adopted: [], unknown: [] });
        assert.equal(await redis.exists(keys.spec(hash)), 0);
      }
      const shown = (await (await send("/v1/stitches/shows:shown")).json()) as StitchResource;
      assert.deepEqual([shown.specHash, shown.spec], [hashOf(huge), null], "what is too long is no spec");
    });
  });
}
