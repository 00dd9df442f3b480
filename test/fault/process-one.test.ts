// A part that is process 1 of its own PID namespace, as the only program of a container is.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readProcesses } from "../../workers/node/processes/process-table.ts";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { dataDirOf, linesOf } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
const LAUNCHER = join(import.meta.dirname, "../../src/cli/stitch.mjs");
const NAMESPACE = ["--pid", "--fork", "--mount-proc"];

const tried = spawnSync("unshare", [...NAMESPACE, "true"], { encoding: "utf8" });
const skip = tried.status !== 0 && `there is no PID namespace to be had: ${tried.error?.message ?? tried.stderr}`;

/** Runs `stitch <args>` as process 1 of a namespace. Its exit code is that of `child`. */
function startAsOne(
  args: readonly string[],
  env: Record<string, string>,
): { child: ChildProcess; output: () => string } {
  const child = spawn("unshare", [...NAMESPACE, process.execPath, LAUNCHER, ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text: Buffer) => (output += text.toString()));
  return { child, output: () => output };
}

/** The pid that process 1 has outside its namespace. */
const pidOfOne = ({ pid = 0 }: ChildProcess): number =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim());

describe("a part that is process 1", { skip, concurrency: 2 }, () => {
  it("a worker reaps orphans, restarts stitches without waiting for them, and ends in good order on SIGTERM", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { child, output } = startAsOne(
        ["node"],
        cluster.env({
          STITCH_NODE_ID: "n1",
          STITCH_ROLES: "node",
          STITCH_STATE_DIR: join(cluster.dir, "state-n1"),
        }),
      );
      const exited = once(child, "exit");
      try {
        await until("it is in the cluster", () => output().includes("is in the cluster"), 60_000);
        const one = pidOfOne(child);
        // The program crashes again and again. Each time it leaves a process in its group, whose parent is then process 1.
        const spec = {
          adaptor: "process",
          protocol: "none",
          command: ["sh", "-c", "date +%s%3N >> starts; (sleep 600 &); exit 1"],
          restart: { policy: "always", backoffMs: 100, maxBackoffMs: 100, maxRestarts: 3 },
        };
        await cluster.run({ command: "stitch.create", target: "test.loop.1", node: "n1", id: "loops", spec });
        const loops = await until("it has given up", async () => {
          const stitch = await cluster.master.state.stitch("loops");
          return stitch.state === "failed" && stitch;
        });
        assert.equal(loops.restarts, 3);
        const starts = linesOf(join(dataDirOf(cluster, "n1", "loops"), "starts")).map(Number);
        const apartMs = starts.slice(1).map((at, index) => at - (starts[index] ?? 0));
        assert.equal(starts.length, 4);
        assert.ok(Math.max(...apartMs) < 4000, `restarts after ${apartMs.join(", ")} ms`);
        await until("no zombie is left", async () => {
          const rows = (await readProcesses()) ?? [];
          return !rows.some(({ parent, zombie }) => parent === one && zombie);
        });

        process.kill(one, "SIGTERM");
        assert.deepEqual(await exited, [0, null], output());
        assert.equal((await cluster.master.state.node("n1")).liveness, "left");
      } finally {
        child.kill("SIGKILL");
      }
    });
  });

  for (const stays of [true, false])
    it(`uses an init that is installed${stays ? "" : ", once, also where it only runs the command in its place"}`, async () => {
      const dir = mkdtempSync(join(tmpdir(), "cs-init-"));
      try {
        const tini = join(dir, "tini");
        mkdirSync(join(dir, "catatonit"));
        writeFileSync(tini, `#!/bin/sh\necho "tini $1"; shift; ${stays ? '"$@"; exit $?' : 'exec "$@"'}\n`);
        chmodSync(tini, 0o755);
        // No Redis is available.
        const env = { PATH: `${dir}:${process.env["PATH"]}`, STITCH_PORT: "none" };
        const { child, output } = startAsOne(["node"], env);
        assert.deepEqual(await once(child, "close"), [1, null]);
        assert.match(output(), /^tini --\n.*STITCH_PORT/s);
        assert.equal(output().split("tini --").length, 2);
      } finally {
        rmSync(dir, { recursive: true, force: true });
      }
    });

  it("a part that fails ends with its own exit code", async () => {
    const { child, output } = startAsOne(["node"], { PATH: process.env["PATH"] ?? "", STITCH_PORT: "none" });
    assert.deepEqual(await once(child, "close"), [1, null]);
    assert.match(output(), /STITCH_PORT/);
  });
});
