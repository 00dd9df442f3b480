import assert from "node:assert/strict";
import { freePort } from "../../src/cli/processes/local-redis.ts";

/** A port below those that the system hands out itself (from 32768 on), so that no other process takes it before its use. */
export async function quietPort(): Promise<number> {
  for (let left = 50; left > 0; left--) {
    const port = 12_000 + Math.floor(Math.random() * 10_000);
    if (await freePort("127.0.0.1", port).catch(() => null)) return port;
  }
  assert.fail("no free port");
}
