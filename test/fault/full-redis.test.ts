// A Redis that refuses writes: its memory is full, it is read-only, or it could not keep the data safe (P16).
import assert from "node:assert/strict";
import { mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { Redis } from "ioredis";
import { freePort } from "../../src/cli/processes/local-redis.ts";
import { FAST, until, withCluster } from "../support/cluster.ts";
import { type OwnRedis, withOwnRedis } from "../support/own-redis.ts";
import { isRunning } from "../support/process-list.ts";

/** P17: counted from when Redis takes writes again. */
const RESUME_MS = 5000;

type Refusal = {
  readonly why: string;
  /** What the answer says about the reason. */
  readonly told: RegExp;
  readonly begin: (admin: Redis) => Promise<unknown>;
  readonly end: (admin: Redis) => Promise<unknown>;
};

function refusalsOf({ dir }: OwnRedis): readonly Refusal[] {
  const inTheWay = join(dir, "dump.rdb");
  return [
    {
      why: "its memory is full",
      told: /out of memory \(maxmemory\)/,
      begin: (admin) => admin.config("SET", "maxmemory", "1"),
      end: (admin) => admin.config("SET", "maxmemory", "0"),
    },
    {
      why: "it cannot save to its disk",
      told: /takes no writes \(MISCONF\)/,
      begin: async (admin) => {
        mkdirSync(inTheWay);
        await admin.config("SET", "save", "3600 1");
        await admin.bgsave();
        await until("it could not save", async () =>
          /rdb_last_bgsave_status:err/.test(await admin.info("persistence")),
        );
      },
      end: async (admin) => {
        await admin.config("SET", "save", "");
        rmdirSync(inTheWay);
      },
    },
    {
      why: "it is a replica",
      told: /takes no writes \(READONLY\)/,
      begin: async (admin) => admin.replicaof("127.0.0.1", await freePort()),
      end: (admin) => admin.replicaof("NO", "ONE"),
    },
    {
      why: "it has too few replicas",
      told: /takes no writes \(NOREPLICAS\)/,
      begin: (admin) => admin.config("SET", "min-replicas-to-write", "1"),
      end: (admin) => admin.config("SET", "min-replicas-to-write", "0"),
    },
  ];
}

it("P16: if Redis refuses writes, answers say why, no stitch is touched, and work resumes afterwards", async (t) => {
  await withOwnRedis(async (redis) => {
    const admin = new Redis(redis.url);
    try {
      await withCluster(redis.url, FAST, async (cluster) => {
        const { url } = await cluster.api();
        await cluster.masterWorker();
        await cluster.node("n1");
        await cluster.create("n1", "a", ["sleep", "600"]);
        const { pid } = await cluster.master.state.stitch("a");
        assert.ok(pid !== null);
        const liveness = async () => (await cluster.master.state.node("n1")).liveness;
        const ping = async (key: string) => {
          const response = await fetch(`${url}/v1/commands?waitMs=1000`, {
            method: "POST",
            headers: { "Content-Type": "application/json", "Idempotency-Key": key },
            body: JSON.stringify({ command: "node.ping", target: "n1" }),
          });
          const answer = (await response.json()) as Record<string, unknown>;
          return { ...answer, http: response.status } as Record<string, unknown>;
        };

        const ready = async () => {
          const response = await fetch(`${url}/readyz`);
          return `${response.status} ${await response.text()}`;
        };

        for (const [index, { why, told, begin, end }] of refusalsOf(redis).entries()) {
          await begin(admin);
          const refused = await ping(`refused ${index}`);
          assert.deepEqual(
            [refused["http"], refused["code"], refused["retryable"]],
            [503, "redis_unavailable", true],
            why,
          );
          assert.match(String(refused["detail"]), told);
          const notReady = await ready();
          assert.match(notReady, /^503 /, why);
          assert.match(notReady, told);
          const read = await fetch(`${url}/v1/stitches/a`);
          assert.equal(((await read.json()) as { pid: number }).pid, pid, `${why}: it can be read`);
          // The node's heartbeats fail: its lease ends, but none of its stitches does.
          await until("its lease is over", async () => (await liveness()) !== "alive");
          assert.ok(isRunning(pid), why);

          await end(admin);
          const endedAtMs = performance.now();
          for (let tries = 0; ; tries++) {
            const { http, status } = await ping(`again ${index} ${tries}`);
            const tookMs = Math.round(performance.now() - endedAtMs);
            assert.ok(tookMs <= RESUME_MS, `${why}: no command has succeeded ${tookMs} ms after it`);
            if (http === 200 && status === "succeeded") {
              t.diagnostic(`${why}: work resumed after ${tookMs} ms`);
              break;
            }
          }
          assert.match(await ready(), /^200 /, why);
          const stitch = await cluster.master.state.stitch("a");
          assert.deepEqual([stitch.pid, stitch.state, stitch.restarts], [pid, "running", 0], why);
        }
        await cluster.create("n1", "b", ["sleep", "600"]);
      });
    } finally {
      admin.disconnect();
    }
  });
});
