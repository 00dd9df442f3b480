// Commands with large specs: Redis gets each spec once, whatever refers to it. A command that cannot be carried out is refused
// before it is accepted.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Redis } from "ioredis";
import { checkedFetch } from "../support/checked-fetch.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const url = REDISES[0]?.url ?? "";

const MARK = "a-variable-of-this-spec";
const specOf = (kib: number) => ({
  adaptor: "process",
  protocol: "none",
  minHealthyMs: 0,
  command: ["sleep", "600"],
  env: {
    MARK,
    ...Object.fromEntries(Array.from({ length: Math.floor(kib / 8) }, (_, index) => [`V${index}`, "v".repeat(8100)])),
  },
});

async function post(api: string, body: object) {
  const response = await checkedFetch(`${api}/v1/commands`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: response.status, answer: (await response.json()) as Record<string, unknown> };
}

/** The memory that all keys of the cluster take in Redis, in bytes. */
async function bytesOf(redis: Redis, { name }: TestCluster): Promise<number> {
  const keys = await redis.keys(`cs:${name}:*`);
  const sizes = await Promise.all(keys.map((key) => redis.memory("USAGE", key, "SAMPLES", 0)));
  return sizes.reduce<number>((sum, size) => sum + Number(size ?? 0), 0);
}

describe("a large spec", { concurrency: 2 }, () => {
  it("goes to Redis once, with its command, and takes 2 KB more for each stitch; copies and moves send none", async () => {
    await withOwnRedis(async (own) => {
      // MONITOR starts before anything else is sent: the client fails if it sees another client's command at once.
      const raw = new Redis(own.url);
      const monitor = await raw.monitor();
      const work = withCluster(own.url, {}, async (cluster) => {
        let seen = 0;
        const marks = new Set<string>();
        const mine = `cs:${cluster.name}:`;
        monitor.on("monitor", (_time: string, args: readonly string[]) => {
          if (args[0] === "echo") marks.add(args[1] ?? "");
          if (!args.some((arg) => arg.includes(mine))) return;
          seen += args.join(" ").split(MARK).length - 1;
        });
        const [n1] = await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        const spec = specOf(48);
        const before = await bytesOf(raw, cluster);
        const made = await cluster.run({
          command: "stitch.create",
          target: "shop.web.1",
          count: 300,
          spec,
          start: false,
        });
        assert.equal(made.status, "succeeded");
        /** How often the spec was sent since the last call. MONITOR shows earlier commands before this echo. */
        const sentSince = async () => {
          const mark = `end-${Math.random()}`;
          await raw.echo(mark);
          await until("the monitor has seen it", () => marks.has(mark));
          const count = seen;
          seen = 0;
          return count;
        };
        assert.equal(await sentSince(), 1, "the command");
        const growth = (await bytesOf(raw, cluster)) - before;
        const text = JSON.stringify(spec).length;
        assert.ok(growth < text + 2048 * 300, `${growth} bytes for 300 stitches of a spec of ${text}`);
        const [first = "", second = ""] = made.stitches;
        for (const body of [
          { command: "stitch.clone", target: first },
          { command: "stitch.start", target: first },
          { command: "stitch.move", target: first },
          { command: "stitch.remove", target: first.replace(/^n./, (node) => (node === "n1" ? "n2" : "n1")) },
          { command: "group.scale", target: "shop.web.1", count: 305 },
          { command: "stitch.remove", target: second },
          { command: "group.rebalance", target: "shop.web.1" },
          { command: "node.drain", target: "n1" },
          { command: "node.uncordon", target: "n1" },
        ] as const) {
          const { id, status } = await cluster.run(body);
          assert.deepEqual([status, await sentSince()], ["succeeded", 0], body.command);
          if (body.command !== "stitch.remove" || body.target !== second) continue;
          const back = await cluster.master.commands.rollback(id);
          assert.equal((await cluster.master.commands.job(back.id, 30_000)).status, "succeeded");
          assert.equal(await sentSince(), 0, "its rollback");
        }
        assert.equal(await n1?.kill("SIGTERM"), 0);
        await cluster.node("n1");
        assert.equal(await sentSince(), 0, "a node that publishes all it has");
        const api = (await cluster.api()).url;
        const list = (await (await checkedFetch(`${api}/v1/stitches?limit=1000`)).json()) as {
          items: { spec?: unknown }[];
        };
        assert.ok(list.items.length > 300 && list.items.every(({ spec: each }) => each === undefined));
        const [one] = (await cluster.master.state.stitches({ limit: 1, cursor: null }, {})).items;
        const whole = await cluster.master.state.stitch(one?.fullId ?? "");
        assert.deepEqual(
          [whole.spec?.adaptor === "process" && whole.spec.env, whole.specHash],
          [spec.env, one?.specHash],
        );
        const job = await cluster.master.commands.job(made.id, 0);
        assert.deepEqual((job.options["spec"] as typeof spec).env, spec.env);
        const listed = await cluster.master.commands.jobs({ limit: 1000, cursor: null }, { command: "stitch.create" });
        const row = listed.items.find(({ id }) => id === made.id);
        assert.deepEqual([row?.options["spec"], typeof row?.options["specHash"]], [undefined, "string"]);
      });
      await work.finally(() => {
        monitor.disconnect();
        raw.disconnect();
      });
    });
  });

  it("is accepted and can be dispatched for any number of stitches, and jobs can be listed", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      await registerTestNode(redis, keys, "n1");
      const api = (await cluster.api()).url;
      const create = { command: "stitch.create", target: "shop.web.1", start: false };
      assert.equal((await post(api, { ...create, count: 1000, spec: specOf(60) })).status, 202);
      assert.equal((await post(api, { ...create, count: 300, spec: specOf(240) })).status, 202);
      const queued = () => redis.llen(keys.nodeQueue("n1", "wait"));
      await until("both are in the queue of their node", async () => (await queued()) === 2);
      const { items } = await cluster.master.commands.jobs({ limit: 10, cursor: null }, {});
      assert.equal(items.length, 2);
    });
  });
});

it("a command that could never be dispatched is refused, planned or not, and jobs can be listed", async () => {
  await withCluster(url, {}, async (cluster) => {
    const { redis, keys } = cluster.open;
    const labels = Object.fromEntries(
      Array.from({ length: 100 }, (_, n) => [`${n}`.padEnd(250, "l"), "v".repeat(250)]),
    );
    await registerTestNode(redis, keys, "n1");
    await cluster.run({ command: "node.relabel", target: "n1", labels });
    const api = (await cluster.api()).url;
    const create = { command: "stitch.create", target: "shop.web.1", spec: specOf(0), placement: { labels } };
    for (const more of [{}, { dryRun: true }]) {
      const { status, answer } = await post(api, { ...create, count: 1000, ...more });
      assert.deepEqual([status, answer["code"]], [413, "too_large"]);
      assert.match(String(answer["detail"]), /at most 16 MiB.*Nothing was changed/);
    }
    assert.equal((await redis.keys(`cs:${cluster.name}:{job:*`)).filter((key) => !key.includes(":out:")).length, 1);
    assert.deepEqual(await redis.keys(`cs:${cluster.name}:spec:*`), []);
    const fits = await post(api, { ...create, count: 40 });
    assert.equal(fits.status, 202, JSON.stringify(fits.answer).slice(0, 1000));
    assert.equal((await cluster.master.commands.jobs({ limit: 10, cursor: null }, {})).items.length, 2);
  });
});
