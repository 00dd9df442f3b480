// Provokes the errors of the HTTP API (http.md, Errors) on each platform; those of jobs: http-job-errors.test.ts.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { emitEvents } from "../../src/redis/events.ts";
import { MAX_ENTRIES } from "../../src/redis/inbox/inbox.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import {
  type ContractApi,
  create,
  ping,
  problemOf,
  type Requests,
  requestsTo,
  SPEC,
  startContractApi,
} from "../support/http-requests.ts";
import { PLATFORMS } from "../support/platforms.ts";

/** The forms in which a client can ask for a log. */
const FORMS = ["application/json", "text/plain", "text/event-stream"].map((accept) => ({ headers: { accept } }));

for (const platform of PLATFORMS) {
  describe(`the errors of the HTTP API on ${platform.name}`, () => {
    let api: ContractApi;
    let open: OpenMaster;
    before(async () => {
      api = await startContractApi(platform);
      open = api.open;
    });
    after(() => api.close());
    const forms = platform.streams ? FORMS : FORMS.slice(0, 2);
    const send: Requests["send"] = (...request) => api.send(...request);
    const fails: Requests["fails"] = (...request) => api.fails(...request);

    it("invalid_request names each wrong field", async () => {
      const { errors } = await fails("invalid_request", "/v1/commands", { body: ping({ deadlineMs: 0, nope: 1 }) });
      assert.deepEqual(errors?.map(({ path }) => path).sort(), ["deadlineMs", "nope"]);
      const nested = await fails("invalid_request", "/v1/commands", {
        body: create({ spec: { ...SPEC, cwd: "rel" } }),
      });
      assert.deepEqual(
        nested.errors?.map(({ path }) => path),
        ["spec.cwd"],
      );
      for (const body of [[], "text", 5, null, { target: "n1" }])
        await fails("invalid_request", "/v1/commands", { body });
      for (const path of [
        "/v1/nodes?nope=1",
        "/v1/nodes?limit=0",
        "/v1/nodes?limit=1001",
        "/v1/nodes?limit=1&limit=2",
        "/v1/nodes?liveness=happy",
        "/v1/nodes?cursor=x",
        "/v1/nodes/Not-An-Id",
        "/v1/nodes/%ff",
        "/v1/cluster?x=1",
        "/v1/cluster?__proto__=1",
        "/v1/cluster?constructor=1",
        "/v1/stitches/a:b:c",
        "/v1/groups/a.b.c.d",
        "/v1/jobs/nope",
        "/v1/events?type=node.nope",
        "/v1/events?since=yesterday",
        "/v1/events?since=2026-11-23T09:00:00",
        "/v1/events?cursor=1-0",
        "/v1/stitches/a/logs?tail=-1",
        "/v1/stitches/a/logs?tail=10001",
        "/v1/stitches/a/logs?tail=many",
        "/v1/stitches/a/logs?limit=1",
        "/v1/stitches/A/logs",
      ])
        await fails("invalid_request", path);
      await fails("invalid_request", "/v1/commands?waitMs=60001", { body: ping() });
      const stream = { accept: "text/event-stream", "last-event-id": "yesterday" };
      const { errors: wrong } = await fails("invalid_request", "/v1/stitches/a/logs", { headers: stream });
      assert.equal(wrong?.[0]?.path, "Last-Event-ID");
      const key = await fails("invalid_request", "/v1/commands", {
        body: ping(),
        headers: { "idempotency-key": "k".repeat(129) },
      });
      assert.equal(key.errors?.[0]?.path, "Idempotency-Key");
    });

    it("invalid_json says what is wrong with the text", async () => {
      const detailOf = async (text: string | Uint8Array<ArrayBuffer>) =>
        (await fails("invalid_json", "/v1/commands", { text, method: "POST" })).detail;
      // The parser repeats the text: it must not pass for an error of a connection.
      for (const text of ["ENOENT", '{"a": ECONNRESET}', "LOADING"]) await detailOf(text);
      for (const text of ["{", "", '{"a":}']) assert.doesNotMatch(await detailOf(text), /UTF-8|nested/);
      for (const text of ["[".repeat(101), "[".repeat(100_000) + "]".repeat(100_000)])
        assert.match(await detailOf(text), /it is nested too deeply/);
      assert.match(await detailOf(Uint8Array.of(0x22, 0xff, 0x22)), /it is not UTF-8/);
    });

    it("unknown_command lists the known commands", async () => {
      const { detail } = await fails("unknown_command", "/v1/commands", {
        body: { command: "node.dance", target: "n1" },
      });
      assert.match(detail, /node\.ping.*stitch\.create/);
      await fails("unknown_command", "/v1/commands", { body: { command: "__proto__", target: "n1" } });
    });

    it("unsupported_media_type for text/plain; too_large for large bodies", async () => {
      await fails("unsupported_media_type", "/v1/commands", { text: "{}", headers: { "content-type": "text/plain" } });
      const reason = "x".repeat(256 * 1024);
      await fails("too_large", "/v1/commands", { body: ping({ reason }) });
      await fails("too_large", "/v1/commands", {
        body: create({ spec: { ...SPEC, command: Array(100_000).fill(1) } }),
      });
      await fails("too_large", "/v1/messages", { body: { to: { stitch: "a" }, data: "x".repeat(4 * 1024 * 1024) } });
    });

    it("not_found for routes and targets; method_not_allowed with the Allow header", async () => {
      for (const path of [
        "/",
        "/v1",
        "/v2/nodes",
        "/v1/nodes/",
        "/v1/nodes/none",
        "/v1/stitches/none",
        "/v1/stitches/n1:x",
        "/v1/stitches/none/logs",
        "/v1/stitches/n1:x/logs",
        "/v1/stitches/nowhere:x/logs",
      ])
        await fails("not_found", path);
      await fails("not_found", "/v1/groups/none");
      await fails("not_found", `/v1/jobs/j${"a".repeat(26)}`);
      await fails("not_found", `/v1/jobs/j${"a".repeat(26)}/steps`);
      await fails("not_found", `/v1/jobs/j${"a".repeat(26)}/cancel`, { method: "POST" });
      for (const act of ["retry", "rollback"])
        await fails("not_found", `/v1/jobs/j${"a".repeat(26)}/${act}`, { method: "POST" });
      await fails("not_found", "/v1/commands", { body: ping({ target: "none" }) });
      const response = await send("/v1/nodes/n1", { method: "PATCH" });
      assert.deepEqual(response.headers.get("allow")?.split(", ").sort(), ["DELETE", "GET", "HEAD"]);
      await problemOf(response, "method_not_allowed");
    });

    it("idempotency_conflict for another body under the same key; a header marks a replay", async () => {
      const headers = { "idempotency-key": "one" };
      const first = await send("/v1/commands", { body: ping(), headers });
      const again = await send("/v1/commands", { body: ping(), headers });
      assert.deepEqual([first.status, again.status], [202, 202]);
      assert.deepEqual(
        [first.headers.get("idempotent-replayed"), again.headers.get("idempotent-replayed")],
        [null, "true"],
      );
      assert.equal(((await first.json()) as { id: string }).id, ((await again.json()) as { id: string }).id);
      await fails("idempotency_conflict", "/v1/commands", { body: ping({ reason: "other" }), headers });
    });

    it("placement_failed with the refusals; plan_stale with the new plan", async () => {
      const resources = { cpu: 4000, memoryBytes: 0 };
      const failed = await fails("placement_failed", "/v1/commands", {
        body: create({ spec: { ...SPEC, resources } }),
      });
      assert.equal(failed.refusals?.[0]?.code, "cpu");
      const dry = await send("/v1/commands", { body: create({ dryRun: true }) });
      assert.equal(dry.status, 200);
      const { plan } = await fails("plan_stale", "/v1/commands", { body: create({ planToken: "of-another-plan" }) });
      assert.equal(plan?.feasible, true);
    });

    it("node_alive for a live node; 204 when a node that left is forgotten", async () => {
      await fails("node_alive", "/v1/nodes/n1", { method: "DELETE" });
      const session = await registerTestNode(open.redis, open.keys, "n2");
      await leaveNode(open.redis, open.keys, "n2", session);
      assert.equal((await send("/v1/nodes/n2", { method: "DELETE" })).status, 204);
      await fails("not_found", "/v1/nodes/n2", { method: "DELETE" });
    });

    it("ambiguous_stitch names the candidates; stitch_exists for a taken id", async () => {
      for (const node of ["a1", "a2"]) {
        await registerTestNode(open.redis, open.keys, node);
        await publishTestStitch(open, node, "twin");
      }
      const { candidates } = await fails("ambiguous_stitch", "/v1/stitches/twin");
      assert.deepEqual(candidates, ["a1:twin", "a2:twin"]);
      assert.equal((await send("/v1/stitches/a1:twin")).status, 200);
      await fails("ambiguous_stitch", "/v1/stitches/twin/logs");
      await fails("stitch_exists", "/v1/commands", { body: create({ id: "twin", node: "a1" }) });
    });

    it("logs: node_unreachable if the node does not answer or has left; inbox_full if it has too much to do", async () => {
      const session = await registerTestNode(open.redis, open.keys, "mute");
      await publishTestStitch(open, "mute", "silent");
      const problems = await Promise.all(
        forms.map((form) => api.failsOnceRedisAnswers("node_unreachable", "/v1/stitches/silent/logs", form)),
      );
      for (const { detail } of problems) assert.match(detail, /mute did not answer/);

      const inbox = open.keys.nodeInbox("mute");
      const fill = Array.from({ length: MAX_ENTRIES }, () => open.redis.xadd(inbox, "*", "", ""));
      await Promise.all(fill);
      for (const form of forms) await fails("inbox_full", "/v1/stitches/mute:silent/logs", form);
      await leaveNode(open.redis, open.keys, "mute", session);
      for (const form of forms) {
        const { detail } = await fails("node_unreachable", "/v1/stitches/silent/logs", form);
        assert.match(detail, /mute has left/);
      }
      assert.deepEqual(await open.redis.keys(`cs:${open.keys.cluster}:{reply:*`), []);
    });

    describe("events that are no longer kept", () => {
      let gone = "";
      before(async () => {
        for (let count = 0; count < 3; count++) await emitEvents(open.redis, open.keys, [{ type: "cluster.frozen" }]);
        const [first] = (await open.master.state.events("0-0", 1)).items;
        gone = first?.id ?? "";
        await open.redis.xtrim(open.keys.events, "MAXLEN", 1);
      });

      it("events_gone for the list", async () => {
        await fails("events_gone", `/v1/events?since=${gone}`, { headers: { accept: "application/json" } });
      });

      if (platform.streams)
        it("events_gone for the stream", async () => {
          await fails("events_gone", `/v1/events?since=${gone}`);
          await fails("events_gone", "/v1/events", { headers: { "last-event-id": gone } });
        });
    });

    it("internal does not reveal the reason", async () => {
      const canary = "a-broken-record-canary";
      await registerTestNode(open.redis, open.keys, "n3");
      await open.redis.hset(open.keys.nodeMeta("n3"), "facts", canary);
      const problem = await fails("internal", "/v1/nodes/n3");
      assert.ok(!JSON.stringify(problem).includes(canary));
      await open.redis.del(open.keys.nodeMeta("n3"));
    });

    it("unauthenticated, with a challenge, on every route except the probes", async () => {
      const anyone = requestsTo(api.url);
      for (const authorization of [undefined, "Bearer wrong", "Basic abc", "Bearer", "Bearer a b"]) {
        const headers = authorization === undefined ? {} : { authorization };
        const response = await anyone.send("/v1/cluster", { headers });
        assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer/);
        await problemOf(response, "unauthenticated");
      }
      for (const path of ["/metrics", "/openapi.json", "/nope"]) await anyone.fails("unauthenticated", path);
      for (const path of ["/livez", "/readyz"]) assert.equal((await anyone.send(path)).status, 200);
      assert.equal((await send("/v1/cluster")).status, 200);
    });

    it("a request id of the client is kept if it is valid", async () => {
      const of = async (id: string) =>
        (await send("/livez", { headers: { "x-request-id": id } })).headers.get("x-request-id");
      assert.equal(await of("mine-1"), "mine-1");
      assert.notEqual(await of("not sane!"), "not sane!");
      assert.notEqual(await of("x".repeat(200)), "x".repeat(200));
    });
  });
}
