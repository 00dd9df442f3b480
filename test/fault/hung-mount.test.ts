// A command names paths on a filesystem that answers nothing: a process that touches one waits until it is killed.
import assert from "node:assert/strict";
import { renameSync, symlinkSync } from "node:fs";
import { after, describe, it } from "node:test";
import type { StitchResource } from "../../src/contract/stitch.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { HungMount } from "../support/hung-mount.ts";
import { dataDirOf, logOf } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
const mount = await HungMount.make();
const skip = typeof mount === "string" && mount;
after(() => {
  if (typeof mount !== "string") mount.end();
});

const RUNS = ["sh", "-c", "while :; do echo here; sleep 0.1; done"];
/** A start that hangs is given up after this time. */
const TIMEOUT_MS = 2500;

const errorOf = (job: JobResource) => job.tasks[0]?.steps[0]?.error ?? assert.fail(JSON.stringify(job));

/** The specs, by the part of each that leads to the mount. */
const hangs = (path: string): Record<string, Record<string, unknown>> => ({
  folder: { cwd: `${path}/folder`, command: RUNS },
  program: { command: [`${path}/program`] },
  search: { command: ["sleep", "600"], env: { PATH: `${path}/bin:/usr/bin:/bin` } },
  odd: { command: [`${path}/a=b`] },
  speaker: { cwd: path, command: RUNS, protocol: "process-v1" },
});

const create = (cluster: TestCluster, id: string, spec: Record<string, unknown>): Promise<JobResource> =>
  cluster.run({
    command: "stitch.create",
    target: "test.hung.1",
    node: "n1",
    id,
    timeoutMs: TIMEOUT_MS,
    spec: { adaptor: "process", protocol: "none", minHealthyMs: 0, stopGraceMs: 1000, ...spec },
  });

/** A neighbour starts, writes its log, stops and is removed as usual. */
async function neighbourLives(cluster: TestCluster, id: string): Promise<void> {
  await cluster.create("n1", id, RUNS);
  await until(`${id} has a log`, () => logOf(cluster, "n1", id).some(({ line }) => line === "here"));
  assert.equal((await cluster.run({ command: "stitch.stop", target: id })).status, "succeeded");
  assert.equal((await cluster.run({ command: "stitch.remove", target: id })).status, "succeeded");
}

const stitch = (cluster: TestCluster, id: string): Promise<StitchResource> => cluster.master.state.stitch(id);

describe("a filesystem that answers nothing", { skip }, () => {
  const path = typeof mount === "string" ? "" : mount.path;
  const onNode = (work: (cluster: TestCluster) => Promise<void>) => () =>
    withCluster(url, { STITCH_LEASE_MS: "6000", STITCH_HEARTBEAT_MS: "500" }, async (cluster) => {
      if (typeof mount !== "string") cluster.through = (cwd) => mount.within(cwd);
      await work(cluster);
    });

  it(
    "fails only the starts of stitches whose folder or program is on it, and disturbs no neighbour or node",
    onNode(async (cluster) => {
      const worker = await cluster.node("n1");
      const { incarnation } = await cluster.master.state.node("n1");
      await cluster.create("n1", "linked", RUNS);
      await cluster.run({ command: "stitch.stop", target: "linked" });
      const folder = dataDirOf(cluster, "n1", "linked");
      renameSync(folder, `${folder}.old`);
      symlinkSync(`${path}/data`, folder);

      const linked = cluster.run({ command: "stitch.start", target: "linked", timeoutMs: TIMEOUT_MS });
      const jobs = Object.entries(hangs(path)).map(([id, spec]) => create(cluster, id, spec));
      await neighbourLives(cluster, "beside");
      for (const job of await Promise.all([...jobs, linked])) {
        assert.equal(job.status, "failed");
        assert.equal(errorOf(job).code, "start_timeout");
      }
      const ids = [...Object.keys(hangs(path)), "linked"];
      for (const id of ids) assert.equal((await stitch(cluster, id)).state, "starting", `${id} hangs`);
      await neighbourLives(cluster, "after");

      // The stops take no longer than their grace; removing the first stitch ends it as well.
      const [gone = "", ...stopped] = ids;
      const sinceMs = performance.now();
      const ends = await Promise.all([
        cluster.run({ command: "stitch.remove", target: gone }),
        ...stopped.map((id) => cluster.run({ command: "stitch.stop", target: id })),
      ]);
      assert.ok(ends.every(({ status }) => status === "succeeded"));
      assert.ok(performance.now() - sinceMs < 10_000);
      // A new stitch under that id puts the folder aside. If the folder is a link, only the link is removed with the stitch.
      assert.equal((await cluster.run({ command: "stitch.remove", target: "linked" })).status, "succeeded");
      await cluster.create("n1", "linked", RUNS);
      assert.equal((await cluster.master.state.node("n1")).incarnation, incarnation, "the node never went away");
      assert.equal(worker.child.exitCode, null);
    }),
  );

  it(
    "does not keep its worker from ending, nor the next worker from starting the other stitches",
    onNode(async (cluster) => {
      const worker = await cluster.node("n1");
      await cluster.create("n1", "well", RUNS);
      await Promise.all(Object.entries(hangs(path)).map(([id, spec]) => create(cluster, id, spec)));
      const sinceMs = performance.now();
      assert.equal(await worker.kill("SIGTERM"), 0);
      assert.ok(performance.now() - sinceMs < 12_000, `it took ${performance.now() - sinceMs} ms`);
      await cluster.node("n1");
      await until("the one that is well runs", async () => (await stitch(cluster, "well")).state === "running");
      for (const id of Object.keys(hangs(path)))
        await until(`${id} hangs again`, async () => (await stitch(cluster, id)).state === "starting");
      await neighbourLives(cluster, "beside");
    }),
  );
});
