// The link that is far, and what it counts: every figure about round trips rests on it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connectRedis, type ConnectionRole, openRedis } from "../../src/redis/connection/connection.ts";
import { REDISES } from "../support/cluster.ts";
import { countRoundTrips, type DelayingProxy, openDelayingProxy, roundTrips } from "../support/delaying-proxy.ts";

const TRIP_MS = 60;

async function onLink(work: (proxy: DelayingProxy) => Promise<void>): Promise<void> {
  const proxy = await openDelayingProxy(REDISES[0]?.url ?? "", TRIP_MS);
  try {
    await work(proxy);
  } finally {
    await proxy.close();
  }
}

async function connected(proxy: DelayingProxy, role: ConnectionRole) {
  const redis = openRedis(proxy.url, role, () => undefined);
  await connectRedis(redis, 10_000);
  return redis;
}

test("what follows on an answer is a round trip more, and what is sent at the same time is none more", async () => {
  await onLink(async (proxy) => {
    const [one, two] = await Promise.all([connected(proxy, "direct"), connected(proxy, "direct")]);
    try {
      assert.equal(await countRoundTrips(proxy, async () => undefined), 0);
      assert.equal(await countRoundTrips(proxy, () => one.ping()), 1);
      const beganMs = performance.now();
      const trips = await roundTrips(proxy, async () => {
        await Promise.all([one.ping(), one.get("none"), two.time()]);
        await two.eval("return 1", 1, "none");
        await one.exists("none");
      });
      assert.deepEqual(
        trips.map((trip) => trip.toSorted()),
        [["get", "ping", "time"], ["eval none"], ["exists"]],
      );
      const tookMs = performance.now() - beganMs;
      assert.ok(tookMs >= 3 * TRIP_MS, `3 round trips in ${tookMs} ms`);
    } finally {
      one.disconnect();
      two.disconnect();
    }
  });
});

test("what nobody waited for does not count, nor does what was sent before the count began", async () => {
  await onLink(async (proxy) => {
    const [slow, redis] = await Promise.all([connected(proxy, "blocking"), connected(proxy, "direct")]);
    try {
      const before = slow.blpop("none", 0.2);
      await redis.ping();
      let after = Promise.resolve("");
      const count = await countRoundTrips(proxy, async () => {
        await before;
        await redis.ping();
        after = redis.echo("after");
      });
      assert.equal(count, 1);
      assert.equal(await after, "after");
    } finally {
      slow.disconnect();
      redis.disconnect();
    }
  });
});

test("a new connection is a round trip, and nothing is sent on it before it is open", async () => {
  await onLink(async (proxy) => {
    const beganMs = performance.now();
    const trips = await roundTrips(proxy, async () => {
      const redis = await connected(proxy, "blocking");
      await redis.get("none");
      redis.disconnect();
    });
    assert.deepEqual(trips[0], ["connect"]);
    assert.deepEqual(trips.at(-1), ["get"]);
    const tookMs = performance.now() - beganMs;
    assert.ok(tookMs >= trips.length * TRIP_MS, `${trips.length} round trips in ${tookMs} ms`);
  });
});

test("a large answer and a large command pass whole", async () => {
  await onLink(async (proxy) => {
    const redis = await connected(proxy, "direct");
    const text = "x".repeat(3_000_000);
    try {
      assert.equal(await countRoundTrips(proxy, async () => assert.equal(await redis.echo(text), text)), 1);
    } finally {
      redis.disconnect();
    }
  });
});
