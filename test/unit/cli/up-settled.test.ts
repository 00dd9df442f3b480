import assert from "node:assert/strict";
import { test } from "node:test";
import { untilSettled } from "../../../src/cli/up/show.ts";
import type { StitchResource } from "../../../src/contract/stitch.ts";
import { stitch } from "./canned-api.ts";

/** How often `untilSettled` reads a stitch that is as `first` says at the first look and running at the second. */
async function looks(first: Partial<StitchResource>): Promise<number> {
  let count = 0;
  const stitches = async () => {
    count += 1;
    return { items: [count === 1 ? stitch(first) : stitch()], nextCursor: null, asOf: "t" };
  };
  assert.equal(await untilSettled({ stitches }, new AbortController().signal), true);
  return count;
}

const endedWith = (code: number) => ({ code, signal: null, at: "2026-11-23T09:00:00.000Z" });

test("does not wait for stitches that have failed, have finished or were stopped", async () => {
  for (const ended of [
    { state: "failed" },
    { state: "failed", lastExit: endedWith(3) },
    { state: "stopped", finished: true, lastExit: endedWith(0) },
    { desired: "stopped", state: "stopped" },
    { desired: "stopped", state: "failed" },
    { state: "missing" },
  ] as const)
    assert.equal(await looks(ended), 1, JSON.stringify(ended));
});

test("waits for stitches that are starting or stopping", async () => {
  for (const onItsWay of [
    { state: "starting" },
    { state: "backoff" },
    { state: "stopping" },
    // The node has registered and will start this stitch in a moment.
    { state: "stopped" },
    { state: "stopped", lastExit: endedWith(0) },
    { desired: "stopped", state: "running" },
    { desired: "stopped", state: "stopping" },
  ] as const)
    assert.equal(await looks(onItsWay), 2, JSON.stringify(onItsWay));
});
