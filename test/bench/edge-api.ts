import { join } from "node:path";
import { createTestHarness } from "wrangler";

const CONFIG = join(import.meta.dirname, "../../wrangler.toml");
const TOKEN = "bench-token-0123456789abcdef0123456789";

type Init = { readonly method?: string; readonly headers?: Readonly<Record<string, string>>; readonly body?: string };
type Answer = { readonly status: number; text(): Promise<string> };

export type EdgeApi = {
  readonly ask: (path: string, init?: Init) => Promise<Answer>;
  readonly close: () => Promise<void>;
};

/** The API in a workerd of its own, as wrangler.toml says, which has served no request yet. */
export async function openEdge(redisUrl: string, cluster: string): Promise<EdgeApi> {
  // Otherwise it asks Cloudflare where this machine is.
  process.env["CLOUDFLARE_CF_FETCH_ENABLED"] = "false";
  const vars = { REDIS_URL: redisUrl, STITCH_TOKEN: TOKEN, STITCH_CLUSTER: cluster };
  const harness = createTestHarness({ workers: [{ configPath: CONFIG, vars }] });
  await harness.listen();
  return {
    ask: (path, init = {}) =>
      harness.fetch(path, { ...init, headers: { ...init.headers, authorization: `Bearer ${TOKEN}` } }),
    close: () => harness.close(),
  };
}
