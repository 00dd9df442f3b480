// Sends requests to an API and checks its answers, those that it must refuse above all.
import assert from "node:assert/strict";
import type { JobResource } from "../../src/contract/job.ts";
import type { ProblemResource } from "../../src/contract/problem.ts";
import { ERRORS, type ErrorCode } from "../../src/domain/errors.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { checkedFetch } from "./checked-fetch.ts";
import { REDISES, TestCluster, until } from "./cluster.ts";
import { BEARER, type Platform } from "./platforms.ts";
import { registerTestNode } from "./register-test-node.ts";

export type Sent = {
  readonly method?: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is. */
  readonly text?: string | Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
};

/** Requests to the API at `url`; each has `headers`, unless it says otherwise. */
export function requestsTo(url: string, headers: Readonly<Record<string, string>> = {}) {
  function send(path: string, { method, body, text, headers: more = {} }: Sent = {}): Promise<Response> {
    const json = text ?? (body === undefined ? null : JSON.stringify(body));
    return checkedFetch(url + path, {
      method: method ?? (json === null ? "GET" : "POST"),
      body: json,
      headers: { ...headers, ...(json === null ? {} : { "content-type": "application/json" }), ...more },
    });
  }
  return {
    send,
    /** Fails if the request is not refused with this code. */
    fails: async (code: ErrorCode, path: string, sent?: Sent) => problemOf(await send(path, sent), code),
    /** Like `fails`, but asks again while Redis is too slow, as on a busy machine. */
    failsOnceRedisAnswers: async (code: ErrorCode, path: string, sent?: Sent) => {
      const response = await until("Redis answers in time", async () => {
        const answer = await send(path, sent);
        return (answer.status !== 503 || !(await answer.clone().text()).includes('"redis_unavailable"')) && answer;
      });
      return problemOf(response, code);
    },
    post: async (path: string, body?: unknown) =>
      (await (await send(path, { method: "POST", body })).json()) as JobResource,
  };
}
export type Requests = ReturnType<typeof requestsTo>;

/** Checks all that holds for every problem document. */
export async function problemOf(response: Response, code: ErrorCode): Promise<ProblemResource> {
  const problem = (await response.json()) as ProblemResource;
  const { status, retryable } = ERRORS[code];
  assert.equal(problem.code, code, JSON.stringify(problem));
  assert.equal(response.status, status);
  assert.equal(problem.status, status);
  assert.equal(problem.retryable, retryable);
  assert.equal(problem.type, `urn:crossstitch:error:${code}`);
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  assert.equal(response.headers.get("x-request-id"), problem.requestId);
  assert.equal(response.headers.has("retry-after"), status === 429 || status === 503);
  assert.ok(problem.title !== "" && problem.detail !== "");
  return problem;
}

export const SPEC = { adaptor: "process", command: ["true"], protocol: "none" };
export const ping = (extra: Record<string, unknown> = {}) => ({ command: "node.ping", target: "n1", ...extra });
export const create = (extra: Record<string, unknown> = {}) => ({
  command: "stitch.create",
  target: "shop.orders.1",
  spec: SPEC,
  ...extra,
});

/**
 * An API on a platform, for a cluster of its own on the single Redis. The cluster has a live node n1, which does nothing.
 * `open`: a Master of the cluster in this process.
 */
export type ContractApi = Requests & {
  readonly url: string;
  readonly open: OpenMaster;
  readonly close: () => Promise<void>;
};

export async function startContractApi(platform: Platform): Promise<ContractApi> {
  const redisUrl = REDISES[0]?.url ?? "";
  const cluster = await new TestCluster(redisUrl).start();
  const api = await platform.start({ REDIS_URL: redisUrl, STITCH_CLUSTER: cluster.name });
  await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
  return {
    ...requestsTo(api.url, BEARER),
    url: api.url,
    open: cluster.open,
    close: async () => {
      await api.close();
      await cluster.stop();
    },
  };
}
