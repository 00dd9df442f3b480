// Stitches made with the SDKs, on a real node.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { samples } from "../../src/cli/up/samples.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

type LogLine = { readonly source: string; readonly line: string };

/** The stitch's log as its node keeps it. */
function logOf(cluster: TestCluster, node: string, id: string): LogLine[] {
  const file = join(cluster.dir, `state-${node}`, cluster.name, node, "logs", `${id}.log`);
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as LogLine);
}

const [redis] = REDISES;

describe("stitches made with the SDKs", () => {
  it("come up green, log, and end by themselves when they are stopped", async () => {
    await withCluster(redis?.url ?? "", {}, async (cluster) => {
      await cluster.node("n1");
      const speaking = (await samples()).filter(({ protocol }) => protocol === "process-v1");
      assert.ok(speaking.length > 0);
      for (const { id, command } of speaking) {
        await cluster.create("n1", id, command, { protocol: "process-v1" });
        const { state, health } = await cluster.master.stitch(id);
        assert.deepEqual({ id, state, health }, { id, state: "running", health: "green" });
      }
      for (const { id } of speaking) {
        const { status } = await cluster.run({ command: "stitch.stop", target: id });
        assert.equal(status, "succeeded");
        const { lastExit } = await until("the exit is known", async () => {
          const stitch = await cluster.master.stitch(id);
          return stitch.lastExit === null ? null : stitch;
        });
        assert.deepEqual([lastExit?.code, lastExit?.signal], [0, null], "it ended without a signal");
      }
      for (const { id } of speaking) {
        const written = logOf(cluster, "n1", id).filter(({ source }) => source !== "system");
        assert.deepEqual([...new Set(written.map(({ source }) => source))], ["log"], JSON.stringify(written));
        const told = `${written[0]?.line} … ${written.at(-1)?.line}`;
        assert.match(told, id === "clock" ? /^the clock of n1 goes … the clock stops$/ : /^counter of n1 counts/);
      }
    });
  });
});
