import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ApiError, type CommandBody, createClient } from "../../src/client/client.ts";
import { heldScopes } from "../support/held-scopes.ts";
import { Chance } from "../support/chance.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { patientCommand } from "../support/patient-command.ts";
import { processesOf } from "../support/process-list.ts";

const COMMANDS = 200;
const AT_ONCE = 8;
const SEED = Number(process.env["TEST_SEED"] ?? 20_261_123);
const NODES = ["n1", "n2", "n3"] as const;
const SPEC = {
  adaptor: "process",
  protocol: "none",
  command: ["sleep", "600"],
  restart: { policy: "never" },
  stopGraceMs: 500,
  minHealthyMs: 0,
};
/**
 * Codes with which a command may be refused while others change the same things. `redis_unavailable`: Redis was slow; the
 * command may still have been accepted.
 */
const REFUSALS = new Set([
  "not_found",
  "ambiguous_stitch",
  "stitch_exists",
  "group_busy",
  "placement_failed",
  "no_template",
  "redis_unavailable",
]);

/** A random command for one of a few groups, stitches and nodes: most commands meet others. */
function anyCommand(chance: Chance, known: readonly string[]): CommandBody {
  const pick = <T>(from: readonly [T, ...T[]]): T => chance.oneOf(from);
  const group = pick(["shop.web.1", "shop.web.2", "shop.api.1"]);
  const stitch = known[chance.between(0, known.length)] ?? "web-1";
  const kinds: readonly [() => CommandBody, ...(() => CommandBody)[]] = [
    () => ({ command: "stitch.create", target: group, count: pick([1, 2]), spec: SPEC }),
    () => ({ command: pick(["stitch.start", "stitch.stop", "stitch.restart", "stitch.remove"]), target: stitch }),
    () => ({ command: pick(["stitch.start", "stitch.stop", "stitch.restart"]), target: stitch }),
    () => ({ command: "stitch.clone", target: stitch }),
    () => ({ command: "stitch.move", target: stitch }),
    () => ({ command: pick(["group.start", "group.stop"]), target: pick([group, "shop.web", "shop"]) }),
    () => ({ command: "group.restart", target: group, batch: pick([1, 2, "50%"]) }),
    () => ({ command: "group.scale", target: group, count: pick([0, 2, 3, 4]) }),
    () => ({ command: "group.rebalance", target: pick([group, "shop"]) }),
    () => ({ command: "group.stopOldVersions", target: "shop.web.2", timeoutMs: 2000 }),
    () => ({ command: pick(["node.cordon", "node.uncordon", "node.uncordon"]), target: pick(NODES) }),
    () => ({ command: "node.drain", target: pick(NODES), forceAfterMs: 1000 }),
    () => ({ command: "node.ping", target: pick(NODES) }),
  ];
  return { deadlineMs: 30_000, ...pick(kinds)() };
}

/** The stitches that run, by full id, from the process table: each stitch is one process in its own data folder. */
async function processes(cluster: TestCluster): Promise<string[]> {
  const found = (await processesOf(cluster.dir)).flatMap((line) => {
    const [, node, stitch] = /\[in .*\/state-([^/]+)\/.*\/data\/([^/\]]+)\]$/.exec(line) ?? [];
    return node === undefined ? [] : [`${node}:${stitch}`];
  });
  return found.sort();
}

/** All stitches that Redis knows, read from the nodes' records. */
async function records(cluster: TestCluster) {
  return (await cluster.master.state.stitches({ limit: 1000, cursor: null }, {})).items;
}

describe("many commands at once, through two APIs (P1, P5)", () => {
  it(`all jobs end, and Redis and the nodes agree (TEST_SEED=${SEED})`, async (t) => {
    await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
      await Promise.all([...NODES.map((id) => cluster.node(id)), cluster.masterWorker()]);
      const clients = (await Promise.all([cluster.api(), cluster.api()])).map(({ url }) => createClient({ url }));
      const chance = new Chance(SEED, "commands");
      const accepted: string[] = [];
      const known: string[] = [];
      const refused: Record<string, number> = {};
      let sent = 0;
      const send = async () => {
        while (sent < COMMANDS) {
          const client = clients[sent++ % clients.length];
          try {
            const answer = await client?.command(anyCommand(chance, known), { waitMs: 200 });
            if (answer?.job === undefined) continue;
            accepted.push(answer.job.id);
            known.push(...answer.job.stitches.map((id) => id.split(":")[1] ?? ""));
          } catch (error) {
            if (!(error instanceof ApiError) || !REFUSALS.has(error.code)) throw error;
            refused[error.code] = (refused[error.code] ?? 0) + 1;
          }
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, send));
      t.diagnostic(`seed ${SEED}: ${accepted.length} accepted, refused ${JSON.stringify(refused)}`);
      assert.ok(accepted.length > COMMANDS / 3, JSON.stringify(refused));

      // While nodes are cordoned, a drain would wait for room until its deadline.
      for (const target of NODES)
        await patientCommand(clients[0] ?? assert.fail(), { command: "node.uncordon", target }, { waitMs: 5000 });
      await until(
        "no job is open",
        async () => (await cluster.open.redis.zcard(cluster.open.keys.openJobs)) === 0,
        90_000,
      );
      for (const id of accepted) {
        const job = await cluster.master.commands.job(id, 0);
        assert.notEqual(job.finishedAt, null, `${job.command} ${job.target}`);
        assert.equal(job.counts.pending + job.counts.running, 0, JSON.stringify(job));
      }

      const all = await records(cluster);
      const runs = all.filter(({ state }) => state === "running").map(({ fullId }) => fullId);
      assert.deepEqual(await processes(cluster), runs.sort(), "what runs is what Redis says runs");
      for (const { fullId, desired, state } of all)
        assert.ok(
          state === (desired === "running" ? "running" : "stopped"),
          `${fullId} should be ${desired}, and is ${state}`,
        );
      assert.equal(new Set(all.map(({ id }) => id)).size, all.length, "no stitch is there twice");
      for (const { id, fullId, group } of all) {
        assert.equal((await cluster.master.state.stitch(id)).fullId, fullId, "its route leads to it");
        const members = await cluster.open.redis.smembers(cluster.open.keys.group(group));
        assert.ok(members.includes(fullId), `${fullId} is a member of its group`);
      }
      assert.equal(await heldScopes(cluster.open.redis, cluster.open.keys), 0, "nothing is held any more");
    });
  });
});
