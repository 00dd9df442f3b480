// The applications that `stitch up` starts, created in the same way and on the same nodes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { LogLineResource } from "../../src/contract/log-line.ts";
import { ensureSamples, type Sample, samples } from "../../src/cli/up/samples.ts";
import { ApiError, type Client, createClient } from "../../src/client/client.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

const never = new AbortController().signal;
const LICENSE = readFileSync(join(import.meta.dirname, "../../LICENSE"), "utf8");
const LINES = LICENSE.trimEnd().split("\n");
const wordsOf = (lines: readonly string[]): number => lines.join(" ").trim().split(/\s+/).length;
const WHOLE = { file: "LICENSE", lines: LINES.length, counted: LINES.length, words: wordsOf(LINES), silent: [] };

/** Starts an API and the three nodes. @returns a client of the API. */
async function start(cluster: TestCluster): Promise<Client> {
  const { url } = await cluster.api();
  await Promise.all(["n1", "n2", "n3"].map((id) => cluster.node(id)));
  return createClient({ url, fetch: checkedFetch });
}

async function ensure(client: Client, wanted: readonly Sample[], result = "started"): Promise<void> {
  const told = await ensureSamples(client, wanted, never);
  assert.equal(told, `${wanted.map(({ node, id }) => `${node}:${id}`).join(", ")} ${result}`);
}

async function ask(client: Client, stitch: string, data = ""): Promise<string> {
  const { deliveries } = await client.send({ to: { stitch }, data, expect: "reply", timeoutMs: 60_000 });
  return deliveries[0]?.data ?? "";
}

/** The lines of a stitch's log; none if its node is too busy to answer in time. */
async function linesOf(client: Client, stitch: string): Promise<readonly LogLineResource[]> {
  try {
    return (await client.logs(stitch)).items;
  } catch (error) {
    if (error instanceof ApiError && error.code === "node_unreachable") return [];
    throw error;
  }
}

/** Waits until the collector answers with what is expected. */
async function untilCollected(client: Client, expected: object): Promise<void> {
  let last = "";
  const text = JSON.stringify(expected);
  const collected = async () => (last = await ask(client, "collector")) === text;
  await until(text, collected, 60_000).catch(() => assert.equal(last, text));
}

const [redis] = REDISES;

describe("the samples", () => {
  it("wordcount counts each word of a file once, even if counters and the splitter are started again", async () => {
    await withCluster(redis?.url ?? "", {}, async (cluster) => {
      const client = await start(cluster);
      const run = async (name: string, target: string) => {
        const { job } = await client.command({ command: name, target }, { waitMs: 30_000 });
        assert.equal(job.status, "succeeded", JSON.stringify(job));
      };
      const wanted = (await samples()).get("wordcount") ?? [];
      const isCounter = ({ id }: Sample) => id.startsWith("counter");
      await ensure(client, wanted.filter(isCounter));
      await run("stitch.stop", "n2:counter-2");
      await ensure(
        client,
        wanted.filter((sample) => !isCounter(sample)),
      );
      // The lines for a counter that is stopped wait for it.
      const others = LINES.filter((_, index) => index % 3 !== 1);
      await untilCollected(client, { ...WHOLE, counted: others.length, words: wordsOf(others), silent: ["counter-2"] });
      await run("stitch.start", "n2:counter-2");
      await untilCollected(client, WHOLE);
      // A counter that dies is started again by its node, and still knows what it has counted.
      const { pid } = await client.stitch("n3:counter-3");
      assert.ok(pid !== null);
      process.kill(pid, "SIGKILL");
      await until("counter-3 runs again", async () => {
        const { state, pid: now } = await client.stitch("n3:counter-3");
        return state === "running" && now !== pid;
      });
      await untilCollected(client, WHOLE);
      // This sends all lines a second time.
      await run("stitch.restart", "n1:splitter");
      await until("the lines are dealt out again", async () => {
        return (await linesOf(client, "splitter")).filter(({ line }) => line.startsWith("dealt out")).length === 2;
      });
      await untilCollected(client, WHOLE);
      await ensure(client, wanted, "there already: left so");
    });
  });

  it("penpals write to each other from node to node, and exit without a signal when they are stopped", async (t) => {
    const wanted = (await samples()).get("penpals");
    if (wanted === undefined) return t.skip("there is no python3 on the PATH");
    await withCluster(redis?.url ?? "", {}, async (cluster) => {
      const client = await start(cluster);
      await ensure(client, wanted);
      await until("an answer", async () => {
        return (await linesOf(client, "ann")).some(
          ({ source, line }) => source === "log" && line === "n2:bob answers: thank you for letter 1",
        );
      });
      const { items } = await client.logs("bob");
      assert.ok(items.some(({ line }) => line === "n1:ann writes: letter 1"));
      assert.match(await ask(client, "ann"), /^\d+ letters written, \d+ answers read$/);
      assert.equal(await ask(client, "bob", "yours"), "thank you for yours");
      for (const id of ["ann", "bob"]) {
        const { state, health } = await client.stitch(id);
        assert.deepEqual({ id, state, health }, { id, state: "running", health: "green" });
        await client.command({ command: "stitch.stop", target: id }, { waitMs: 30_000 });
        const { lastExit } = await until("the exit is known", async () => {
          const stitch = await client.stitch(id);
          return stitch.lastExit === null ? null : stitch;
        });
        assert.deepEqual([lastExit?.code, lastExit?.signal], [0, null], "it ended without a signal");
        const odd = (await client.logs(id)).items.filter(({ source }) => source === "stdout" || source === "stderr");
        assert.deepEqual(odd, []);
      }
    });
  });
});
