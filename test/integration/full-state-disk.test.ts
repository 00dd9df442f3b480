// A node whose state folder is on a full disk: a small tmpfs in its own mount namespace.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { MAIN } from "../unit/cli/run-stitch.ts";

const MAY_MOUNT =
  process.platform === "linux" &&
  spawnSync("unshare", ["-m", "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]).status === 0;
const skip = MAY_MOUNT ? false : "no mount namespace may be made here (unshare -m)";

/** Starts a node worker whose state folder is a tmpfs. `before`: shell commands that run in the folder first. */
function startNode(cluster: TestCluster, before: string): { child: ChildProcess; state: string } {
  const state = join(cluster.dir, "state-n1");
  mkdirSync(state, { recursive: true });
  const shell = `mount -t tmpfs -o size=256k,mode=700 none "$1" && cd "$1" && ${before} cd / && exec "$0" "$2" node`;
  const child = spawn("unshare", ["-m", "sh", "-c", shell, process.execPath, state, MAIN], {
    env: cluster.env({ STITCH_NODE_ID: "n1", STITCH_ROLES: "node", STITCH_STATE_DIR: state }),
    stdio: ["ignore", "ignore", "pipe"],
  });
  return { child, state: `/proc/${child.pid}/root${state}` };
}

/** Fills the disk. */
const fill = (file: string): void => {
  assert.throws(() => writeFileSync(file, Buffer.alloc(1024 * 1024)), /ENOSPC/);
};

test("a create that fails on a full disk leaves nothing, and succeeds when it is repeated with room on the disk", {
  skip,
}, async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const { child, state } = startNode(cluster, "");
    let log = "";
    child.stderr?.on("data", (chunk: Buffer) => (log += chunk.toString()));
    try {
      await until("the node is up", () => log.includes("is in the cluster"));
      await cluster.create("n1", "a", ["sleep", "600"]);
      fill(join(state, "filler"));
      const create = (key: string) =>
        cluster.run(
          {
            command: "stitch.create",
            target: "test.stitch.1",
            node: "n1",
            id: "b",
            spec: {
              adaptor: "process",
              protocol: "none",
              command: ["sleep", "600"],
              minHealthyMs: 0,
              env: { A: "x".repeat(8000), B: "x".repeat(8000) },
            },
          },
          key,
        );
      const failed = await create("first");
      assert.equal(failed.status, "failed");
      assert.match(JSON.stringify(failed.error), /specs\/[0-9a-f]{64} cannot be written.*see to its disk/);
      await assert.rejects(cluster.master.state.stitch("n1:b"), /no stitch/i);
      // The spec of these stitches is on disk already, so the free rest of a page may still hold a few records.
      for (let n = 0; ; n++) {
        const next = await cluster.create("n1", `c${n}`, ["sleep", "600"]).catch((error: unknown) => String(error));
        if (typeof next !== "string") continue;
        assert.match(next, /stitches\.jsonl cannot be written; see to its disk/);
        await assert.rejects(cluster.master.state.stitch(`n1:c${n}`), /no stitch/i);
        break;
      }
      assert.equal((await cluster.master.state.stitch("n1:a")).state, "running", "what runs is left alone");
      rmSync(join(state, "filler"));
      assert.equal((await create("again")).status, "succeeded");
      assert.equal((await cluster.master.state.stitch("n1:b")).state, "running");
    } finally {
      child.kill("SIGTERM");
      await once(child, "exit");
    }
  });
});

test("a node that cannot start because its disk is full names the file and says what to do", { skip }, async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const { child } = startNode(cluster, "dd if=/dev/zero of=filler bs=1k 2>/dev/null;");
    assert.ok(child.stderr !== null);
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
    assert.equal(code, 1);
    assert.match(said, /state-n1\S*.*ENOSPC.*STITCH_STATE_DIR/);
    assert.doesNotMatch(said, /\n +at /);
  });
});
