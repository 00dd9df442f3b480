// The API as an AWS Lambda function, bundled and run as there: what Lambda cannot do, its events, and its connections to Redis.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { checkAnswer } from "../support/checked-fetch.ts";
import { TestCluster, until } from "../support/cluster.ts";
import { type LambdaAnswer, type LambdaHost, startLambda } from "../support/lambda-host.ts";
import { type OwnRedis, withOwnRedis } from "../support/own-redis.ts";
import { TOKEN } from "../support/platforms.ts";
import { redisConnections } from "../support/redis-connections.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { emitEvents } from "../../src/redis/events.ts";

/**
 * An event as API Gateway sends it for an HTTP API, with all the fields of the documented example.
 * https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
 */
const GATEWAY_EVENT = {
  version: "2.0",
  routeKey: "$default",
  rawPath: "/v1/cluster",
  rawQueryString: "",
  cookies: ["cookie1", "cookie2"],
  headers: { authorization: `Bearer ${TOKEN}`, "x-request-id": "from-the-gateway", header2: "value1,value2" },
  requestContext: {
    accountId: "123456789012",
    apiId: "api-id",
    authentication: null,
    authorizer: { jwt: { claims: { claim1: "value1" }, scopes: ["scope1"] } },
    domainName: "id.execute-api.us-east-1.amazonaws.com",
    domainPrefix: "id",
    http: { method: "GET", path: "/v1/cluster", protocol: "HTTP/1.1", sourceIp: "192.0.2.1", userAgent: "agent" },
    requestId: "id",
    routeKey: "$default",
    stage: "$default",
    time: "12/Mar/2026:19:03:58 +0000",
    timeEpoch: 1_773_342_238_390,
  },
  pathParameters: { parameter1: "value1" },
  stageVariables: { stageVariable1: "value1" },
  isBase64Encoded: false,
};

/** As a function URL sends it. https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html */
const FUNCTION_URL_EVENT = {
  ...GATEWAY_EVENT,
  requestContext: {
    ...GATEWAY_EVENT.requestContext,
    accountId: "anonymous",
    apiId: "<urlid>",
    authorizer: { iam: { accessKey: "AKIA", accountId: "111122223333", cognitoIdentity: null, userId: "AIDA" } },
    domainName: "yz0abcdefghijklmnopqrstuvwxyz012.lambda-url.us-west-2.on.aws",
    domainPrefix: "yz0abcdefghijklmnopqrstuvwxyz012",
  },
  pathParameters: null,
  stageVariables: null,
  body: null,
};

type Asked = {
  readonly method?: string;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly isBase64Encoded?: boolean;
};
const eventFor = (path: string, { method, query = "", headers = {}, ...rest }: Asked = {}) => ({
  ...GATEWAY_EVENT,
  rawPath: path,
  rawQueryString: query,
  headers: {
    authorization: `Bearer ${TOKEN}`,
    ...(rest.body === undefined ? {} : { "content-type": "application/json" }),
    ...headers,
  },
  requestContext: {
    ...GATEWAY_EVENT.requestContext,
    http: {
      ...GATEWAY_EVENT.requestContext.http,
      path,
      method: method ?? (rest.body === undefined ? "GET" : "POST"),
    },
  },
  ...rest,
});
const ping = JSON.stringify({ command: "node.ping", target: "n1" });
const bodyOf = ({ body }: LambdaAnswer) => JSON.parse(body) as Record<string, unknown>;

/** Runs `work` with a function and a Redis of its own, on which nothing else has connections but `cluster`. */
async function withLambda(work: (lambda: LambdaHost, cluster: TestCluster, redis: OwnRedis) => Promise<void>) {
  await withOwnRedis(async (redis) => {
    const cluster = await new TestCluster(redis.url).start();
    const lambda = await startLambda({ REDIS_URL: redis.url, STITCH_CLUSTER: cluster.name, STITCH_TOKEN: TOKEN });
    try {
      await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
      await work(lambda, cluster, redis);
    } finally {
      await lambda.close();
      await cluster.stop();
    }
  });
}

/** Asserts that an event is refused with this code. @returns the detail. */
async function refuses(lambda: LambdaHost, code: string, status: number, event: unknown): Promise<string> {
  const answer = await lambda.invoke(event);
  const body = bodyOf(answer);
  assert.deepEqual([answer.statusCode, body["code"], body["status"]], [status, code, status], answer.body);
  assert.equal(answer.headers["content-type"], "application/problem+json");
  assert.equal(answer.headers["x-request-id"], body["requestId"]);
  return String(body["detail"]);
}

