import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { MAIN } from "../unit/cli/run-stitch.ts";

const MAY_RENAME = process.platform === "linux" && spawnSync("unshare", ["-u", "hostname", "some-name"]).status === 0;
const skip = MAY_RENAME ? false : "no host may be renamed here (unshare -u, hostname)";

/** Runs `work` beside a node worker without a set id, on a host of that name. `said`: the worker's output so far. */
async function startedAs(
  cluster: TestCluster,
  host: string,
  work: (said: () => string) => Promise<void>,
): Promise<void> {
  const shell = `hostname "$1" && exec "$0" "$2" node`;
  const child = spawn("unshare", ["-u", "sh", "-c", shell, process.execPath, host, MAIN], {
    env: cluster.env({ STITCH_ROLES: "node", STITCH_STATE_DIR: join(cluster.dir, "state") }),
    stdio: ["ignore", "ignore", "pipe"],
  });
  let text = "";
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  try {
    await until("it is up", () => {
      assert.equal(child.exitCode, null, text);
      return text.includes("is in the cluster");
    });
    await work(() => text);
  } finally {
    child.kill("SIGTERM");
    await once(child, "exit");
  }
}

test("a node without a set id keeps its id and its stitches after its host was renamed", { skip }, async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    await startedAs(cluster, "old-name", async () => {
      await cluster.create("old-name", "a", ["sleep", "600"]);
    });
    await startedAs(cluster, "new-name", async (said) => {
      assert.match(said(), /this node keeps the id old-name/);
      await until("its stitch runs", async () => (await cluster.master.state.stitch("old-name:a")).state === "running");
    });
    await assert.rejects(cluster.master.state.node("new-name"));
  });
});
