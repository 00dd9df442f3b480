// A thief has the credential of n1, with its rights from infra/users.acl. What the thief writes must never start a program
// that a Master has not accepted, whatever an operator then does.
import assert from "node:assert/strict";
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { stitchSpec } from "../../src/domain/stitch/spec.ts";
import { removedRecord, type StepOutcome, type StitchRecord } from "../../src/domain/stitch/stitch.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { type Part, type TestCluster, until } from "../support/cluster.ts";
import { KINDS, withRedisUsers } from "../support/redis-users.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { stored } from "../support/test-spec.ts";
import { testStitch } from "../support/test-stitch.ts";

const GROUP = "shop.web.1";

type Scene = {
  readonly cluster: TestCluster;
  readonly keys: Keys;
  /** A connection with the credential of n1. */
  readonly thief: RedisClient;
  /** `n1` and `n2` start a node, each with its own credential. */
  readonly n1: () => Promise<Part>;
  readonly n2: () => Promise<Part>;
  /** A line for each start of a program of this test: the program, its stitch and its node. */
  readonly runs: () => string[];
  /** The spec of a program that adds a line to `runs` when it starts. */
  readonly saying: (what: string) => ReturnType<typeof stored>;
};

/** Runs `work` with a thief's connection. `createEach` then creates `web` on n1 and `other` on n2, as an operator would. */
async function withThief(work: (scene: Scene) => Promise<void>): Promise<void> {
  await withRedisUsers(KINDS[0]?.start ?? assert.fail(), ["n1", "n2"], async ({ cluster, as }) => {
    const path = join(cluster.dir, "runs");
    writeFileSync(path, "");
    const saying = (what: string) =>
      stored(
        stitchSpec.parse({
          adaptor: "process",
          protocol: "none",
          minHealthyMs: 0,
          reschedule: true,
          command: ["sh", "-c", `echo ${what} $STITCH_ID on $STITCH_NODE_ID >> ${path}; exec sleep 600`],
        }),
      );
    const thief = openRedis(as("node-n1"), "shared", () => undefined);
    const node = (id: string) => () => cluster.node(id, { REDIS_URL: as(`node-${id}`) });
    try {
      await connectRedis(thief, 15_000);
      const { keys } = cluster.open;
      const runs = () =>
        readFileSync(path, "utf8")
          .split("\n")
          .filter((line) => line !== "");
      await work({ cluster, keys, thief, n1: node("n1"), n2: node("n2"), runs, saying });
    } finally {
      thief.disconnect();
    }
  });
}

async function createEach({ cluster, n1, n2, saying }: Scene): Promise<Part> {
  const [part] = await Promise.all([n1(), n2()]);
  for (const [node, id] of [
    ["n1", "web"],
    ["n2", "other"],
  ] as const) {
    const target = id === "web" ? GROUP : "shop.other.1";
    const job = await cluster.run({ command: "stitch.create", target, node, id, spec: saying(id).spec });
    assert.equal(job.status, "succeeded", JSON.stringify(job));
  }
  return part;
}

/** A stitch as its node would publish it, if the stitch ran there. */
const forged = (id: string, spec: StitchRecord["specHash"], differs: Partial<StitchRecord> = {}): string =>
  JSON.stringify(
    testStitch(id, { group: GROUP, desired: "running", state: "running", specHash: spec, observedAtMs: 1, ...differs }),
  );

const refusedAsUnknown = (work: Promise<unknown>, stitch: RegExp) =>
  assert.rejects(work, (error: Error & { code?: string }) => {
    assert.equal(error.code, "spec_unknown", error.message);
    assert.match(error.message, stitch);
    return true;
  });

/** The published record of a stitch, for the thief to copy. */
const shown = async ({ cluster: { open }, keys }: Scene, node: string, id: string): Promise<StitchRecord> =>
  JSON.parse((await open.redis.hget(keys.nodeStitches(node), id)) ?? "null") as StitchRecord;