describe("what AWS Lambda cannot do is refused with unsupported", () => {
  const ended = Promise.withResolvers<void>();
  let running: Promise<void>;
  let lambda: LambdaHost;
  let cluster: TestCluster;
  before(async () => {
    const started = Promise.withResolvers<void>();
    running = withLambda((host, of) => {
      [lambda, cluster] = [host, of];
      started.resolve();
      return ended.promise;
    });
    await Promise.race([started.promise, running]);
  });
  after(async () => {
    ended.resolve();
    await running;
  });
  const unsupported = (path: string, asked: Asked = {}) => refuses(lambda, "unsupported", 501, eventFor(path, asked));

  it("a stream of events, and a log that is followed", async () => {
    for (const accept of ["*/*", "text/event-stream", "application/json, text/event-stream"])
      assert.match(await unsupported("/v1/events", { headers: { accept } }), /AWS Lambda.*Accept: application\/json/);
    await unsupported("/v1/stitches/a/logs", { headers: { accept: "text/event-stream" } });
    const list = await lambda.invoke(eventFor("/v1/events", { headers: { accept: "application/json" } }));
    assert.equal(list.statusCode, 200);
  });

  it("a wait of more than 25 s, before anything is done", async () => {
    const query = "waitMs=25001";
    assert.match(await unsupported("/v1/commands", { query, body: ping }), /25000 ms/);
    assert.equal((await cluster.master.commands.jobs({ limit: 10, cursor: null }, {})).items.length, 0);
    const body = JSON.stringify({ command: "node.cordon", target: "n1" });
    const done = await lambda.invoke(eventFor("/v1/commands", { query: "waitMs=25000", body }));
    assert.equal(done.statusCode, 200, done.body);
    await unsupported(`/v1/jobs/${String(bodyOf(done)["id"])}`, { query });
    const message = { to: { stitch: "a" }, data: "x", timeoutMs: 25_001 };
    for (const expect of ["reply", "ack"])
      await unsupported("/v1/messages", { body: JSON.stringify({ ...message, expect }) });
    // These wait for nothing, or not that long, so they come to the stitch that is not there.
    for (const more of [{}, { expect: "reply", timeoutMs: 25_000 }])
      await refuses(
        lambda,
        "no_recipient",
        404,
        eventFor("/v1/messages", { body: JSON.stringify({ ...message, ...more }) }),
      );
  });

  it("an answer of more than 6 MB, which a shorter list is not", async () => {
    const { redis, keys } = cluster.open;
    const event = { type: "stitch.failed", data: { reason: '"'.repeat(4000) } } as const;
    for (let round = 0; round < 10; round++) await emitEvents(redis, keys, Array(50).fill(event));
    const headers = { accept: "application/json" };
    assert.match(await unsupported("/v1/events", { query: "limit=1000", headers }), /larger.*limit/);
    const part = await lambda.invoke(eventFor("/v1/events", { query: "limit=100", headers }));
    assert.equal(part.statusCode, 200);
    assert.ok(Buffer.byteLength(JSON.stringify(part)) < 6 * 1024 * 1024);
  });

  it("takes the events of API Gateway and of function URLs", async () => {
    for (const event of [GATEWAY_EVENT, FUNCTION_URL_EVENT]) {
      const answer = await lambda.invoke(event);
      assert.equal(answer.statusCode, 200, answer.body);
      assert.equal(answer.headers["x-request-id"], "from-the-gateway");
      assert.equal(answer.isBase64Encoded, false);
      const { statusCode: status, headers, body } = answer;
      await checkAnswer("GET", "/v1/cluster", new Response(body, { status, headers }));
    }
  });

  it("takes bodies that come as base64, and none with GET", async () => {
    const body = Buffer.from(ping).toString("base64");
    const sent = await lambda.invoke(eventFor("/v1/commands", { body, isBase64Encoded: true }));
    assert.equal(sent.statusCode, 202, sent.body);
    const asked = await lambda.invoke(eventFor("/v1/cluster", { method: "GET", body: "{}" }));
    assert.equal(asked.statusCode, 200);
    const notUtf8 = Buffer.from([0x22, 0xff, 0x22]).toString("base64");
    assert.match(
      await refuses(lambda, "invalid_json", 400, eventFor("/v1/commands", { body: notUtf8, isBase64Encoded: true })),
      /UTF-8/,
    );
  });

  it("keeps a path that comes decoded apart from the query", async () => {
    for (const path of [
      "/v1/nodes/a?b",
      "/v1/nodes/a#b",
      "/v1/nodes/a b",
      "/v1/nodes/é",
      "/v1/nodes/%",
      "/v1/nodes/%ff",
    ])
      await refuses(lambda, "invalid_request", 400, eventFor(path));
    await refuses(lambda, "not_found", 404, eventFor("//v1/cluster"));
    await refuses(lambda, "not_found", 404, eventFor(""));
    const listed = await lambda.invoke(eventFor("/v1/nodes", { query: "limit=1&liveness=alive" }));
    assert.equal(listed.statusCode, 200, listed.body);
  });

  it("answers what is no request in this format with 400", async () => {
    const { requestContext } = GATEWAY_EVENT;
    const old = { version: "1.0", resource: "/", path: "/v1/cluster", httpMethod: "GET", requestContext: {} };
    for (const event of [old, {}, [], "event", 7, { source: "aws.events", "detail-type": "Scheduled Event" }])
      assert.match(await refuses(lambda, "invalid_request", 400, event), /payload format 2\.0/);
    for (const event of [
      { ...GATEWAY_EVENT, requestContext: { ...requestContext, domainName: "not a host" } },
      { ...GATEWAY_EVENT, requestContext: { ...requestContext, http: { method: "NO METHOD" } } },
      { ...GATEWAY_EVENT, headers: { "no header": "x" } },
      { ...GATEWAY_EVENT, headers: { header: "a\nb" } },
    ])
      assert.match(await refuses(lambda, "invalid_request", 400, event), /not valid/);
  });

  it("has written the event that a job has ended before Lambda stops the process", async () => {
    const { statusCode, body } = await lambda.invoke(eventFor("/v1/commands", { body: ping }));
    assert.equal(statusCode, 202);
    const { id } = JSON.parse(body) as { id: string };
    const cancelled = await lambda.invoke(eventFor(`/v1/jobs/${id}/cancel`, { method: "POST" }));
    assert.equal(bodyOf(cancelled)["status"], "cancelled");
    for (const pid of lambda.instances()) process.kill(pid, "SIGSTOP");
    try {
      const since = String(Date.now() - 60_000);
      const { items } = await cluster.master.state.events(`${since}-0`, 1000, { type: ["job.ended"] });
      assert.ok(items.some(({ job }) => job === id));
    } finally {
      for (const pid of lambda.instances()) process.kill(pid, "SIGCONT");
    }
  });
});

