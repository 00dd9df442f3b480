// P3 on every platform of the API: while Redis is away in any way, each request gets its 503 within 3 s, and the API works again
// once Redis is back. test/fault/redis-away.test.ts has more ways and more requests, on Node.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { besideProbes } from "../support/beside-probes.ts";
import { checkAnswer } from "../support/checked-fetch.ts";
import { TestCluster, until } from "../support/cluster.ts";
import { ping, problemOf, requestsTo, type Sent } from "../support/http-requests.ts";
import { type OwnRedis, withOwnRedis } from "../support/own-redis.ts";
import { BEARER, type Platform, PLATFORMS } from "../support/platforms.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { openSilentProxy, type SilentProxy } from "../support/silent-proxy.ts";

const ANSWER_MS = 3000;
/** A connection that is silent for good is given up after 15 s; then the next one is tried. */
const BACK_MS = 25_000;

type Trouble = {
  readonly name: string;
  readonly begin: (redis: OwnRedis, proxy: SilentProxy) => Promise<void> | void;
  readonly end: (redis: OwnRedis, proxy: SilentProxy) => Promise<void> | void;
};
const TROUBLES: readonly Trouble[] = [
  { name: "has stopped", begin: (redis) => redis.crash(), end: (redis) => redis.back() },
  {
    name: "hangs",
    begin: (redis) => redis.now().kill("SIGSTOP"),
    end: (redis) => redis.now().kill("SIGCONT"),
  },
  {
    name: "cannot be reached, and the connections to it are forgotten",
    begin: (_, proxy) => proxy.fallSilent(),
    end: (_, proxy) => proxy.speakToNew(),
  },
];

/** What every platform is asked at once. */
const ASKS: readonly (Sent & { readonly path: string })[] = [
  { path: "/v1/cluster" },
  { path: "/v1/nodes?limit=1" },
  { path: "/v1/events", headers: { accept: "application/json" } },
  { path: "/v1/commands", body: ping() },
  { path: "/readyz" },
];

/** Sends everything at once. Asserts that each is refused in time. @returns how long the slowest one took, in ms. */
async function refusesAll(url: string, asks: typeof ASKS, when: string): Promise<number> {
  const startedAtMs = performance.now();
  const answers = Promise.all(
    asks.map(async ({ path, body, headers }) => {
      const response = await fetch(url + path, {
        method: body === undefined ? "GET" : "POST",
        body: body === undefined ? null : JSON.stringify(body),
        headers: { ...BEARER, ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      });
      await response.clone().arrayBuffer();
      return { path, body, response, tookMs: performance.now() - startedAtMs };
    }),
  );
  const { done, slowestMs } = await besideProbes(url, asks.length, answers);
  const tookMs = Math.max(...done.map((answer) => answer.tookMs));
  assert.ok(
    tookMs <= ANSWER_MS + 2 * slowestMs,
    `${when}: ${tookMs} ms, of which a request that needs no Redis takes up to ${slowestMs} ms`,
  );
  // Not while the time runs: the first check of each answer compiles a schema, and answers wait for that.
  for (const { path, body, response } of done) {
    await checkAnswer(body === undefined ? "GET" : "POST", path, response);
    await problemOf(response, "redis_unavailable");
  }
  return tookMs;
}

async function survives(platform: Platform, { name, begin, end }: Trouble): Promise<string> {
  let report = "";
  await withOwnRedis(async (redis) => {
    const cluster = await new TestCluster(redis.url).start();
    const proxy = await openSilentProxy(redis.url);
    const api = await platform.start({ REDIS_URL: proxy.url, STITCH_CLUSTER: cluster.name });
    try {
      const { send } = requestsTo(api.url, BEARER);
      let backAtMs = 0;
      const asks = platform.streams ? [...ASKS, { path: "/v1/events" }] : ASKS;
      await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
      // As many at once as later, so that every instance is there before Redis is not.
      await until("it is well", async () => {
        const answers = await Promise.all([...asks, ...asks].map(() => send("/v1/cluster")));
        return answers.every(({ status }) => status === 200);
      });
      const answersAgain = async (path: string, status: number, body?: unknown) => {
        const refused: string[] = [];
        const isBack = async () => {
          const answer = await send(path, { body });
          if (answer.status !== status)
            refused.push(`${(performance.now() - backAtMs).toFixed()} ms: ${await answer.text()}`);
          return answer.status === status;
        };
        await until("it works again", isBack, BACK_MS).catch((cause: unknown) => {
          throw new Error(`${path}:\n${refused.join("\n")}\n${api.output()}`, { cause });
        });
      };
      await begin(redis, proxy);
      const first = await refusesAll(api.url, asks, `${platform.name}, when Redis ${name}`);
      const second = await refusesAll(api.url, asks, `${platform.name}, while Redis ${name}`);
      assert.equal((await send("/livez")).status, 200);
      await end(redis, proxy);
      backAtMs = performance.now();
      await answersAgain("/readyz", 200);
      await answersAgain("/v1/commands", 202, ping());
      const after = performance.now() - backAtMs;
      report = `503 after ${first.toFixed()} and ${second.toFixed()} ms; works again after ${after.toFixed()} ms`;
    } finally {
      redis.now().kill("SIGCONT");
      await api.close();
      await proxy.close();
      await cluster.stop();
    }
  });
  return report;
}

for (const platform of PLATFORMS) {
  describe(`P3 on ${platform.name}`, { concurrency: TROUBLES.length }, () => {
    for (const trouble of TROUBLES) {
      it(`Redis ${trouble.name}: 503 within 3 s, and it works again`, async (t) => {
        t.diagnostic(await survives(platform, trouble));
      });
    }
  });
}
