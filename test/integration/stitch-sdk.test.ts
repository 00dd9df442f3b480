// Stitches made with the SDKs, on real nodes, with messages between them.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { SentResource } from "../../src/contract/message.ts";
import { REDISES, type TestCluster, withCluster } from "../support/cluster.ts";

const client = join(import.meta.dirname, "../unit/client");
const python = spawnSync("python3", ["-c", "pass"]).status === 0 ? "python3" : null;
/** The node's limit for an acknowledgement, and a margin: even on a slow machine no message of these tests comes twice. */
const timeoutMs = 60_000;

/** Sends to a stitch and resolves with the data of its reply. */
async function ask(cluster: TestCluster, stitch: string, channel: string, data: unknown): Promise<unknown> {
  const request = { to: { stitch }, channel, data, expect: "reply", timeoutMs } as const;
  const { sent }: { sent: SentResource } = await cluster.master.routing.send(request, null, "");
  return JSON.parse(sent.deliveries[0]?.data ?? "null");
}

for (const redis of REDISES) {
  describe(`stitches made with the SDKs, on a ${redis.name}`, () => {
    it("ask each other, in both languages, from one node to another", async (t) => {
      if (python === null) t.diagnostic("there is no python3 on the PATH: both are in JavaScript");
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all([cluster.node("n1"), cluster.node("n2")]);
        const js = [process.execPath, join(client, "probe-stitch.ts")];
        const py = python === null ? js : [python, join(client, "probe_stitch.py")];
        await cluster.create("n1", "js", js, { protocol: "process-v1" });
        await cluster.create("n2", "py", py, { protocol: "process-v1" });
        for (const [asker, asked, from] of [
          ["js", "n2:py", "n2:py"],
          ["py", "js", "n1:js"],
        ] as const) {
          const questions = ["é", "", '{"a": 1}', "x".repeat(300_000)].map((data) => ({
            to: asked,
            channel: "echo",
            data,
            timeoutMs,
          }));
          assert.deepEqual(
            await ask(cluster, asker, "ask", questions),
            questions.map(({ data }) => ({ from, channel: "", data })),
          );
        }
      });
    });
  });
}
