// A worker runs as an ordinary user, and some of its programs have become root's: its signals do not end them.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { StitchResource } from "../../src/contract/stitch.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { dataDirOf, linesOf, logOf } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
const SETPRIV = "/usr/bin/setpriv";
const NOBODY = 65_534;
const [setpriv, ...asNobody] = [SETPRIV, `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
const skip = whyNot();

function whyNot(): string | false {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "only root can let a program become root's";
  const reads = `require("node:fs").readFileSync(${JSON.stringify(import.meta.filename)})`;
  const tried = spawnSync(setpriv, [...asNobody, process.execPath, "-e", reads], { encoding: "utf8" });
  return tried.status !== 0 && `nobody may not run this: ${tried.error?.message ?? tried.stderr}`;
}

type AsNobody = { readonly cluster: TestCluster; readonly asRoot: string; readonly rootsOf: (id: string) => number[] };

/** The node `n1`, whose worker runs as nobody. The command `asRoot` becomes root, then runs the program given behind it. */
const onNode = (work: (node: AsNobody) => Promise<void>) => () =>
  withCluster(url, { STITCH_HEARTBEAT_MS: "500" }, async (cluster) => {
    const own = join(cluster.dir, "setpriv");
    copyFileSync(SETPRIV, own);
    chmodSync(own, 0o4755);
    chownSync(cluster.dir, NOBODY, NOBODY);
    cluster.through = () => [setpriv, ...asNobody];
    const ids = new Set<string>();
    const rootsOf = (id: string): number[] => {
      ids.add(id);
      return linesOf(join(dataDirOf(cluster, "n1", id), "roots")).map(Number);
    };
    try {
      await cluster.node("n1");
      await work({ cluster, asRoot: `${own} --reuid=0 --regid=0 --clear-groups`, rootsOf });
    } finally {
      for (const pid of [...ids].flatMap(rootsOf)) if (isRunning(pid)) process.kill(pid, "SIGKILL");
    }
  });

const isRoots = (pid: number): boolean => linesOf(`/proc/${pid}/status`).some((line) => /^Uid:\s+0\s+0\s+0/.test(line));
const said = (cluster: TestCluster, id: string): string =>
  logOf(cluster, "n1", id)
    .filter(({ source }) => source === "system")
    .map(({ line }) => line)
    .join("\n");

const comesTo = (cluster: TestCluster, id: string, state: StitchResource["state"]): Promise<StitchResource> =>
  until(`${id} is ${state}`, async () => {
    const stitch = await cluster.master.state.stitch(id);
    return stitch.state === state && stitch;
  });

describe("a worker that runs as an ordinary user", { skip, concurrency: 2 }, () => {
  for (const [policy, state] of [
    ["always", "running"],
    ["never", "failed"],
  ] as const)
    it(
      `applies the restart policy (${policy}) to a program that ends and leaves a process of root's`,
      onNode(async ({ cluster, asRoot, rootsOf }) => {
        const script = `echo start >> starts; sleep 600 & echo $! >> own
          [ -e roots ] && exec sleep 600
          ${asRoot} sleep 600 & echo $! >> roots
          sleep 1.5; exit 3`;
        await cluster.create("n1", "leaves", ["sh", "-c", script], { restart: { policy, backoffMs: 100 } });
        const [root = 0] = await until("root has one", () => rootsOf("leaves").length === 1 && rootsOf("leaves"));
        await until("its log tells", () => said(cluster, "leaves").includes("could not be ended"));
        assert.match(
          said(cluster, "leaves"),
          new RegExp(`^1 of its processes are another user's and could not be ended: ${root}$`, "m"),
        );
        const stitch = await until(`it is ${state}`, async () => {
          const now = await cluster.master.state.stitch("leaves");
          return now.state === state && now.lastExit?.code === 3 && now;
        });
        assert.equal(stitch.restarts, policy === "always" ? 1 : 0);
        assert.equal(isRunning(root), true);
        const [own = 0] = linesOf(join(dataDirOf(cluster, "n1", "leaves"), "own")).map(Number);
        assert.equal(isRunning(own), false, "what is its own user's is ended all the same");
        if (policy === "always")
          assert.equal((await cluster.run({ command: "stitch.stop", target: "leaves" })).status, "succeeded");
      }),
    );

  it(
    "stops a program that has a process of root's, and says that this process is left",
    onNode(async ({ cluster, asRoot, rootsOf }) => {
      const script = `${asRoot} sleep 600 & echo $! >> roots; exec sleep 600`;
      await cluster.create("n1", "stopped", ["sh", "-c", script], { stopGraceMs: 500 });
      const [root] = await until("root has one", () => rootsOf("stopped").length === 1 && rootsOf("stopped"));
      await until("it is root's", () => isRoots(root ?? 0));
      const job = await cluster.run({ command: "stitch.stop", target: "stopped" });
      assert.equal(job.status, "succeeded", JSON.stringify(job));
      const named = new RegExp(`another user's and could not be ended: ${root}`);
      await until("its log names what is left", () => named.test(said(cluster, "stopped")));
      assert.equal((await cluster.master.state.stitch("stopped")).state, "stopped");
    }),
  );

  it(
    "fails the stop of a program that has become root's, and records its end when it comes",
    onNode(async ({ cluster, asRoot, rootsOf }) => {
      const script = `echo $$ >> roots; exec ${asRoot} sleep 600`;
      for (const id of ["root", "beside"])
        await cluster.create("n1", id, ["sh", "-c", id === "root" ? script : "exec sleep 600"], { stopGraceMs: 200 });
      const [root = 0] = await until("it is there", () => rootsOf("root").length === 1 && rootsOf("root"));
      await until("it is root's", () => isRoots(root));
      const job = await cluster.run({ command: "stitch.stop", target: "root" });
      assert.equal(job.status, "failed");
      const error = job.tasks[0]?.steps[0]?.error;
      assert.match(error?.message ?? "", new RegExp(`process ${root} is another user's by now.* end it on n1`));
      assert.equal((await cluster.master.state.stitch("root")).state, "stopping");
      const why = /it could not be stopped: its process \d+ is another user's/;
      await until("its log says why", () => why.test(said(cluster, "root")));
      assert.equal((await cluster.run({ command: "stitch.stop", target: "beside" })).status, "succeeded");
      // The process that still runs is not the one that a start asks for, and a removal must not forget it.
      for (const command of ["stitch.start", "stitch.restart", "stitch.remove"] as const)
        assert.equal((await cluster.run({ command, target: "root" })).status, "failed", command);
      assert.equal((await cluster.master.state.stitch("root")).state, "stopping");
      process.kill(root, "SIGKILL");
      await comesTo(cluster, "root", "stopped");
      assert.equal((await cluster.run({ command: "stitch.remove", target: "root" })).status, "succeeded");
    }),
  );
});
