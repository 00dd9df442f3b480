// A worker's state folder is on a filesystem that no longer answers.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { RequestError } from "../../src/domain/errors.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { HungMount } from "../support/hung-mount.ts";
import { dataDirOf, folderOf, logOf } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
const mount = await HungMount.make();
const skip = typeof mount === "string" && mount;
after(() => {
  if (typeof mount !== "string") mount.end();
});

const LEASE = { STITCH_LEASE_MS: "6000", STITCH_HEARTBEAT_MS: "500" };
const WRITES = ["sh", "-c", "while :; do echo here; sleep 0.1; done"];
/** More than the threads that all files of a worker may occupy. */
const MANY = 20;
const NO_ANSWER = /n1\/\S+ has not answered for 5 s; see to its disk/;

const FROM_NOW = { tail: 0, afterId: null };

/** Follows a log to its end. @returns the last line. */
async function lastFollowed(
  lines: AsyncIterable<readonly { readonly line: { readonly line: string } }[]>,
): Promise<string> {
  let last = "";
  for await (const batch of lines) last = batch.at(-1)?.line.line ?? last;
  return last;
}

describe("a state folder that no longer answers", { skip }, () => {
  const onNode = (work: (cluster: TestCluster, mount: HungMount) => Promise<void>) => () =>
    withCluster(url, LEASE, async (cluster) => {
      if (typeof mount === "string") return;
      cluster.through = (cwd) => mount.within(cwd);
      await work(cluster, mount);
    });
  /** Also deletes the journal: to create it anew, its folder must answer. An open file could still be written. */
  const hang = async (cluster: TestCluster, mount: HungMount) => {
    const folder = folderOf(cluster, "n1");
    rmSync(join(folder, "stitches.jsonl"));
    await mount.cover(folder);
  };
  const errorOf = async (cluster: TestCluster, command: Parameters<TestCluster["run"]>[0]) => {
    const { status, tasks } = await cluster.run(command);
    assert.equal(status, "failed");
    return tasks[0]?.steps[0]?.error?.message ?? "";
  };
  const threadsOf = (pid: number) => {
    const threads = readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}`);
    const pool = threads.filter((thread) => readFileSync(`${thread}/comm`, "utf8").trim() === "libuv-worker");
    const hung = pool.filter((thread) => readFileSync(`${thread}/wchan`, "utf8") === "autofs_wait").length;
    return { hung, free: pool.length - hung };
  };

  it(
    "the node refuses what it would have to store and lives on; once the folder answers, it stores again",
    onNode(async (cluster, mount) => {
      const worker = await cluster.node("n1");
      const { incarnation } = await cluster.master.state.node("n1");
      const ids = Array.from({ length: MANY }, (_, index) => `writes-${index}`);
      await Promise.all(ids.map((id) => cluster.create("n1", id, WRITES)));
      await until("all have logs", () => ids.every((id) => logOf(cluster, "n1", id).length > 0));
      const ended = new AbortController();
      const followed = lastFollowed(await cluster.master.state.followLogs("writes-2", FROM_NOW, ended.signal));
      const sinceMs = performance.now();
      await hang(cluster, mount);

      const refused = await Promise.all([
        errorOf(cluster, {
          command: "stitch.create",
          target: "test.hung.1",
          node: "n1",
          id: "new",
          spec: { adaptor: "process", protocol: "none", command: WRITES },
        }),
        errorOf(cluster, { command: "stitch.stop", target: "writes-0" }),
      ]);
      for (const text of refused) assert.match(text, NO_ANSWER);
      await assert.rejects(
        () => cluster.master.state.logs("writes-1", 10),
        (error) => error instanceof RequestError && /log of writes-1 on n1 does not answer/.test(error.message),
      );
      assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
      assert.equal((await cluster.master.state.stitch("writes-0")).state, "running", "and nothing was done");

      assert.match(await followed, /its log has not answered for 5 s: it is not followed any longer/);
      ended.abort();
      await until("a lease is over", () => performance.now() - sinceMs > 7000);
      const { hung, free } = threadsOf(worker.pid);
      assert.ok(hung > 0 && free >= 8, `${hung} threads hang, ${free} are left to look up the names of hosts`);

      await mount.uncover(folderOf(cluster, "n1"));
      await until("a command is taken", async () => {
        const job = await cluster.run({ command: "stitch.stop", target: "writes-0" });
        return job.status === "succeeded";
      });
      await cluster.create("n1", "new", WRITES);
      await until("its log is written", () => logOf(cluster, "n1", "new").length > 0);
      const lines = () => logOf(cluster, "n1", "writes-1").length;
      const before = lines();
      await until("so are the others'", () => lines() > before);
      assert.equal((await cluster.master.state.node("n1")).incarnation, incarnation, "the node never went away");
      assert.equal(await worker.kill("SIGTERM"), 0);
      await cluster.node("n1");
      await until(
        "its next life runs what was kept",
        async () => (await cluster.master.state.stitch("new")).state === "running",
      );
      assert.equal((await cluster.master.state.stitch("writes-0")).state, "stopped");
    }),
  );

  it(
    "does not keep its worker and programs from ending in good order",
    onNode(async (cluster, mount) => {
      const worker = await cluster.node("n1");
      const ids = Array.from({ length: MANY }, (_, index) => `writes-${index}`);
      await Promise.all(ids.map((id) => cluster.create("n1", id, WRITES)));
      await hang(cluster, mount);
      await errorOf(cluster, { command: "stitch.stop", target: "writes-0" });
      const sinceMs = performance.now();
      assert.equal(await worker.kill("SIGTERM"), 0);
      assert.ok(performance.now() - sinceMs < 15_000, `it took ${performance.now() - sinceMs} ms`);
      assert.equal((await cluster.master.state.node("n1")).liveness, "left");
      await mount.uncover(folderOf(cluster, "n1"));
    }),
  );

  it(
    "is named by a worker that fails to start there",
    onNode(async (cluster, mount) => {
      const worker = await cluster.node("n1");
      await worker.kill("SIGTERM");
      const folder = folderOf(cluster, "n1");
      for (const hung of [folder, join(folder, "..")]) {
        await mount.cover(hung);
        // The error comes within the time for a start: a process may take seconds to begin on a busy machine.
        await assert.rejects(() => cluster.node("n1"), /has not answered for 5 s/);
        await mount.uncover(hung);
      }
      await cluster.node("n1");
    }),
  );

  it(
    "if only a stitch's data folder hangs, only the start of this stitch fails",
    onNode(async (cluster, mount) => {
      const { pid } = await cluster.node("n1");
      for (const id of ["first", "second"]) {
        await cluster.create("n1", id, WRITES);
        await cluster.run({ command: "stitch.stop", target: id });
        await mount.cover(dataDirOf(cluster, "n1", id));
      }
      const start = (target: string) => cluster.run({ command: "stitch.start", target, timeoutMs: 2500 });
      const started = ["first", "second", "first"].map(start);
      await cluster.create("n1", "beside", WRITES);
      for (const job of await Promise.all(started)) assert.notEqual(job.status, "succeeded");
      await until("a look into a folder hangs", () => threadsOf(pid).hung > 0);
      await cluster.create("n1", "after", WRITES);
      const usage = async () => (await cluster.master.state.stitch("after")).resources?.memoryBytes ?? 0;
      await until("it is measured all the same", async () => (await usage()) > 0);
      for (const id of ["first", "second"]) await mount.uncover(dataDirOf(cluster, "n1", id));
    }),
  );

  it(
    "delays starts without using up restarts: the stitches come up when it answers",
    onNode(async (cluster, mount) => {
      await cluster.node("n1");
      await cluster.create("n1", "first", WRITES, { restart: { maxRestarts: 1, backoffMs: 100 } });
      await cluster.run({ command: "stitch.stop", target: "first" });
      const data = join(folderOf(cluster, "n1"), "data");
      await mount.cover(data);
      assert.match(await errorOf(cluster, { command: "stitch.start", target: "first" }), NO_ANSWER);
      const shown = async () => (await cluster.master.state.stitch("first")).state;
      const tries = () => logOf(cluster, "n1", "first").filter(({ line }) => NO_ANSWER.test(line)).length;
      await until("it has been tried as often as its policy allows", () => tries() > 1);
      await mount.uncover(data);
      await until("it runs", async () => (await shown()) === "running");
      assert.equal((await cluster.master.state.stitch("first")).restarts, 0);
    }),
  );
});
