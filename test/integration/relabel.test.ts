import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { JobResource } from "../../src/contract/job.ts";
import { readNodes } from "../../src/redis/node/node-record.ts";
import { MOST_LABELS, orderLabels } from "../../src/redis/node/node-orders.ts";
import { REDISES, type TestCluster, withCluster } from "../support/cluster.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { runStitch } from "../unit/cli/run-stitch.ts";

const STARTED = { STITCH_LABELS: "disk=hdd,old=yes,rack=7" };

const labelsOf = async (cluster: TestCluster, id = "n1") => (await cluster.master.state.node(id)).labels;
const relabel = (cluster: TestCluster, more: Record<string, unknown>): Promise<JobResource> =>
  cluster.run({ command: "node.relabel", target: "n1", ...more });
const changedBy = ({ tasks }: JobResource) => tasks[0]?.steps[0]?.changed;

for (const { name, url } of REDISES)
  describe(`labels set by command, on a ${name}`, () => {
    it("override those that the worker was started with, survive its restart, and can be rolled back", async () => {
      await withCluster(url, {}, async (cluster) => {
        const worker = await cluster.node("n1", STARTED);
        const first = await relabel(cluster, { labels: { disk: "ssd", old: null, zone9: "yes" } });
        assert.equal(first.status, "succeeded");
        const after = { disk: "ssd", rack: "7", zone9: "yes" };
        assert.deepEqual(await labelsOf(cluster), after);
        assert.deepEqual((await cluster.master.state.nodes({ limit: 10, cursor: null }, {})).items[0]?.labels, after);

        assert.equal(changedBy(await relabel(cluster, { labels: { disk: "ssd" } })), false, "it is so already");
        await worker.kill("SIGTERM");
        const second = await relabel(cluster, { labels: { disk: "nvme", rack: null } });
        assert.equal(second.status, "succeeded", "the node need not be there");
        await cluster.node("n1", { STITCH_LABELS: "disk=tape,old=yes,rack=8,new=1" });
        assert.deepEqual(await labelsOf(cluster), { disk: "nvme", zone9: "yes", new: "1" });

        // Each label is again as it was: set by a command, not set by any, or taken away.
        await cluster.master.commands.rollback(second.id, null);
        assert.deepEqual(await labelsOf(cluster), { disk: "ssd", rack: "8", zone9: "yes", new: "1" });
        const back = await cluster.master.commands.rollback(first.id, null);
        const ended = await cluster.master.commands.job(back.id, 10_000);
        const { labels, unset } = ended.options;
        assert.deepEqual([ended.command, labels], ["node.relabel", {}]);
        assert.deepEqual(unset, ["disk", "old", "zone9"]);
        assert.deepEqual(await labelsOf(cluster), { disk: "tape", old: "yes", rack: "8", new: "1" });
        assert.equal(changedBy(ended), true);
      });
    });

    it("count for placement at once", async () => {
      await withCluster(url, {}, async (cluster) => {
        await cluster.node("n1", STARTED);
        const create = {
          command: "stitch.create" as const,
          target: "shop.web.1",
          spec: { adaptor: "process", command: ["sleep", "600"], protocol: "none" },
          placement: { labels: { disk: "ssd" } },
          start: false,
        };
        await assert.rejects(() => cluster.run(create), /n1.*disk=ssd/s);
        await relabel(cluster, { labels: { disk: "ssd" } });
        assert.equal((await cluster.run(create)).status, "succeeded");
        await relabel(cluster, { labels: { disk: null } });
        await assert.rejects(() => cluster.run(create), /has no label disk=ssd/);
      });
    });

    it("come from the newest command, whichever arrives last; a repeated order has the same answer", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await registerTestNode(redis, keys, "n1");
        const order = (revision: number, labels: Record<string, string | null>, unset: string[] = []) =>
          orderLabels(redis, keys, "n1", { labels, unset }, { revision, wave: 0 });
        const labels = async () => (await readNodes(redis, keys, ["n1"]))[0]?.facts.labels;
        const none = (...unset: string[]) => ({ labels: {}, unset });
        assert.deepEqual(await order(5, { a: "5" }), { outcome: "done", changed: true, before: none("a") });
        assert.deepEqual(await order(5, { a: "5" }), { outcome: "done", changed: true, before: none("a") });
        assert.deepEqual(await order(4, { a: "4" }), { outcome: "superseded" });
        // A newer command has decided one of the two labels.
        assert.deepEqual(await order(4, { a: "4", b: "4" }), { outcome: "done", changed: true, before: none("b") });
        assert.deepEqual(await labels(), { a: "5", b: "4" });
        assert.deepEqual(await order(7, {}, ["a"]), {
          outcome: "done",
          changed: true,
          before: { labels: { a: "5" }, unset: [] },
        });
        assert.deepEqual(await order(6, { a: null }), { outcome: "superseded" }, "what is unset is decided, too");
        assert.deepEqual(await order(8, { a: null }), { outcome: "done", changed: true, before: none("a") });
        assert.deepEqual(await order(9, { a: null }), {
          outcome: "done",
          changed: false,
          before: { labels: { a: null }, unset: [] },
        });
        assert.deepEqual(await labels(), { b: "4" });
      });
    });

    it("are bounded in number, and may have any name", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await registerTestNode(redis, keys, "n1");
        const order = (revision: number, names: readonly string[], value: string | null) =>
          orderLabels(
            redis,
            keys,
            "n1",
            { labels: Object.fromEntries(names.map((one) => [one, value])), unset: [] },
            { revision, wave: 0 },
          );
        const odd = ["constructor", "1", 'ä \u0000 "', "x".repeat(255)];
        const many = Array.from({ length: MOST_LABELS - odd.length }, (_, index) => `label-${index}`);
        assert.equal((await order(1, odd, "v".repeat(255))).outcome, "done");
        assert.equal((await order(2, many, "x")).outcome, "done");
        assert.equal((await order(3, ["one more"], "x")).outcome, "full");
        const [node] = await readNodes(redis, keys, ["n1"]);
        assert.deepEqual(Object.keys(node?.facts.labels ?? {}).sort(), [...odd, ...many].sort());
        // Labels that are no longer set by command make room.
        await orderLabels(redis, keys, "n1", { labels: {}, unset: many.slice(0, 10) }, { revision: 4, wave: 0 });
        assert.equal((await order(5, ["one more"], "x")).outcome, "done");
        // An invalid value in this field does not hide the node.
        await redis.hset(keys.nodeOrders("n1"), "labels", "no JSON");
        assert.equal((await order(6, ["a"], "x")).outcome, "done");
        assert.deepEqual((await readNodes(redis, keys, ["n1"]))[0]?.facts.labels, { a: "x" });
      });
    });
  });

