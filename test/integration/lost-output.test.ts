// Parts whose own stdout and stderr cannot be written to still do their work.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checkedFetch } from "../support/checked-fetch.ts";
import { quietPort } from "../support/quiet-port.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { MAIN } from "../unit/cli/run-stitch.ts";

type Output = "a full disk" | "a reader that has gone";

/** Starts `stitch <args>` with stdout and stderr on `output`. */
async function started(cluster: TestCluster, args: readonly string[], output: Output, env: Record<string, string>) {
  const cwd = join(cluster.dir, args.join("-"));
  mkdirSync(cwd, { recursive: true });
  const fd = output === "a full disk" ? openSync("/dev/full", "w") : null;
  const child: ChildProcess = spawn(process.execPath, [MAIN, ...args], {
    cwd,
    env: cluster.env(env),
    stdio: ["ignore", fd ?? "pipe", fd ?? "pipe"],
  });
  if (fd !== null) closeSync(fd);
  for (const stream of [child.stdout, child.stderr]) stream?.destroy();
  return child;
}

const end = async (child: ChildProcess): Promise<number | null> => {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  return child.exitCode;
};

for (const output of ["a full disk", "a reader that has gone"] as const)
  test(`a node, a Master and an API keep running if their stdout and stderr are ${output}`, {
    skip: process.platform !== "linux" && "there is no /dev/full",
  }, async () => {
    await withCluster(REDISES[0]?.url ?? "", { STITCH_LOG_LEVEL: "debug" }, async (cluster) => {
      const port = await quietPort();
      const parts = await Promise.all([
        started(cluster, ["node"], output, {
          STITCH_NODE_ID: "n1",
          STITCH_ROLES: "node",
          STITCH_STATE_DIR: join(cluster.dir, "state-n1"),
        }),
        started(cluster, ["master"], output, {}),
        started(cluster, ["api"], output, { STITCH_PORT: String(port) }),
      ]);
      try {
        const live = () => parts.forEach((part) => assert.ok(part.exitCode === null && part.signalCode === null));
        const metrics = async () => {
          live();
          return checkedFetch(`http://127.0.0.1:${port}/metrics`).then(
            (response) => response.text(),
            () => null,
          );
        };
        await until("the API answers", metrics);
        await until("the node is alive, and a master tends", async () => {
          live();
          const { nodes, masters } = await cluster.master.state.cluster();
          return nodes.alive === 1 && masters.length > 0;
        });
        await cluster.create("n1", "a", ["sleep", "600"]);
        await until("lines that are lost are counted", async () =>
          /crossstitch_log_lines_lost_total [1-9]/.test((await metrics()) ?? ""),
        );
        live();
        assert.equal((await cluster.master.state.stitch("n1:a")).state, "running");
      } finally {
        assert.deepEqual(await Promise.all(parts.map(end)), [0, 0, 0]);
      }
    });
  });
