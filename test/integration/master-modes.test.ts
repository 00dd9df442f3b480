import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { checkedFetch } from "../support/checked-fetch.ts";
import { pause } from "../../src/bounded-wait.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { saveDocsMaster } from "../support/docs-master.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

const PREFERRED = { STITCH_MASTER: "preferred", STITCH_MASTER_PREFERRED: "m1" };
const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"], minHealthyMs: 0 };
const GROUP = "shop.web.1";
/** Work goes on 5 s after Redis is back (P17), and the job takes some seconds. */
const WORKS_AGAIN_MS = 12_000;

async function post(url: string, path: string, body: object) {
  const response = await checkedFetch(`${url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { response, body: (await response.json()) as Record<string, unknown> };
}
const ping = { command: "node.ping", target: "n1" };
const mastersOf = async (cluster: TestCluster) => (await cluster.master.state.cluster()).masters.map(({ id }) => id);

describe("the mode of a cluster's Masters", { concurrency: 2 }, () => {
  for (const { name, url: redisUrl } of REDISES)
    it(`is that of the first Master; processes of another mode are refused and named (${name})`, async () => {
      await withCluster(redisUrl, {}, async (cluster) => {
        await cluster.masterWorker({ STITCH_NODE_ID: "m0" });
        await cluster.node("n1");
        const other = cluster.part(["master"], { ...PREFERRED, STITCH_NODE_ID: "m1" });
        assert.equal(await other.exited, 1);
        assert.match(
          other.output,
          /runs its Masters with STITCH_MASTER=leaderless \(m0\), and this process is set to STITCH_MASTER=preferred STITCH_MASTER_PREFERRED=m1\. .*stitch masters set-mode/,
        );

        const api = await cluster.api(PREFERRED);
        const refused = await post(api.url, "/v1/commands", ping);
        assert.deepEqual([refused.response.status, refused.body["code"]], [503, "wrong_mode"]);
        assert.ok(Number(refused.response.headers.get("retry-after")) > 0);
        assert.equal((await checkedFetch(`${api.url}/v1/nodes`)).status, 200, "reading needs no mode");

        const node = await cluster.node("n2", { ...PREFERRED, STITCH_ROLES: "node,master" });
        await until("the node says that it goes on alone", () => node.output.includes("goes on without its Master"));
        assert.equal((await cluster.run({ command: "node.ping", target: "n2" })).status, "succeeded");
        assert.deepEqual(await mastersOf(cluster), ["m0"]);

        const typo = await cluster.node("n3", { STITCH_ROLES: "node,master" });
        await until("a Master of the same mode is on the list", async () => (await mastersOf(cluster)).includes("n3"));
        await cluster.master.commands.changeMode({ mode: "preferred", preferred: "m1", lease: null });
        await until("that node goes on without it", () => typo.output.includes("goes on without its Master"));
        await cluster.master.commands.changeMode({ mode: "leaderless", preferred: null, lease: null });
        await until("its Master is back by itself", async () => (await mastersOf(cluster)).includes("n3"));
      });
    });

  for (const { name, url: redisUrl } of REDISES)
    it(`can be changed while jobs are open: the old Masters and APIs stop deciding, and no job is lost (${name})`, async () => {
      await withCluster(redisUrl, {}, async (cluster) => {
        const old = await cluster.masterWorker({ STITCH_NODE_ID: "m0" });
        const oldApi = await cluster.api();
        // Its node is away until the mode is changed.
        await (await cluster.node("n1")).kill("SIGTERM");
        const waiting = await post(oldApi.url, "/v1/commands", { ...ping, waitForNode: true });
        assert.equal(waiting.response.status, 202);

        const changed = await post(oldApi.url, "/v1/masters/mode", { mode: "preferred", preferred: "m1" });
        assert.deepEqual(
          [changed.response.status, changed.body],
          [200, { mode: "preferred", preferred: "m1", lease: null, before: "leaderless" }],
        );
        for (const wrong of [{ mode: "preferred" }, { mode: "leaderless", preferred: "m1" }, { mode: "boss" }])
          assert.equal((await post(oldApi.url, "/v1/masters/mode", wrong)).response.status, 400);
        assert.equal(await old.exited, 1);
        assert.match(old.output, /runs its Masters with STITCH_MASTER=preferred STITCH_MASTER_PREFERRED=m1/);
        assert.ok(!(await mastersOf(cluster)).includes("m0"), "it is off the list");
        const refused = await post(oldApi.url, "/v1/commands", ping);
        assert.equal(refused.body["code"], "wrong_mode");

        await cluster.masterWorker({ ...PREFERRED, STITCH_NODE_ID: "m1" });
        const api = await cluster.api(PREFERRED);
        await cluster.node("n1");
        const id = String(waiting.body["id"]);
        await until("the job from before has ended", async () => {
          const job = (await (await checkedFetch(`${api.url}/v1/jobs/${id}`)).json()) as { status: string };
          return job.status === "succeeded";
        });
        const created = await post(api.url, "/v1/commands?waitMs=20000", {
          command: "stitch.create",
          target: GROUP,
          spec,
        });
        assert.deepEqual([created.response.status, created.body["status"]], [200, "succeeded"]);
        const state = (await (await checkedFetch(`${api.url}/v1/cluster`)).json()) as Record<string, unknown>;
        assert.deepEqual([state["mode"], state["preferred"]], ["preferred", "m1"]);
      });
    });
});

describe("the preferred Master", () => {
  it("alone brings jobs of many steps forward while it is alive, and any other Master if it is not", async () => {
    await withCluster(REDISES[0]?.url ?? "", PREFERRED, async (cluster) => {
      await cluster.node("n1");
      const [m1, m2] = await Promise.all(["m1", "m2"].map((id) => cluster.openMaster(id)));
      assert.ok(m1 !== undefined && m2 !== undefined);
      try {
        await m1.master.upkeep.join();
        await m2.master.upkeep.join();
        assert.equal(
          (await cluster.run({ command: "stitch.create", target: GROUP, count: 2, spec })).status,
          "succeeded",
        );
        const restart = await cluster.run({ command: "group.restart", target: GROUP, batch: 1 }, null, 0);
        const done = async (): Promise<number> => (await m2.master.commands.job(restart.id, 0)).counts.succeeded;
        await until("the first wave has ended", async () => (await done()) === 1);
        // Reading does not bring it forward, nor does the other Master's upkeep.
        await m1.master.upkeep.join();
        await m2.master.upkeep.advance([restart.id]);
        assert.deepEqual(await m2.master.upkeep.sweep(), { looked: 0, dispatched: 0, closed: 0 });
        assert.equal(await done(), 1);

        await m1.master.upkeep.join();
        await m1.master.upkeep.advance([restart.id]);
        await until("the job has ended", async () => {
          await m1.master.upkeep.join();
          await m1.master.upkeep.advance([restart.id]);
          return (await m2.master.commands.job(restart.id, 0)).status === "succeeded";
        });
        assert.equal(await done(), 2);

        const again = await cluster.run({ command: "group.restart", target: GROUP, batch: 1 }, null, 0);
        await m1.master.upkeep.leave();
        await until("another Master has ended the job", async () => {
          await m2.master.upkeep.join();
          await m2.master.upkeep.sweep();
          await m2.master.upkeep.advance([again.id]);
          return (await m2.master.commands.job(again.id, 0)).status === "succeeded";
        });

        await m1.master.upkeep.join();
        await m2.master.upkeep.join();
        assert.deepEqual(await m2.master.upkeep.sweep(), { looked: 0, dispatched: 0, closed: 0 }, "it decides again");
      } finally {
        for (const each of [m1, m2]) each.close();
      }
    });
  });

  it("decides again as soon as Redis is back after an outage", async () => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, PREFERRED, async (cluster) => {
        await cluster.node("n1");
        await cluster.masterWorker({ STITCH_NODE_ID: "m1" });
        const count = 6;
        assert.equal((await cluster.run({ command: "stitch.create", target: GROUP, count, spec })).status, "succeeded");
        const job = await cluster.run({ command: "group.restart", target: GROUP, batch: 1 }, null, 0);
        await redis.now().stop();
        // Longer than a Master whose sweeps fail is called well.
        await pause(12_000);
        await redis.back();
        const ended = await until(
          "the job has ended",
          async () => {
            const now = await cluster.master.commands.job(job.id, 0).catch(() => null);
            return now === null || now.finishedAt === null ? null : now;
          },
          WORKS_AGAIN_MS,
        );
        assert.deepEqual([ended.status, ended.counts.succeeded], ["succeeded", count]);
      });
    });
  });

  it("is the same for all: a process that prefers another one is refused", async () => {
    await withCluster(REDISES[0]?.url ?? "", PREFERRED, async (cluster) => {
      await cluster.masterWorker({ STITCH_NODE_ID: "m1" });
      const other = cluster.part(["master"], { STITCH_NODE_ID: "m2", STITCH_MASTER_PREFERRED: "m2" });
      assert.equal(await other.exited, 1);
      assert.match(other.output, /with STITCH_MASTER=preferred STITCH_MASTER_PREFERRED=m1 \(m1\)/);
    });
  });

  it("is killed in the middle of a job: another Master ends the job, and the preferred one decides again when it is back", async () => {
    await withCluster(REDISES[0]?.url ?? "", PREFERRED, async (cluster) => {
      await cluster.node("n1");
      const preferred = await cluster.masterWorker({ STITCH_NODE_ID: "m1" });
      cluster.part(["master"], { STITCH_NODE_ID: "m2" });
      await until("both are on the list", async () => (await mastersOf(cluster)).length === 2);
      const count = 6;
      assert.equal((await cluster.run({ command: "stitch.create", target: GROUP, count, spec })).status, "succeeded");
      const job = await cluster.run({ command: "group.restart", target: GROUP, batch: 1 }, null, 0);
      await until("it has begun", async () => (await cluster.master.commands.job(job.id, 0)).counts.succeeded > 0);
      await preferred.kill("SIGKILL");
      const ended = await until("the job has ended", async () => {
        const now = await cluster.master.commands.job(job.id, 0);
        return now.finishedAt === null ? null : now;
      });
      assert.deepEqual([ended.status, ended.counts.succeeded], ["succeeded", count]);
      await until("the killed one is off the list", async () => (await mastersOf(cluster)).join() === "m2");
      cluster.part(["master"], { STITCH_NODE_ID: "m1" });
      await until("it is back", async () => (await mastersOf(cluster)).join() === "m1,m2");
      const last = await cluster.run({ command: "group.restart", target: GROUP, batch: 2 });
      assert.equal(last.status, "succeeded");
    });
  });
});

describe("a Master of one's own", () => {
  const url = REDISES[0]?.url ?? "";

  it("replaces what it wants: the example of docs/masters.md refuses commands outside of its window", async () => {
    await withCluster(url, {}, async (cluster) => {
      const STITCH_MASTER = saveDocsMaster(cluster.dir);
      const [open, closed] = await Promise.all([
        cluster.api({ STITCH_MASTER, WINDOW: "0-24" }),
        cluster.api({ STITCH_MASTER, WINDOW: "24-24" }),
      ]);
      const create = { command: "stitch.create", target: GROUP, spec };
      const accepted = await post(open.url, "/v1/commands", { ...create, dryRun: true });
      assert.deepEqual([accepted.response.status, accepted.body["feasible"]], [200, false], "there is no node");
      const refused = await post(closed.url, "/v1/commands", create);
      assert.deepEqual([refused.response.status, refused.body["code"]], [403, "forbidden"]);
      assert.match(String(refused.body["detail"]), /from 24:00 to 24:00 UTC/);

      await cluster.node("n1", { STITCH_MASTER, STITCH_ROLES: "node,master" });
      const created = await post(open.url, "/v1/commands?waitMs=20000", create);
      assert.deepEqual([created.response.status, created.body["status"]], [200, "succeeded"]);
      const state = (await (await checkedFetch(`${open.url}/v1/cluster`)).json()) as Record<string, unknown>;
      assert.equal(state["mode"], "own");
      const other = cluster.part(["master"]);
      assert.equal(await other.exited, 1);
      assert.match(
        other.output,
        /with STITCH_MASTER=<path of a module> \(n1\), and this process is set to STITCH_MASTER=leaderless/,
      );
    });
  });

  for (const [what, source, message] of [
    ["cannot be loaded", "export default (", /^STITCH_MASTER: .*wrong\.mjs cannot be loaded: /m],
    [
      "exports no function",
      "export const master = 1;",
      /^STITCH_MASTER: .*wrong\.mjs has no default export that is a function/m,
    ],
    [
      "leaves out a function",
      "export default (base) => ({ ...base, commands: { ...base.commands, submit: undefined } });",
      /^STITCH_MASTER: the module's Master has no function commands\.submit$/m,
    ],
  ] as const)
    it(`that ${what} ends the process at its start with the reason`, async () => {
      await withCluster(url, {}, async (cluster) => {
        const path = join(cluster.dir, "wrong.mjs");
        writeFileSync(path, source);
        for (const part of what === "leaves out a function" ? ["master", "api"] : ["master", "api", "node"]) {
          const process = cluster.part([part], { STITCH_MASTER: path, STITCH_PORT: "0" });
          assert.equal(await process.exited, 1);
          assert.match(process.output, message);
        }
      });
    });
});
