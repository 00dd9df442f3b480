import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import { RequestError } from "../../src/domain/errors.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { REDISES, withCluster } from "../support/cluster.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";

const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"] };

for (const redis of REDISES) {
  describe(`group commands on a ${redis.name}`, () => {
    it("become one task per node, and act on every member", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all([cluster.node("n1"), cluster.node("n2")]);
        for (const [target, count] of [
          ["shop.orders.1", 4],
          ["shop.orders.2", 2],
          ["shopping.cart.1", 1],
        ])
          assert.equal((await cluster.run({ command: "stitch.create", target, count, spec })).status, "succeeded");

        const stopped = await cluster.run({ command: "group.stop", target: "shop.orders" });
        assert.equal(stopped.status, "succeeded");
        assert.deepEqual(
          stopped.tasks.map(({ node, steps }) => `${node}: ${steps.length}`).sort(),
          ["n1: 3", "n2: 3"],
          "one task a node, whatever the number of stitches",
        );
        const states = async (group: string) => {
          const { items } = await cluster.master.state.stitches({ limit: 100, cursor: null }, { group });
          return items.map(({ state }) => state);
        };
        assert.deepEqual(
          await states("shop"),
          Array.from({ length: 6 }, () => "stopped"),
        );
        assert.deepEqual(await states("shopping"), ["running"], "a group is its parts, not a prefix of letters");

        const again = await cluster.run({ command: "group.stop", target: "shop" });
        assert.equal(again.status, "succeeded");
        const changes = again.tasks.flatMap(({ steps }) => steps.map(({ changed }) => changed));
        assert.deepEqual(
          changes,
          Array.from({ length: 6 }, () => false),
        );

        const one = await cluster.run({ command: "group.start", target: "shop.orders.2" });
        assert.equal(one.counts.succeeded, 2);
        assert.deepEqual((await states("shop")).sort(), [
          "running",
          "running",
          ...Array.from({ length: 4 }, () => "stopped"),
        ]);

        const removed = await cluster.run({ command: "group.remove", target: "shop" });
        assert.equal(removed.counts.succeeded, 6);
        assert.deepEqual(await states("shop"), []);
        await assert.rejects(
          cluster.run({ command: "group.stop", target: "shop" }),
          (error) => error instanceof RequestError && error.code === "not_found",
        );
      });
    });
  });
}

it("a group command reaches a member whose route a failover lost, but not one whose route names another group", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async ({ open, master }) => {
    const { redis, keys } = open;
    for (const id of ["a", "b", "c"]) await publishTestStitch(open, "n1", id, "shop.orders.1");
    await redis.del(keys.route("a"));
    await redis.hset(keys.route("b"), "n1", "shop.other.1");
    const submitted = await master.commands.submit({
      command: COMMANDS["group.stop"].schema.parse({ command: "group.stop", target: "shop.orders.1", dryRun: true }),
      idempotencyKey: null,
      scope: "",
      by: null,
      waitMs: 0,
    });
    assert.ok(submitted.kind === "plan");
    const stitches = submitted.plan.tasks.flatMap(({ steps }) => steps.map(({ stitch }) => stitch));
    assert.deepEqual(new Set(stitches), new Set(["n1:a", "n1:c"]));
  });
});

it("stops all members of a large group at the same time: none waits until another has ended", async () => {
  const modules = `together=${join(import.meta.dirname, "../support/modules/together.mjs")}`;
  await withCluster(REDISES[0]?.url ?? "", { STITCH_MODULES: modules }, async (cluster) => {
    await cluster.node("n1");
    const target = "ends.of-200.1";
    const together = { adaptor: "module", module: "together", stopGraceMs: 60_000 };
    const created = await cluster.run({ command: "stitch.create", target, count: 200, spec: together });
    assert.equal(created.counts.succeeded, 200);
    const stopped = await cluster.run({ command: "group.stop", target });
    assert.deepEqual([stopped.status, stopped.counts.succeeded], ["succeeded", 200]);
  });
});

it("groups and versions may have the names of built-in object properties, such as __proto__", async () => {
  const names = ["__proto__", "constructor", "hasOwnProperty", "toString"];
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const { open, master } = cluster;
    for (const [index, name] of names.entries())
      await publishTestStitch(open, "n1", `s${index}`, `constructor.__proto__.${name}`);
    const counted = Object.fromEntries(names.map((name) => [name, 1]));
    const [all, { items }, { url }] = await Promise.all([
      master.state.group("constructor"),
      master.state.groups({ cursor: null, limit: 10 }),
      cluster.api(),
    ]);
    assert.deepEqual(
      items.map(({ group }) => group),
      ["constructor.__proto__"],
    );
    for (const group of [all, ...items]) {
      assert.deepEqual(group.versions, [...names].sort());
      assert.deepEqual(group.stitches.byVersion, counted);
    }
    const text = await (await checkedFetch(`${url}/v1/groups/constructor`)).text();
    for (const name of names) assert.ok(text.includes(`"${name}":1`), text);
  });
});
