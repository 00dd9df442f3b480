// The platforms that serve the HTTP API, each as it runs for real: a process, workerd, and instances of a Lambda function.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestHarness } from "wrangler";
import { type Client, createClient } from "../../src/client/client.ts";
import { checkedFetch } from "./checked-fetch.ts";
import { Part, REDISES, type TestCluster, until, withCluster } from "./cluster.ts";
import { startLambda } from "./lambda-host.ts";

const ROOT = join(import.meta.dirname, "../..");
const START_MS = 60_000;
/** The token of every API that a test starts through this file. */
export const TOKEN = "a-token-canary-0123456789abcdefgh";
export const BEARER = { authorization: `Bearer ${TOKEN}` };

export type RunningApi = {
  readonly url: string;
  /** What it has logged so far. */
  readonly output: () => string;
  readonly close: () => Promise<void>;
};

export type Platform = {
  readonly name: "Node" | "workerd" | "AWS Lambda";
  /** Are events and logs followed there? */
  readonly streams: boolean;
  /** The Redis servers that its tests run on. */
  readonly redises: typeof REDISES;
  /** @param env REDIS_URL and STITCH_CLUSTER, and whatever differs. The token is set. */
  readonly start: (env: Readonly<Record<string, string>>) => Promise<RunningApi>;
};

export const NODE: Platform = { name: "Node", streams: true, redises: REDISES, start: startNode };
export const WORKERD: Platform = { name: "workerd", streams: true, redises: REDISES.slice(0, 1), start: startWorkerd };
export const LAMBDA: Platform = {
  name: "AWS Lambda",
  streams: false,
  redises: REDISES.slice(0, 1),
  start: (env) => startLambda({ STITCH_TOKEN: TOKEN, ...env }),
};
export const PLATFORMS: readonly Platform[] = [NODE, WORKERD, LAMBDA];

async function startNode(env: Readonly<Record<string, string>>): Promise<RunningApi> {
  const dir = await mkdtemp(join(tmpdir(), "crossstitch-api-"));
  const { PATH = "" } = process.env;
  const part = new Part(["api"], { PATH, HOME: dir, STITCH_PORT: "0", STITCH_TOKEN: TOKEN, ...env }, dir, []);
  const listening = () => {
    if (part.child.exitCode !== null) assert.fail(`the API ended at its start:\n${part.output}`);
    return /http:\/\/[\d.]+:\d+/.exec(part.output)?.[0];
  };
  return {
    url: await until("the API listens", listening, START_MS),
    output: () => part.output,
    close: async () => {
      await part.kill("SIGTERM");
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function startWorkerd(env: Readonly<Record<string, string>>): Promise<RunningApi> {
  const harness = createTestHarness({
    workers: [{ configPath: join(ROOT, "wrangler.toml"), vars: { STITCH_TOKEN: TOKEN, ...env } }],
  });
  const { url } = await harness.listen();
  return { url: url.origin, output: () => JSON.stringify(harness.getLogs()), close: () => harness.close() };
}

/** Like `checkedFetch`, with the token. */
export const authorizedFetch: typeof fetch = (input, init) =>
  checkedFetch(input, { ...init, headers: { ...BEARER, ...(init?.headers as Record<string, string> | undefined) } });

/** Runs `work` with a cluster of its own and an API for it on a platform, and ends both whatever happens. */
export async function withApi(
  platform: Platform,
  redisUrl: string,
  work: (cluster: TestCluster, api: RunningApi & { readonly client: Client }) => Promise<void>,
): Promise<void> {
  await withCluster(redisUrl, {}, async (cluster) => {
    const api = await platform.start({ REDIS_URL: redisUrl, STITCH_CLUSTER: cluster.name });
    try {
      await work(cluster, { ...api, client: createClient({ url: api.url, token: TOKEN, fetch: checkedFetch }) });
    } finally {
      await api.close();
    }
  });
}
