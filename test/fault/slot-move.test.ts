import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { Redis } from "ioredis";
import type { JobRecord } from "../../src/domain/job/job.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { claim } from "../../src/redis/job/outcomes.ts";
import { Keys } from "../../src/redis/keys.ts";
import { startLocalCluster } from "../support/redis-cluster.ts";

const JOB = `j${"a".repeat(26)}`;
const record: JobRecord = {
  id: JOB,
  command: "node.ping",
  target: "n1",
  options: {},
  asked: null,
  reason: null,
  by: null,
  master: "test",
  revision: 1,
  createdAtMs: Date.now(),
  deadlineAtMs: Date.now() + 600_000,
  waitForNode: false,
  orchestration: null,
  retryOf: null,
  rollbackOf: null,
  tasks: ["n1", "n2"].map((node, index) => ({
    id: `t${index}`,
    node,
    runs: "node",
    attempt: 1,
    wave: 0,
    steps: [{ action: "ping", stitch: null }],
    refused: null,
  })),
};

it("while a Redis Cluster moves a job's slot, a claim is correct or put off, and never refused", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cs-slot-"));
  const cluster = await startLocalCluster({ dir, masters: 2 });
  const client = openRedis(cluster.url, "shared", () => undefined);
  const keys = new Keys("c");
  const servers = cluster.masters.map(({ url }) => new Redis(url));
  try {
    await connectRedis(client, 15_000);
    const claimAs = (runner: "n1" | "n2") =>
      claim(client, keys, JOB, runner, { id: runner === "n1" ? "t0" : "t1", attempt: 1 }, 1);
    await createJob(client, keys, record, "");
    assert.equal(await claimAs("n1"), "ok", "before");

    const key = keys.job(JOB);
    const holds = await Promise.all(servers.map((server) => server.exists(key).catch(() => 0)));
    const [from, to] = holds[0] === 1 ? servers : [...servers].reverse();
    if (from === undefined || to === undefined) assert.fail();
    const [slot, fromId, toId] = await Promise.all([
      from.cluster("KEYSLOT", key),
      from.cluster("MYID"),
      to.cluster("MYID"),
    ]);
    await to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", String(fromId));
    await from.call("CLUSTER", "SETSLOT", slot, "MIGRATING", String(toId));
    const move = (moved: string) => from.migrate("127.0.0.1", to.options.port ?? 0, moved, 0, 5000);

    assert.equal(await claimAs("n1"), "ok", "nothing has moved; what it claimed, it claims again");
    await assert.rejects(claimAs("n2"), /on its way/, "its outcomes begin on the new one, where the record is not yet");
    await move(key);
    await assert.rejects(claimAs("n1"), "its outcomes are on the old one, the record is on the new one");
    assert.equal(await claimAs("n2"), "ok", "both are on the new one");
    await move(keys.jobOutcomes(JOB, "n1"));
    assert.equal(await claimAs("n1"), "ok", "all have moved");
    for (const server of [to, from]) await server.call("CLUSTER", "SETSLOT", slot, "NODE", String(toId));
    assert.equal(await claimAs("n1"), "ok", "after");
    assert.equal(await claim(client, keys, `j${"b".repeat(26)}`, "n1", { id: "t0", attempt: 1 }, 1), "unknown");
  } finally {
    for (const server of servers) server.disconnect();
    client.disconnect();
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});
