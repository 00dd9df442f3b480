// What is deployed to the edge: built as `wrangler deploy` builds it, without a network.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bundleEdge } from "../support/edge-bundle.ts";

/** An isolate that starts reads and compiles all of it: the first request waits for that. */
const LIMIT_BYTES = 230_000;

const SECRETS = {
  REDIS_URL: "redis://canary-of-the-redis-url.test",
  STITCH_TOKEN: "canary-of-the-token-0123456789abcdef",
};

test("what is deployed is small, is built without a warning, and holds no secret of the machine it is built on", async (t) => {
  const { bytes, gzippedBytes, text, output } = await bundleEdge(SECRETS);
  t.diagnostic(`${bytes} bytes, ${gzippedBytes} gzipped; at most ${LIMIT_BYTES}`);
  assert.ok(gzippedBytes <= LIMIT_BYTES, `${gzippedBytes} bytes: see what is in it with wrangler's --metafile`);
  // A name that infra/edge/left-out.ts does not have would be one.
  assert.doesNotMatch(output, /warning|error/i);
  assert.doesNotMatch(text, /canary/);
  // Errors of Redis are told apart by the names of their classes.
  assert.match(text, /"ReplyError"/);
});