describe("the connection of an AWS Lambda function to Redis", () => {
  it("is shared by its invocations, and opened anew when it was cut", async () => {
    await withLambda(async (lambda, { open: { redis } }) => {
      const before = await redisConnections(redis);
      const status = async () => (await lambda.invoke(eventFor("/v1/cluster"))).statusCode;
      assert.deepEqual([await status(), await status(), await status()], [200, 200, 200]);
      assert.equal(lambda.instances().length, 1);
      assert.equal(await redisConnections(redis), before + 1);
      for (let round = 0; round < 5; round++) {
        await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
        // A request that was sent before the function could notice is refused, and may be sent again.
        const startedAtMs = performance.now();
        await until("it answers", async () => (await status()) === 200, 3000);
        assert.ok(performance.now() - startedAtMs < 3000);
      }
      await until("no connection is left over", async () => (await redisConnections(redis)) === before + 1, 3000);
    });
  });

  it("is not opened without the settings, which the answer names without their values", async () => {
    for (const [env, status, says] of [
      [{ REDIS_URL: "redis://127.0.0.1:1" }, 403, /the environment variable STITCH_TOKEN of the function/],
      [{ STITCH_TOKEN: TOKEN }, 503, /the environment variable REDIS_URL of the function/],
      [{ REDIS_URL: "canary", STITCH_TOKEN: TOKEN }, 500, /the environment variable REDIS_URL/],
    ] as const) {
      const lambda = await startLambda(env);
      try {
        const { statusCode, body } = await lambda.invoke(GATEWAY_EVENT);
        assert.equal(statusCode, status);
        assert.match(body, says);
        assert.doesNotMatch(body, /canary/);
      } finally {
        await lambda.close();
      }
    }
  });
});
