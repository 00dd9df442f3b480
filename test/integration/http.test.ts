// The contract of the HTTP API (http.md), on each platform that serves it.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { createClient } from "../../src/client/client.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { patientCommand } from "../support/patient-command.ts";
import { authorizedFetch, PLATFORMS, TOKEN, withApi } from "../support/platforms.ts";

const sleeper = { adaptor: "process", protocol: "none", command: ["sleep", "600"] };

const cases = PLATFORMS.flatMap((platform) => platform.redises.map((redis) => ({ platform, redis })));
for (const { platform, redis } of cases) {
  describe(`the HTTP API on ${platform.name}, over a ${redis.name}`, { concurrency: 2 }, () => {
    it("answers every route of state and jobs with the shapes of the contract", async () => {
      await withApi(platform, redis.url, async (cluster, { url, client }) => {
        await cluster.masterWorker();
        await Promise.all([cluster.node("n1", { STITCH_ZONES: "a", STITCH_LABELS: "disk=ssd" }), cluster.node("n2")]);
        const get = async (path: string, headers: Record<string, string> = {}) => {
          const response = await authorizedFetch(`${url}${path}`, { headers });
          assert.equal(response.status, 200, path);
          assert.ok(response.headers.get("X-Request-Id"));
          return (await response.json()) as Record<string, unknown> & {
            items: Record<string, unknown>[];
            nextCursor: string | null;
          };
        };
        const create = { command: "stitch.create", target: "shop.orders.1", count: 3, spec: sleeper, reason: "test" };
        const { job } = await patientCommand(client, create, { waitMs: 20_000 });
        assert.deepEqual([job.status, job.reason, job.counts.succeeded], ["succeeded", "test", 3]);

        const summary = await get("/v1/cluster");
        assert.deepEqual(summary["nodes"], { alive: 2, suspect: 0, dead: 0, left: 0 });
        assert.equal((summary["stitches"] as Record<string, number>)["running"], 3);
        assert.equal((summary["masters"] as string[]).length, 1);

        assert.deepEqual(
          (await get("/v1/nodes")).items.map(({ id }) => id),
          ["n1", "n2"],
        );
        assert.deepEqual(
          (await get("/v1/nodes?zone=a&liveness=alive")).items.map(({ id }) => id),
          ["n1"],
        );
        const node = await get("/v1/nodes/n1");
        assert.deepEqual([node["labels"], node["eligibility"], node["incarnation"]], [{ disk: "ssd" }, "eligible", 1]);

        const pages: string[] = [];
        for (let cursor: string | null = ""; cursor !== null; ) {
          const page = await get(`/v1/stitches?limit=2${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
          pages.push(...page.items.map(({ fullId }) => String(fullId)));
          cursor = page.nextCursor;
        }
        assert.equal(new Set(pages).size, 3, "each listed once");
        assert.equal((await get("/v1/stitches?group=shop.orders&state=running")).items.length, 3);
        assert.equal((await get("/v1/stitches?group=shop.order")).items.length, 0, "groups are prefixes part by part");
        assert.equal((await get(`/v1/stitches/${pages[0]}`))["health"], "green");
        assert.deepEqual(
          (await get("/v1/groups")).items.map(({ group }) => group),
          ["shop.orders"],
        );
        assert.deepEqual((await get("/v1/groups/shop"))["versions"], ["1"]);

        assert.equal((await get(`/v1/jobs/${job.id}`))["status"], "succeeded");
        assert.equal((await get("/v1/jobs?status=succeeded&command=stitch.create")).items[0]?.["tasks"], undefined);
        assert.equal((await get(`/v1/jobs/${job.id}/steps?status=succeeded`)).items.length, 3);
        const events = await get("/v1/events?type=stitch.*", { Accept: "application/json" });
        assert.ok(events.items.length >= 6 && events.items.every(({ type }) => String(type).startsWith("stitch.")));

        assert.equal((await authorizedFetch(`${url}/livez`)).status, 200);
        assert.equal((await authorizedFetch(`${url}/readyz`)).status, 200);
        assert.equal((await get("/openapi.json"))["openapi"], "3.1.0");
      });
    });

    it("answers as its OpenAPI document says, also after a move and a drain", async () => {
      await withApi(platform, redis.url, async (cluster, { client }) => {
        await cluster.masterWorker();
        await Promise.all([cluster.node("n1"), cluster.node("n2"), cluster.node("n3")]);
        await cluster.create("n1", "a", ["sleep", "600"]);
        await cluster.create("n2", "b", ["sleep", "600"], { reschedule: true });
        const actions = new Set<string>();
        for (const [command, target] of [
          ["stitch.move", "n1:a"],
          ["node.drain", "n2"],
        ] as const) {
          await client.plan({ command, target, minHealthyMs: 0 });
          const { job } = await patientCommand(client, { command, target, minHealthyMs: 0 }, { waitMs: 25_000 });
          assert.equal(job.status, "succeeded", JSON.stringify(job));
          await client.job(job.id);
          const { items } = await client.steps(job.id);
          for (const { action } of items) actions.add(action);
        }
        assert.deepEqual([...actions].sort(), ["cordon", "create", "drain", "remove", "settle"]);
        await client.cluster();
        for (const { id } of (await client.nodes()).items) await client.node(id);
        for (const { fullId } of (await client.stitches()).items) await client.stitch(fullId);
        for (const { group } of (await client.groups()).items) await client.group(group);
        assert.ok((await client.jobs()).items.length >= 2);
        assert.ok((await client.events({ type: "stitch.moved,node.*", since: "0-0" })).items.length > 0);
        await assert.rejects(client.stitch("n1:a"), { code: "not_found" });
        await assert.rejects(client.command({ command: "stitch.move", target: "a", toNode: "n2" }), {
          code: "placement_failed",
        });
      });
    });

    it("forgets a node that left, and keeps a live one", async () => {
      await withApi(platform, redis.url, async (cluster, { url }) => {
        const node = await cluster.node("n1");
        await cluster.create("n1", "a", ["sleep", "600"]);
        assert.equal((await authorizedFetch(`${url}/v1/nodes/n1`, { method: "DELETE" })).status, 409);
        await node.kill("SIGTERM");
        assert.equal((await authorizedFetch(`${url}/v1/nodes/n1`, { method: "DELETE" })).status, 204);
        assert.equal((await authorizedFetch(`${url}/v1/nodes/n1`)).status, 404);
        assert.equal((await authorizedFetch(`${url}/v1/stitches/a`)).status, 404);
        const { redis: client, keys } = cluster.open;
        assert.equal(await client.exists(keys.nodeMeta("n1")), 0);
        assert.equal(await client.exists(`${keys.node("n1")}:commands:meta`), 0);
      });
    });

    it("P18: bad input of any shape gets 4xx with a code, and changes nothing", async () => {
      await withApi(platform, redis.url, async (cluster, { url }) => {
        await cluster.node("n1");
        const good = {
          command: "stitch.create",
          target: "a.b.1",
          spec: sleeper,
          count: 1,
          placement: {},
          deadlineMs: 1000,
        };
        const spoiled = fc.oneof(
          fc.jsonValue(),
          fc
            .tuple(fc.constantFrom(...Object.keys(good)), fc.jsonValue())
            .map(([field, value]) => ({ ...good, [field]: value })),
          fc.tuple(fc.string({ minLength: 1 }), fc.jsonValue()).map(([field, value]) => ({ ...good, [field]: value })),
          fc
            .tuple(fc.string({ minLength: 1 }), fc.jsonValue())
            .map(([field, value]) => ({ ...good, spec: { ...sleeper, [field]: value } })),
        );
        /** Asks once more if the API says "not now" because Redis is slow. None of these requests changes anything. */
        const ask = async (path: string, init: RequestInit = {}) => {
          const send = async () => {
            const response = await authorizedFetch(`${url}/v1/${path}`, init);
            return {
              status: response.status,
              answer: (await response.json()) as { code?: string; feasible?: boolean },
            };
          };
          const first = await send();
          return first.answer.code === "redis_unavailable" ? await send() : first;
        };
        await fc.assert(
          fc.asyncProperty(spoiled, async (body) => {
            // A body that happens to be valid must not run: a plan is as good a test.
            const dry =
              typeof body === "object" && body !== null && !Array.isArray(body) ? { ...body, dryRun: true } : body;
            const { status, answer } = await ask("commands", {
              method: "POST",
              headers: { "Content-Type": "application/json" },
              body: JSON.stringify(dry),
            });
            if (status === 200) assert.equal(typeof answer.feasible, "boolean");
            else assert.ok(status >= 400 && status < 500 && typeof answer.code === "string", JSON.stringify(answer));
          }),
          { numRuns: 200 },
        );
        await fc.assert(
          fc.asyncProperty(
            fc.constantFrom("nodes", "stitches", "groups", "jobs"),
            fc.string({ minLength: 1, maxLength: 80 }),
            async (what, id) => {
              if (id === "." || id === "..") return;
              const { status } = await ask(`${what}/${encodeURIComponent(id)}`);
              assert.ok(status >= 400 && status < 500, `${what}/${id}: ${status}`);
            },
          ),
          { numRuns: 100 },
        );
        assert.equal((await cluster.master.commands.jobs({ limit: 10, cursor: null }, {})).items.length, 0);
        assert.equal((await cluster.master.state.stitches({ limit: 10, cursor: null }, {})).items.length, 0);
      });
    });

    it("requires the token on every route except the two probes, and does not log it", async () => {
      await withApi(platform, redis.url, async (cluster, { url, client, output }) => {
        for (const path of ["/v1/nodes", "/v1/cluster", "/metrics", "/v1/events"]) {
          const response = await checkedFetch(`${url}${path}`);
          assert.equal(response.status, 401, path);
          assert.match(response.headers.get("WWW-Authenticate") ?? "", /Bearer/);
          await response.body?.cancel();
        }
        assert.equal((await checkedFetch(`${url}/livez`)).status, 200);
        const wrong = { headers: { Authorization: "Bearer wrong" } };
        assert.equal((await checkedFetch(`${url}/v1/nodes`, wrong)).status, 401);
        await until("the client is let in", async () => (await client.cluster()).name === cluster.name);
        assert.ok(!output().includes(TOKEN));
      });
    });
  });
}

for (const { platform, redis } of cases.filter(({ platform }) => platform.streams)) {
  describe(`the streams of the HTTP API on ${platform.name}, over a ${redis.name}`, () => {
    it("streams events as they happen, and continues after the last one that the client has seen", async () => {
      await withApi(platform, redis.url, async (cluster, { url }) => {
        await cluster.node("n1");
        const read = async (headers: Record<string, string>, wanted: RegExp) => {
          const stop = new AbortController();
          const response = await authorizedFetch(`${url}/v1/events?type=job.*`, { headers, signal: stop.signal });
          assert.equal(response.headers.get("Content-Type")?.split(";")[0], "text/event-stream");
          const reader = response.body?.getReader();
          let text = "";
          const seen = (async () => {
            while (!wanted.test(text)) text += new TextDecoder().decode((await reader?.read())?.value);
            stop.abort();
            return text;
          })();
          return { seen };
        };
        const first = await read({}, /event: job\.ended/);
        await cluster.run({ command: "node.ping", target: "n1" });
        const text = await first.seen;
        const [, id] = /id: (\S+)\nevent: job\.accepted/.exec(text) ?? [];
        assert.ok(id, text);
        const again = await read({ "Last-Event-ID": id }, /event: job\.ended/);
        assert.ok(!(await again.seen).includes(`id: ${id}\n`));
      });
    });
  });
}

for (const redis of REDISES) {
  describe(`what only the HTTP API on Node has, over a ${redis.name}`, { concurrency: 2 }, () => {
    it("serves this machine without a token, and has metrics", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const { url } = await cluster.api();
        await Promise.all([cluster.node("n1"), cluster.node("n2")]);
        assert.equal((await createClient({ url, fetch: checkedFetch }).cluster()).nodes.alive, 2);
        assert.match(await (await checkedFetch(`${url}/metrics`)).text(), /nodes\{.*alive.*\} 2/);
      });
    });

    it("logs every request at the level trace, without the token", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const { url, part } = await cluster.api({ STITCH_TOKEN: TOKEN, STITCH_LOG_LEVEL: "trace" });
        assert.equal((await authorizedFetch(`${url}/v1/cluster`)).status, 200);
        await part.kill("SIGTERM");
        assert.match(part.output, /"answered"/);
        assert.ok(!part.output.includes(TOKEN));
      });
    });
  });
}
