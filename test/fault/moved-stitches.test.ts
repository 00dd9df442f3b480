import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { JobResource } from "../../src/contract/job.ts";
import { FAST, type Part, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { processesOf } from "../support/process-list.ts";

const url = REDISES[0]?.url ?? "";
/** A stitch that speaks process-v1. */
const MAIL = join(import.meta.dirname, "../support/stitches/mail.mjs");

/** A stitch that comes up at once on n1, and elsewhere when the door is open. Its processes carry the cluster's name. */
class Moving {
  readonly #cluster: TestCluster;
  readonly #door: string;

  constructor(cluster: TestCluster) {
    this.#cluster = cluster;
    this.#door = join(cluster.dir, "door");
  }

  /** Creates it on n1 and begins its move to n2. @returns the job of the move, when the stitch is on n2 and not up yet. */
  async begin(): Promise<JobResource> {
    const { open, name } = this.#cluster;
    const waits = `until [ "$STITCH_NODE_ID" = n1 ] || [ -e ${this.#door} ]; do sleep 0.1; done; exec "$0" "$@"`;
    const command = ["sh", "-c", waits, process.execPath, MAIL, `one-of-${name}`];
    await this.#cluster.create("n1", "one", command, { protocol: "process-v1", stopGraceMs: 500 });
    const body = { command: "stitch.move", target: "one", toNode: "n2", timeoutMs: 60_000 } as const;
    const job = await this.#cluster.run(body, null, 0);
    await until("it arrives", async () => (await open.redis.hexists(open.keys.nodeStitches("n2"), "one")) === 1);
    return job;
  }

  openDoor(): void {
    writeFileSync(this.#door, "");
  }

  async endOf({ id }: JobResource): Promise<JobResource> {
    const { redis, keys } = this.#cluster.open;
    // Reading a job advances it. Here only the master worker may do that.
    await until("the move has ended", async () => (await redis.hexists(keys.job(id), "closed")) === 1);
    return this.#cluster.master.commands.job(id, 0);
  }

  /** The nodes where its processes run, from the process table. */
  async running(): Promise<string[]> {
    const lines = await processesOf(`one-of-${this.#cluster.name}`);
    return lines.map((line) => /\[in .*\/(n\d)\/data\/one\]$/.exec(line)?.[1] ?? line);
  }
}

describe("a stitch that gets a command while it moves", { concurrency: 2 }, () => {
  it("does not run on its new node after it was removed from its old node", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const [, n2] = (await Promise.all(["n1", "n2"].map((id) => cluster.node(id)))) as [Part, Part];
      await cluster.masterWorker();
      const moving = new Moving(cluster);
      const job = await moving.begin();
      assert.equal((await cluster.run({ command: "stitch.remove", target: "n1:one" })).status, "succeeded");
      const { redis, keys } = cluster.open;
      await until("its new node has looked whether it has moved there", async () => {
        const text = await redis.hget(keys.nodeStitches("n2"), "one");
        return n2.output.includes("nothing says that it has moved here") || text?.includes('"movedFrom":null');
      });
      moving.openDoor();
      const { status } = await moving.endOf(job);
      await until("no process of it is left", async () => (await moving.running()).length === 0, 10_000);
      assert.equal(status, "failed");
      await assert.rejects(cluster.master.state.stitch("one"), { code: "not_found" });
    });
  });

  it("runs once when its old node, which obeyed a newer command before it died, comes back", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const [n1] = (await Promise.all(["n1", "n2"].map((id) => cluster.node(id)))) as [Part, Part];
      await cluster.masterWorker();
      const moving = new Moving(cluster);
      const job = await moving.begin();
      assert.equal((await cluster.run({ command: "stitch.restart", target: "n1:one" })).status, "succeeded");
      await n1.kill("SIGKILL");
      moving.openDoor();
      assert.equal((await moving.endOf(job)).status, "succeeded");
      await cluster.node("n1");
      // A node starts its former stitches before it takes a task.
      await cluster.create("n1", "later", ["sleep", "600"]);
      assert.deepEqual(await moving.running(), ["n2"]);
      assert.equal((await cluster.master.state.stitch("one")).fullId, "n2:one");
    });
  });
});
