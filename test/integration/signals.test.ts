// Every signal that asks a process to end leaves it time to end in good order (P15).
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { MAIN } from "../unit/cli/run-stitch.ts";
import { hasTerminals } from "../unit/cli/terminal.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";

const url = REDISES[0]?.url ?? "";

/** A stitch that notes when it has been asked to end, and, a moment later, that it ends. */
class Careful {
  readonly #journal: string;
  #pid = 0;

  constructor(cluster: TestCluster) {
    this.#journal = join(cluster.dir, "journal");
  }

  async start(cluster: TestCluster): Promise<void> {
    const program = `trap 'echo asked >> "$1"; sleep 0.3; echo ended >> "$1"; exit 0' TERM; : >> "$1"; while :; do sleep 0.05; done`;
    await cluster.create("n1", "a", ["/bin/sh", "-c", program, "sh", this.#journal]);
    await until("it has its trap", () => existsSync(this.#journal));
    this.#pid = (await cluster.master.state.stitch("a")).pid ?? 0;
    assert.ok(isRunning(this.#pid));
  }

  /** Fails if the stitch did not get its grace. */
  async hasEnded(cluster: TestCluster): Promise<void> {
    await until("it has ended", () => !isRunning(this.#pid));
    assert.equal(readFileSync(this.#journal, "utf8"), "asked\nended\n");
    await until("the node has left", async () => (await cluster.master.state.node("n1")).liveness === "left", 5000);
  }
}

describe("a signal that asks a process to end", { concurrency: 2 }, () => {
  for (const signal of ["SIGHUP", "SIGQUIT"] as const) {
    it(`${signal}: a node worker's stitches get their grace, and the node leaves`, async () => {
      await withCluster(url, {}, async (cluster) => {
        const node = await cluster.node("n1");
        const stitch = new Careful(cluster);
        await stitch.start(cluster);
        assert.equal(await node.kill(signal), 0, node.output);
        await stitch.hasEnded(cluster);
      });
    });

    it(`${signal}: an API and a master worker end with exit code 0`, async () => {
      await withCluster(url, {}, async (cluster) => {
        const [{ part: api }, master] = await Promise.all([cluster.api(), cluster.masterWorker()]);
        await until("the master says that it is ready", () => master.output.includes("tends the cluster"));
        for (const part of [api, master]) assert.equal(await part.kill(signal), 0, part.output);
      });
    });
  }

  it("a node worker whose terminal is gone, so that its output is lost, ends in good order", {
    skip: hasTerminals ? false : "needs util-linux's script",
  }, async () => {
    await withCluster(url, {}, async (cluster) => {
      const cwd = join(cluster.dir, "terminal");
      mkdirSync(cwd);
      const line = `exec '${process.execPath}' '${MAIN}' node`;
      const env = cluster.env({
        SHELL: "/bin/sh",
        STITCH_NODE_ID: "n1",
        STITCH_ROLES: "node",
        STITCH_LOG_LEVEL: "trace",
        STITCH_STATE_DIR: join(cwd, "state"),
      });
      const terminal = spawn("script", ["-q", "-c", line, "/dev/null"], {
        cwd,
        env,
        stdio: ["pipe", "ignore", "ignore"],
      });
      const ended = once(terminal, "exit");
      try {
        await until("n1 is alive", () =>
          cluster.master.state.node("n1").then(
            ({ liveness }) => liveness === "alive",
            () => false,
          ),
        );
        const stitch = new Careful(cluster);
        await stitch.start(cluster);
        terminal.kill("SIGKILL");
        await stitch.hasEnded(cluster);
      } finally {
        terminal.kill("SIGKILL");
        await ended;
      }
    });
  });
});