/** Fails if another program has started, or one of these on another node or more often. */
const onlyThoseAsked = (runs: readonly string[], ...asked: readonly string[]) =>
  assert.deepEqual([...runs].sort(), [...asked].sort());

describe("what a thief with one node's credential writes", { concurrency: 2 }, () => {
  it("as stitches of its node is not cloned, moved, drained, rebalanced or scaled to another node", async () => {
    await withThief(async (scene) => {
      const { cluster, keys, thief, runs, saying } = scene;
      await createEach(scene);
      const evil = saying("evil");
      const other = saying("other").specHash;
      const strangers = { nobodys: evil.specHash, stolen: other, inline: other };
      for (const [id, hash] of Object.entries(strangers)) {
        const text = forged(id, hash);
        // A record as it was before specs had their own store.
        const inline = JSON.stringify({ ...(JSON.parse(text) as object), spec: evil.spec });
        await thief.hset(keys.nodeStitches("n1"), id, id === "inline" ? inline : text);
        await thief.hset(keys.route(id), "n1", GROUP);
        await thief.sadd(keys.group(GROUP), `n1:${id}`);
        await thief.sadd(keys.group("shop.evil.1"), `n1:${id}`);
      }
      await thief.hset(keys.nodeStitches("n1"), "alone", forged("alone", other, { group: "shop.evil.1" }));
      await thief.hset(keys.nodeSpecs("n1"), evil.specHash, evil.text);
      for (const id of Object.keys(strangers)) {
        await refusedAsUnknown(cluster.run({ command: "stitch.clone", target: id }), new RegExp(`"n1:${id}"`));
        await refusedAsUnknown(
          cluster.run({ command: "stitch.move", target: `n1:${id}`, toNode: "n2" }),
          /stitch adopt n1/,
        );
      }
      await thief.sadd(keys.group("shop.evil.1"), "n1:alone");
      await thief.sadd(keys.applications, "shop");
      await thief.sadd(keys.application("shop"), "evil.1");
      await refusedAsUnknown(cluster.run({ command: "group.scale", target: "shop.evil.1", count: 9 }), /"n1:alone"/);

      const plan = async (body: Parameters<TestCluster["run"]>[0]) => {
        const { url } = await api;
        const response = await checkedFetch(`${url}/v1/commands`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ ...body, dryRun: true }),
        });
        return (await response.json()) as { warnings: { code: string; stitch?: string }[]; placements: unknown[] };
      };
      const api = cluster.api();
      const warned = ({ warnings }: Awaited<ReturnType<typeof plan>>) =>
        warnings.flatMap(({ code, stitch }) => (code === "spec_unknown" ? [String(stitch)] : [])).sort();
      const all = ["alone", ...Object.keys(strangers)].map((id) => `n1:${id}`).sort();
      assert.deepEqual(warned(await plan({ command: "node.drain", target: "n1" })), all);
      assert.deepEqual(
        warned(await plan({ command: "group.rebalance", target: GROUP })),
        all.filter((id) => id !== "n1:alone"),
      );
      const rebalanced = await cluster.run({ command: "group.rebalance", target: GROUP, minHealthyMs: 0 });
      assert.deepEqual(rebalanced.stitches, ["n2:web", "n1:web"], "what is assigned is moved");
      onlyThoseAsked(runs(), "other other on n2", "web web on n1", "web web on n2");
      const moved = await cluster.run({ command: "stitch.move", target: "web", toNode: "n1", minHealthyMs: 0 });
      assert.equal(moved.status, "succeeded");
      // The forged stitches never end, so the drain is not done by its deadline.
      const drained = await cluster.run({
        command: "node.drain",
        target: "n1",
        forceAfterMs: 3000,
        deadlineMs: 8000,
        minHealthyMs: 0,
      });
      assert.equal(drained.status, "expired");
      assert.deepEqual(
        drained.stitches.filter((id) => id.startsWith("n2:")),
        ["n2:web"],
      );
      onlyThoseAsked(runs(), "other other on n2", "web web on n1", "web web on n2", "web web on n1", "web web on n2");
    });
  });

  it("over the record of a stitch does not change what is copied, moved or created again", async () => {
    await withThief(async (scene) => {
      const { cluster, keys, thief, runs, saying } = scene;
      await createEach(scene);
      const web = await shown(scene, "n1", "web");
      const evil = {
        ...web,
        specHash: saying("other").specHash,
        placement: { strategy: "binpack" },
        group: "shop.evil.1",
      };
      await thief.hset(keys.nodeStitches("n1"), "web", JSON.stringify(evil));
      const cloned = await cluster.run({ command: "stitch.clone", target: "n1:web", toNode: "n2" });
      assert.deepEqual([cloned.status, cloned.stitches], ["succeeded", ["n2:web-1"]]);
      assert.deepEqual((await shown(scene, "n2", "web-1")).group, GROUP);
      onlyThoseAsked(runs(), "other other on n2", "web web on n1", "web web-1 on n2");

      // Another `born`: no Master has assigned that stitch.
      await thief.hset(keys.nodeStitches("n1"), "web", JSON.stringify({ ...evil, born: "999.0" }));
      await refusedAsUnknown(cluster.run({ command: "stitch.clone", target: "n1:web" }), /"n1:web"/);

      await thief.hset(keys.nodeStitches("n1"), "web", JSON.stringify(web));
      const removed = await cluster.run({ command: "stitch.remove", target: "n1:web" });
      assert.equal(removed.status, "succeeded");
      const left = removedRecord.parse(JSON.parse((await thief.hget(keys.nodeRemoved("n1"), "web")) ?? ""));
      const lie = { ...left, group: "shop.evil.1", was: { spec: saying("evil").spec, ...left.was } };
      await thief.hset(keys.nodeRemoved("n1"), "web", JSON.stringify({ ...lie, born: "998.0" }));
      await assert.rejects(cluster.master.commands.rollback(removed.id), { code: "not_reversible" });
      await thief.hset(keys.nodeRemoved("n1"), "web", JSON.stringify(lie));
      const back = await cluster.master.commands.rollback(removed.id);
      assert.equal((await cluster.master.commands.job(back.id, 30_000)).status, "succeeded");
      assert.equal((await shown(scene, "n1", "web")).group, GROUP);
      onlyThoseAsked(runs(), "other other on n2", "web web on n1", "web web-1 on n2", "web web on n1");
    });
  });

  it("as a removed, replaced, moved or cancelled stitch is not copied, though a Master once assigned that stitch", async () => {
    await withThief(async (scene) => {
      const { cluster, keys, thief, runs, saying } = scene;
      await createEach(scene);
      const run = async (body: Parameters<TestCluster["run"]>[0]) => {
        const job = await cluster.run(body);
        assert.equal(job.status, "succeeded", JSON.stringify(job));
        return job;
      };
      const first = await shown(scene, "n1", "web");
      const { redis } = cluster.open;
      await run({ command: "stitch.remove", target: "n1:web" });
      const isOver = (born: string) =>
        until(`what was born ${born} is over`, async () => {
          const lines = ((await redis.hget(keys.nodeAssigned("n1"), "web")) ?? "").split("\n");
          return lines.some((line) => line.includes(`"born":"${born}"`) && /^\d+x /.test(line));
        });
      await isOver(first.born);
      // Removed: its node publishes it again.
      await thief.hset(keys.nodeStitches("n1"), "web", JSON.stringify(first));
      await refusedAsUnknown(cluster.run({ command: "stitch.clone", target: "n1:web" }), /"n1:web"/);
      await thief.hdel(keys.nodeStitches("n1"), "web");
      // Replaced.
      await run({ command: "stitch.create", target: GROUP, node: "n1", id: "web", spec: saying("newer").spec });
      const second = await shown(scene, "n1", "web");
      await thief.hset(keys.nodeStitches("n1"), "web", JSON.stringify(first));
      await refusedAsUnknown(cluster.run({ command: "stitch.clone", target: "n1:web" }), /"n1:web"/);
      await thief.hset(keys.nodeStitches("n1"), "web", JSON.stringify(second));
      // Moved away.
      await run({ command: "stitch.move", target: "n1:web", toNode: "n2", minHealthyMs: 0 });
      await isOver(second.born);
      await thief.hset(keys.nodeStitches("n1"), "web", JSON.stringify(second));
      await refusedAsUnknown(cluster.run({ command: "stitch.clone", target: "n1:web" }), /"n1:web"/);
      await run({ command: "stitch.clone", target: "n2:web", toNode: "n2" });
      await thief.hdel(keys.nodeStitches("n1"), "web");
      // Cancelled before its node took the task.
      await registerTestNode(redis, keys, "away");
      const body = {
        command: "stitch.create",
        target: GROUP,
        node: "away",
        id: "never",
        spec: saying("evil").spec,
      } as const;
      const { id } = await cluster.run(body, null, 0);
      await cluster.master.commands.cancel(id);
      await until("that is over, too", async () =>
        /^\d+x /.test((await redis.hget(keys.nodeAssigned("away"), "never")) ?? ""),
      );
      onlyThoseAsked(
        runs(),
        "other other on n2",
        "web web on n1",
        "newer web on n1",
        "newer web on n2",
        "newer web-1 on n2",
      );
    });
  });

  it("is refused by Redis for other nodes' stitches, the spec store, assignments, orders and templates", async () => {
    await withThief(async (scene) => {
      const { cluster, keys, thief, runs, saying } = scene;
      await createEach(scene);
      const evil = saying("evil");
      const refused = (work: Promise<unknown>) => assert.rejects(work, /NOPERM/);
      await refused(thief.hset(keys.nodeStitches("n2"), "evil", forged("evil", evil.specHash)));
      await refused(thief.set(keys.spec(evil.specHash), evil.text));
      await refused(thief.set(keys.spec(saying("web").specHash), evil.text));
      for (const node of ["n1", "n2"]) {
        await refused(thief.hset(keys.nodeAssigned(node), "evil", "1 {}"));
        await refused(thief.hset(keys.nodeOrders(node), "eligibility", "eligible"));
      }
      await refused(thief.hset(keys.groupTemplate(GROUP), "template", "{}"));
      // A template as somebody with more rights might write it, then one as an earlier version wrote it.
      const { redis } = cluster.open;
      const template = { specHash: evil.specHash, reschedule: true, placement: { strategy: "spread" } };
      await redis.hset(keys.groupTemplate(GROUP), "template", JSON.stringify(template));
      const scale = () => cluster.run({ command: "group.scale", target: GROUP, count: 2 });
      await refusedAsUnknown(scale(), /"n1:web"/);
      const inline = { spec: evil.spec, placement: { strategy: "spread" } };
      await redis.hset(keys.groupTemplate(GROUP), "template", JSON.stringify(inline));
      // A template that cannot be read counts as none. Then the assignment of the newest stitch counts.
      assert.equal((await scale()).status, "succeeded");
      assert.match(cluster.errors.join("\n"), /template/);
      assert.ok(
        runs().every((line) => !line.startsWith("evil")),
        runs().join(),
      );
    });
  });

  it("into Redis or its node's journal is not started when the node registers again, and is reported", async () => {
    await withThief(async (scene) => {
      const { cluster, keys, thief, n1, runs, saying } = scene;
      const first = await createEach(scene);
      const web = await shown(scene, "n1", "web");
      assert.equal(await first.kill("SIGTERM"), 0);
      const [own, other, evil] = [web.specHash, saying("other").specHash, saying("evil")];
      const planted = { knows: own, stolen: other, nobodys: evil.specHash };
      for (const [id, hash] of Object.entries(planted))
        await thief.hset(keys.nodeStitches("n1"), id, forged(id, hash, { revision: "900.0", born: "900.0" }));
      // A newer record than the one on disk, with another program.
      const newer = { ...web, specHash: other, revision: "901.0" };
      await thief.hset(keys.nodeStitches("n1"), "web", JSON.stringify(newer));
      const dir = join(cluster.dir, "state-n1", cluster.name, "n1");
      const journal = join(dir, "stitches.jsonl");
      const lines = { disk: other, text: evil.specHash };
      for (const [id, hash] of Object.entries(lines)) {
        const record = JSON.parse(forged(id, hash, { revision: "902.0", born: "902.0" })) as object;
        appendFileSync(journal, `${JSON.stringify({ kind: "stitch", record })}\n`);
      }
      // A spec file with the name of another text.
      writeFileSync(join(dir, "specs", evil.specHash), saying("evil2").text, { mode: 0o600 });
      const second = await n1();
      for (const id of Object.keys(planted))
        assert.match(second.output, new RegExp(`n1:${id} that no Master has assigned`));
      assert.match(second.output, /is another text; it is not run/);
      for (const id of Object.keys(lines)) {
        await until(`${id} is not started`, async () => (await shown(scene, "n1", id)).state === "backoff");
        assert.equal((await cluster.master.state.stitch(`n1:${id}`)).pid, null);
        const started = await cluster.run({ command: "stitch.start", target: `n1:${id}` });
        assert.equal(started.error?.code, "spec_unknown", JSON.stringify(started));
        assert.equal((await cluster.run({ command: "stitch.remove", target: `n1:${id}` })).status, "succeeded");
      }
      await until("web runs again", () => runs().filter((line) => line === "web web on n1").length === 2);
      onlyThoseAsked(runs(), "other other on n2", "web web on n1", "web web on n1");
      const kept = readFileSync(journal, "utf8");
      for (const id of Object.keys(planted)) assert.ok(!kept.includes(`"id":"${id}"`), `${id} is in the journal`);
      assert.ok(existsSync(join(dir, "specs", own)));
    });
  });

  it("as a task into the queue of its node, under an open job, creates nothing", async () => {
    await withThief(async (scene) => {
      const { cluster, keys, thief, runs, saying } = scene;
      await createEach(scene);
      // A job that waits for a node that is away has a task that can still be claimed.
      const { redis } = cluster.open;
      await registerTestNode(redis, keys, "away");
      const open = await cluster.run(
        {
          command: "stitch.create",
          target: GROUP,
          node: "away",
          id: "later",
          spec: saying("web").spec,
          waitForNode: true,
        },
        null,
        0,
      );
      const dispatcher = new Dispatcher(thief, keys);
      await dispatcher.ready();
      const step = {
        action: "create",
        group: GROUP,
        specHash: saying("other").specHash,
        start: true,
        timeoutMs: 1000,
      } as const;
      const forge = (job: string, id: string, stitch: string, revision: number) =>
        dispatcher.dispatch([
          {
            job,
            revision,
            deadlineAtMs: 9e12,
            task: {
              id,
              node: "n1",
              runs: "node",
              attempt: 1,
              wave: 0,
              refused: null,
              steps: [{ ...step, stitch: `n1:${stitch}` }],
            },
          },
        ]);
      await forge(open.id, "t8", "forged", 999);
      // An id that has an assignment, but with another program.
      await forge(open.id, "t9", "web", 999);
      const outcomes = await until("n1 has answered", async () => {
        const all = await redis.hgetall(keys.jobOutcomes(open.id, "n1"));
        const told = Object.entries(all).filter(([field]) => field.startsWith("s:"));
        return told.length === 2 && told.map(([, text]) => (JSON.parse(text) as StepOutcome).error?.code);
      });
      assert.deepEqual(outcomes, ["spec_unknown", "spec_unknown"]);
      await assert.rejects(cluster.master.state.stitch("n1:forged"), { code: "not_found" });
      onlyThoseAsked(runs(), "other other on n2", "web web on n1");
    });
  });
});
