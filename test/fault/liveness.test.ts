// With the default settings, how soon a node that dies is shown as dead, and that a node that only pauses is not (P7).
import assert from "node:assert/strict";
import { it } from "node:test";
import { loadConfig } from "../../src/config.ts";
import type { Liveness } from "../../src/domain/node/node.ts";
import { redisTimeMs } from "../../src/redis/node/node-record.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

const { heartbeatMs, leaseMs, deadAfterMs } = loadConfig({});
const SETTINGS = {
  STITCH_HEARTBEAT_MS: String(heartbeatMs),
  STITCH_LEASE_MS: String(leaseMs),
  STITCH_DEAD_AFTER_MS: String(deadAfterMs),
};
/** P7: counted from the last heartbeat. */
const DEAD_MS = 10_000;
const PAUSE_MS = 4500;

/** One look at a node, with Redis's time at its begin and its end: the node was seen at some time between. */
type Look = {
  readonly fromMs: number;
  readonly toMs: number;
  readonly liveness: Liveness;
  readonly lastBeatAtMs: number;
};

async function look({ master, open: { redis, keys } }: TestCluster, id: string): Promise<Look> {
  const fromMs = await redisTimeMs(redis, keys.nodeMeta(id));
  const { liveness, lastHeartbeatAt } = await master.state.node(id);
  const { items } = await master.state.nodes({ limit: 10, cursor: null }, {});
  const toMs = await redisTimeMs(redis, keys.nodeMeta(id));
  const listed = items.find((node) => node.id === id)?.liveness;
  const look = { fromMs, toMs, liveness, lastBeatAtMs: Date.parse(lastHeartbeatAt) };
  // The liveness may change between the two reads.
  if (listed !== liveness) assert.equal((await master.state.node(id)).liveness, listed);
  return look;
}

/** Looks until `isEnough`. */
async function watch(cluster: TestCluster, id: string, isEnough: (look: Look) => boolean): Promise<Look[]> {
  const looks: Look[] = [];
  await until(`enough is seen of ${id}`, async () => {
    const seen = await look(cluster, id);
    looks.push(seen);
    return isEnough(seen);
  });
  return looks;
}

/** Resolves right after the node's next heartbeat, with the time of this heartbeat. */
async function nextBeat(cluster: TestCluster, id: string): Promise<number> {
  const { lastBeatAtMs } = await look(cluster, id);
  const looks = await watch(cluster, id, (seen) => seen.lastBeatAtMs > lastBeatAtMs);
  return looks.at(-1)?.lastBeatAtMs ?? assert.fail();
}

it("P7: a killed node is suspect after its lease and dead within 10 s; one that pauses for 4.5 s is neither", async (t) => {
  await withCluster(REDISES[0]?.url ?? "", SETTINGS, async (cluster) => {
    const [killed, paused] = await Promise.all(["killed", "paused"].map((id) => cluster.node(id)));
    assert.ok(killed && paused);

    const dies = async () => {
      const lastBeatAtMs = await nextBeat(cluster, "killed");
      await killed.kill("SIGKILL");
      const looks = await watch(cluster, "killed", ({ liveness }) => liveness === "dead");
      const leaseEndsMs = lastBeatAtMs + leaseMs;
      for (const seen of looks) {
        assert.equal(seen.lastBeatAtMs, lastBeatAtMs, "it does not beat any more");
        if (seen.toMs < leaseEndsMs) assert.equal(seen.liveness, "alive", `${leaseEndsMs - seen.toMs} ms too soon`);
        else if (seen.fromMs >= leaseEndsMs) assert.notEqual(seen.liveness, "alive", "after the end of its lease");
        if (seen.fromMs >= lastBeatAtMs + DEAD_MS) assert.equal(seen.liveness, "dead", "10 s after its last beat");
      }
      const first = (liveness: Liveness) => {
        const { toMs } = looks.find((seen) => seen.liveness === liveness) ?? assert.fail(`never seen ${liveness}`);
        return toMs - lastBeatAtMs;
      };
      t.diagnostic(`${looks.length} looks; suspect ${first("suspect")} ms and dead ${first("dead")} ms after its beat`);
    };

    const pauses = async () => {
      const lastBeatAtMs = await nextBeat(cluster, "paused");
      // The pause begins just before the next heartbeat, so that it takes as much of the lease as possible.
      const { open } = cluster;
      await until(
        "it would soon beat",
        async () => (await redisTimeMs(open.redis, open.keys.nodeMeta("paused"))) >= lastBeatAtMs + 0.85 * heartbeatMs,
      );
      paused.child.kill("SIGSTOP");
      const pausedAtMs = await redisTimeMs(open.redis, open.keys.nodeMeta("paused"));
      const looks = await watch(cluster, "paused", (seen) => seen.toMs >= pausedAtMs + PAUSE_MS);
      paused.child.kill("SIGCONT");
      // A heartbeat may have been on its way when the node was paused.
      const atRest = looks.filter((seen) => seen.fromMs >= pausedAtMs + PAUSE_MS / 2);
      const [lastMs = assert.fail(), ...more] = new Set(atRest.map((seen) => seen.lastBeatAtMs));
      assert.deepEqual(more, [], "it did not beat while it paused");
      // Its lease from before the pause would be over by then.
      looks.push(...(await watch(cluster, "paused", (seen) => seen.fromMs > lastMs + leaseMs + deadAfterMs)));
      assert.deepEqual([...new Set(looks.map(({ liveness }) => liveness))], ["alive"]);
      assert.equal((await cluster.master.state.node("paused")).incarnation, 1);
    };

    await Promise.all([dies(), pauses()]);
    assert.doesNotMatch(paused.output, /lapsed|registering again/);
  });
});