it("node.relabel without a label, or with one named twice, is refused; not_found for an unknown node", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const [{ url }] = await Promise.all([cluster.api(), cluster.node("n1", STARTED)]);
    const on = { STITCH_URL: url };
    const post = async (body: object) => {
      const response = await checkedFetch(`${url}/v1/commands?waitMs=5000`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ command: "node.relabel", target: "n1", ...body }),
      });
      return { status: response.status, text: await response.text() };
    };
    for (const body of [
      {},
      { labels: {} },
      { labels: { a: "1" }, unset: ["a"] },
      { labels: { a: 1 } },
      { labels: { "": "1" } },
    ])
      assert.equal((await post(body)).status, 400, JSON.stringify(body));
    assert.equal((await post({ target: "nobody", labels: { a: "1" } })).status, 404);
    const tooMany = Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`l${index}`, "x"]));
    assert.match((await post({ labels: tooMany })).text, /at most 100 labels/);

    const planned = await runStitch(["plan", "relabel", "n1", "disk=ssd"], on);
    assert.deepEqual([planned.code, (await labelsOf(cluster))["disk"]], [0, "hdd"], planned.stderr);
    const done = await runStitch(["relabel", "n1", "disk=ssd", "old-"], on);
    assert.equal(done.code, 0, done.stderr);
    assert.deepEqual(await labelsOf(cluster), { disk: "ssd", rack: "7" });
  });
});
