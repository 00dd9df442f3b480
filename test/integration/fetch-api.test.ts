// `crossstitch/fetch`: the API as a function from requests to answers, on one connection to Redis.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, it } from "node:test";
import { getRequestListener } from "@hono/node-server";
import { createFetch, type FetchApi } from "../../src/api/fetch.ts";
import { createClient } from "../../src/client/client.ts";
import { checkAnswer, checkedFetch } from "../support/checked-fetch.ts";
import { TestCluster, until } from "../support/cluster.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { BEARER, TOKEN } from "../support/platforms.ts";
import { redisConnections } from "../support/redis-connections.ts";
import { registerTestNode } from "../support/register-test-node.ts";

/** Runs `work` with the function, for a cluster on a Redis of its own. `connections`: how many the function has to Redis. */
async function withFetch(
  work: (api: FetchApi, cluster: TestCluster, connections: () => Promise<number>) => Promise<void>,
): Promise<void> {
  await withOwnRedis(async (redis) => {
    const cluster = await new TestCluster(redis.url).start();
    const api = createFetch({ REDIS_URL: redis.url, STITCH_CLUSTER: cluster.name, STITCH_TOKEN: TOKEN });
    const { redis: own, keys } = cluster.open;
    await registerTestNode(own, keys, "n1");
    const others = await redisConnections(own);
    try {
      await work(api, cluster, async () => (await redisConnections(own)) - others);
    } finally {
      await api.close();
      await cluster.stop();
    }
  });
}

const ask = async (api: FetchApi, path: string): Promise<Response> => {
  const request = new Request(`http://api.test${path}`, { headers: BEARER });
  const response = await api.fetch(request);
  await checkAnswer(request.method, path, response);
  return response;
};

describe("crossstitch/fetch", () => {
  it("serves commands, lists and streams over HTTP, on one connection to Redis and one for each stream", async () => {
    await withFetch(async (api, _, connections) => {
      assert.equal(await connections(), 0, "none before the first request");
      const server = createServer((request, response) => void getRequestListener(api.fetch)(request, response));
      await once(server.listen(0, "127.0.0.1"), "listening");
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      try {
        const client = createClient({ url, token: TOKEN, fetch: checkedFetch });
        const left = new AbortController();
        const stream = await checkedFetch(`${url}/v1/events?type=job.*`, { headers: BEARER, signal: left.signal });
        const reader = stream.body?.getReader();
        const { job } = await client.command({ command: "node.cordon", target: "n1" }, { waitMs: 10_000 });
        assert.equal(job.status, "succeeded");
        assert.equal(job.master, "api-fetch");
        assert.equal((await client.nodes()).items[0]?.eligibility, "cordoned");
        let text = "";
        while (!text.includes("event: job.ended")) text += new TextDecoder().decode((await reader?.read())?.value);
        left.abort();
        // One for all requests, and one that listens for the ends of jobs.
        await until("the stream's is closed", async () => (await connections()) <= 2);
      } finally {
        server.close();
        server.closeAllConnections();
      }
    });
  });

  it("ends its streams and connections when it is closed, also twice at once, and refuses what comes later", async () => {
    await withFetch(async (api, _, connections) => {
      const stream = await ask(api, "/v1/events");
      await until("it listens", async () => (await connections()) === 2);
      await Promise.all([api.close(), api.close()]);
      await stream.text();
      await until("no connection is left", async () => (await connections()) === 0);
      const late = await ask(api, "/v1/cluster");
      assert.equal(late.status, 503);
      assert.equal(((await late.json()) as { code: string }).code, "shutting_down");
      assert.equal((await ask(api, "/livez")).status, 200);
      assert.equal(await connections(), 0);
    });
  });

  it("answers, and logs, why Redis lets it not in", async (t) => {
    await withOwnRedis(async (redis) => {
      const logged = t.mock.method(console, "error", () => undefined);
      const url = new URL(redis.url);
      url.password = "canary";
      const api = createFetch({ REDIS_URL: url.href, STITCH_TOKEN: TOKEN });
      const response = await ask(api, "/v1/cluster");
      const text = await response.text();
      assert.equal(response.status, 503);
      assert.match(text, /REDIS_URL has a password, but Redis has none/);
      const [line] = logged.mock.calls.map(({ arguments: [first] }: { arguments: unknown[] }) => String(first));
      assert.match(line ?? "", /REDIS_URL has a password/);
      assert.doesNotMatch(`${text}${line}`, /canary/);
      await api.close();
    });
  });

  it("opens a new connection after a lost one", async () => {
    await withFetch(async (api, { open: { redis } }, connections) => {
      assert.equal((await ask(api, "/v1/cluster")).status, 200);
      await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      await until("it answers", async () => (await ask(api, "/v1/cluster")).status === 200, 3000);
      await until("on one connection", async () => (await connections()) === 1);
    });
  });

  for (const [what, env, status, says] of [
    ["no token", { REDIS_URL: "redis://127.0.0.1:1" }, 403, /the setting STITCH_TOKEN that createFetch was given/],
    ["no Redis", { STITCH_TOKEN: TOKEN }, 503, /the setting REDIS_URL that createFetch was given/],
    ["a wrong setting", { STITCH_TOKEN: TOKEN, STITCH_CLUSTER: "a canary" }, 500, /STITCH_CLUSTER: .*createFetch/],
    ["a token that nobody can send", { REDIS_URL: "redis://h", STITCH_TOKEN: "a canary" }, 500, /STITCH_TOKEN: /],
    [
      "a module of one's own",
      { STITCH_TOKEN: TOKEN, REDIS_URL: "redis://h", STITCH_MASTER: "./canary.js" },
      500,
      /STITCH_MASTER: /,
    ],
  ] as const) {
    it(`with ${what}, answers a problem that names the setting without its value`, async () => {
      const api = createFetch(env);
      const response = await ask(api, "/v1/cluster");
      const text = await response.text();
      assert.equal(response.status, status, text);
      assert.match((JSON.parse(text) as { detail: string }).detail, says);
      assert.doesNotMatch(text, /canary/);
      await Promise.all([api.close(), api.close()]);
    });
  }
});
