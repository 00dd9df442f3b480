import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

/** A stitch counts as healthy as soon as it is up, so that no test waits longer than it must. */
const SOON = ["--min-healthy", "1ms"];

/** Runs `stitch` against the API. `ok` fails if the exit code is not 0, and returns the output. */
function commandLine(cluster: TestCluster, url: string) {
  const stitch = async (...args: string[]) => {
    const part = cluster.part(args, { STITCH_URL: url });
    const code = await part.exited;
    return { code, output: part.output };
  };
  const ok = async (...args: string[]) => {
    const { code, output } = await stitch(...args);
    assert.equal(code, 0, `stitch ${args.join(" ")}:\n${output}`);
    return output;
  };
  return { stitch, ok };
}

it("the command line manages stitches and nodes of a real cluster; its exit code tells how the command ended", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const { url } = await cluster.api();
    await cluster.masterWorker();
    await Promise.all([cluster.node("n1"), cluster.node("n2")]);
    const { stitch, ok } = commandLine(cluster, url);

    assert.match(await ok("nodes"), /n1\s+alive[\s\S]*n2\s+alive/);
    await ok("run", "shop.orders.1", "--id", "one", "--node", "n1", "--env", "A=b", "--", "sleep", "600");
    assert.match(await ok("ps"), /n1:one\s+shop\.orders\.1\s+running\s+running/);
    const shown = JSON.parse(await ok("ps", "one", "--json")) as { spec: { env: Record<string, string> } };
    assert.deepEqual(shown.spec.env, { A: "b" });

    await ok("run", "shop.orders.1", "--id", "says", "--node", "n1", "--", "sh", "-c", "echo a word; exec sleep 600");
    await until("its log is shown", async () => {
      const { code, output } = await stitch("logs", "says", "-n", "1");
      return code === 0 && /^\S+Z stdout a word\n$/.test(output);
    });

    assert.match(await ok("stop", "one"), /succeeded|stopped/);
    assert.equal((await cluster.master.state.stitch("one")).state, "stopped");
    await ok("start", "n1:one");
    await ok("cordon", "n2");
    await ok("cordon", "n1");
    const full = ["run", "shop.orders.1", "--", "sleep", "600"];
    const refused = await stitch(...full);
    assert.equal(refused.code, 2, refused.output);
    assert.match(refused.output, /cordoned/);
    assert.equal((await stitch("plan", ...full)).code, 2);
    await ok("uncordon", "n2");
    const plan = await ok("plan", ...full);
    assert.match(plan, /n2/);
    await ok("ping", "n2");

    const failed = await stitch(
      "run",
      "shop.orders.1",
      "--id",
      "bad",
      "--node",
      "n2",
      "--",
      "sh",
      "-c",
      "echo why >&2; exit 4",
    );
    assert.equal(failed.code, 3, failed.output);
    assert.match(failed.output, /exited_early[\s\S]*why/);

    const jobs = JSON.parse(await ok("jobs", "--json")) as { items: { id: string; status: string }[] };
    assert.ok(jobs.items.some(({ status }) => status === "failed"));
    assert.match(await ok("jobs", jobs.items[0]?.id ?? ""), /shop\.orders\.1/);
    assert.match(await ok("events", "--type", "stitch.*"), /stitch\.created/);
    assert.match(await ok("status"), new RegExp(cluster.name));
    await ok("rm", "one");
    const gone = await stitch("ps", "one");
    assert.equal(gone.code, 1);
    assert.match(gone.output, /no stitch "one"/);
    assert.equal((await stitch("node", "n1")).code, 1);
    const nowhere = cluster.part(["nodes"], { STITCH_URL: "http://127.0.0.1:9" });
    assert.equal(await nowhere.exited, 1);
    assert.match(nowhere.output, /127\.0\.0\.1:9[\s\S]*stitch up/);
  });
});

it("the command line scales, moves, restarts, rebalances, drains, retries and rolls back", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const { url } = await cluster.api();
    await cluster.masterWorker();
    await Promise.all([cluster.node("n1"), cluster.node("n2")]);
    const { stitch, ok } = commandLine(cluster, url);
    const ends = async (code: number, ...args: string[]) => {
      const ended = await stitch(...args);
      assert.equal(ended.code, code, `stitch ${args.join(" ")}:\n${ended.output}`);
      return ended.output;
    };
    const tokenOf = (plan: string) => /--plan (\S+)/.exec(plan)?.[1] ?? assert.fail(plan);
    const lastJob = async (command: string) => {
      const { items } = JSON.parse(await ok("jobs", "--command", command, "--json")) as { items: { id: string }[] };
      return items[0]?.id ?? assert.fail(`no job ${command}`);
    };
    const orders = async () => {
      const { items } = await cluster.master.state.stitches({ limit: 100, cursor: null }, { group: "shop.orders.1" });
      return items.map(({ node }) => node).sort();
    };

    await ok("run", "shop.orders.1", "--count", "2", "--", "sleep", "600");
    const growth = await ok("plan", "scale", "shop.orders.1", "4");
    assert.match(growth, /^Placements\nSTITCH\s+NODE\s+REASON\nn\d:orders-\d+\s+n\d\s+\S/);
    assert.match(growth, /\nTasks\nNODE\s+ACTION\s+STITCH\nn\d\s+create\s+n\d:orders-\d+\n/);
    assert.equal((await orders()).length, 2);
    const grown = await ok("scale", "shop.orders.1", "4", "--plan", tokenOf(growth));
    assert.match(grown, /group\.scale shop\.orders\.1: succeeded, 2 of 2/);
    assert.equal(grown.match(/^n[12]:orders-\d+$/gm)?.length, 2, grown);
    assert.deepEqual(await orders(), ["n1", "n1", "n2", "n2"]);
    assert.match(await ends(1, "scale", "shop.orders.1", "4", "--plan", tokenOf(growth)), /^plan_stale: /);
    assert.match(
      await ends(2, "plan", "scale", "shop.orders.1", "5", "--zone", "nowhere"),
      /Refusals\nNODE\s+CODE\s+MESSAGE\nn1\s+zone/,
    );
    assert.match(await ends(2, "scale", "shop.orders.1", "5", "--zone", "nowhere"), /placement_failed: [^]*n1\s+zone/);
    assert.match(await ends(1, "scale", "shop.none.1", "5"), /^no_template: /);
    assert.match(await ok("jobs", "rollback", await lastJob("group.scale")), /group\.scale shop\.orders\.1: succeeded/);
    assert.deepEqual(await orders(), ["n1", "n2"]);
    await ok("scale", "shop.orders.1", "4");

    assert.match(await ok("plan", "restart", "shop", "--group", "--batch", "50%"), /n2\s+restart\s+n2:orders-/);
    assert.match(await ok("restart", "shop.orders", "--batch", "50%", ...SOON), /wave [12] of 2 [^]*succeeded, 4 of 4/);
    const restart = await lastJob("group.restart");
    const shown = await ok("jobs", restart);
    assert.match(shown, /options\s+batch=50%/);
    assert.match(shown, /progress\s+wave 2 of 2, 4 of 4 restarted/);
    assert.match(await ends(1, "jobs", "rollback", restart), /^not_reversible: /);
    assert.match(await ends(1, "jobs", "retry", restart), /^job_finished: /);

    const keeps = ["sh", "-c", "echo kept > file; exec sleep 600"];
    await ok("run", "shop.pinned.1", "--id", "pin", "--node", "n1", "--", ...keeps);
    const way = await until("its data is seen", async () => {
      const plan = await ok("plan", "move", "pin", "--to", "n2", ...SOON);
      return plan.includes("data_stays") ? plan : null;
    });
    assert.match(way, /Placements\n.*\nn2:pin\s+n2\s+named in the command/);
    assert.match(way, /n2\s+create\s+n2:pin\nn1\s+remove\s+n1:pin\nn2\s+settle\s+n2:pin/);
    assert.match(way, /Warnings\n.*\ndata_stays\s+n1:pin\s+its data folder/);
    assert.match(await ok("move", "pin", "--to", "n2", ...SOON, "--plan", tokenOf(way)), /^n2:pin$/m);
    assert.match(await ends(1, "ps", "n1:pin"), /not_found: [^]*it is now n2:pin/);
    const move = await lastJob("stitch.move");
    const back = await ok("jobs", "rollback", move);
    assert.match(back, /^n1:pin$/m);
    assert.match(await ok("jobs", move), new RegExp(`rolled back by\\s+${await lastJob("stitch.move")}`));

    await ok("run", "shop.orders.2", "--node", "n2", "--", "sleep", "600");
    assert.match(await ok("plan", "stop-old", "shop.orders.2"), /n1\s+stop\s+n1:orders-/);
    assert.match(await ok("stop-old", "shop.orders.2", "--force"), /succeeded, 4 of 4/);
    const taken = await ok("jobs", "rollback", await lastJob("group.stopOldVersions"), "--reason", "version 2 is slow");
    assert.match(taken, /group\.start shop\.orders\.1: succeeded/);
    assert.match(await ok("jobs", await lastJob("group.start")), /reason\s+version 2 is slow/);

    const leaving = await ok("plan", "drain", "n1", "--force-after", "5s", ...SOON);
    assert.match(leaving, /Placements\n.*\nn2:orders-\d+\s+n2\s+\S/);
    assert.match(leaving, /cannot_move\s+n1:pin\s+it was placed on this node by name/);
    const drained = await ok("drain", "n1", "--force-after", "5s", ...SOON, "--yes");
    assert.equal(drained.match(/^n2:orders-\d+$/gm)?.length, 2, drained);
    assert.match(await ok("nodes", "n1"), /eligibility\s+cordoned/);
    assert.match(await ok("ps", "pin"), /state\s+stopped/);
    await ok("uncordon", "n1");

    assert.match(await ok("plan", "rebalance", "shop.orders"), /Placements\n.*\nn1:orders-/);
    const spread = await ok("rebalance", "shop.orders", "--max-moves", "1", ...SOON);
    assert.equal(spread.match(/^n1:orders-\d+$/gm)?.length, 1, spread);
    assert.deepEqual(await orders(), ["n1", "n2", "n2", "n2"]);

    const file = join(cluster.dir, "ready");
    const once = ["sh", "-c", `[ -e ${file} ] && exec sleep 600; echo not yet >&2; exit 4`];
    await ends(3, "run", "shop.late.1", "--id", "late", "--restart", "never", "--", ...once);
    writeFileSync(file, "");
    const create = await lastJob("stitch.create");
    assert.match(await ok("jobs", "retry", create), /The new job: (j\w+)[^]*succeeded, 1 of 1/);
    assert.equal((await cluster.master.state.stitch("late")).state, "running");
    assert.match(await ok("jobs", create), /retried by\s+j\w+/);
    assert.match(await ends(1, "jobs", "retry", `j${"a".repeat(26)}`), /^not_found: /);
  });
});

it("the command line sends messages to real stitches, and lists, redrives and deletes dead letters", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const { url } = await cluster.api();
    await cluster.node("n1");
    const { stitch, ok } = commandLine(cluster, url);
    const probe = join(import.meta.dirname, "../unit/client/probe-stitch.ts");
    await cluster.create("n1", "talks", [process.execPath, probe], { protocol: "process-v1" });
    await cluster.create("n1", "deaf", ["sleep", "600"]);

    assert.match(await ok("send", "talks", "hello", "--channel", "nothing"), /n1:talks\s+accepted/);
    assert.equal(await ok("send", "talks", "hello", "--channel", "echo", "--reply", "--timeout", "60s"), "hello\n");
    const group = ["send", "test.stitch", "x", "--channel", "echo", "--timeout", "60s"];
    assert.match(await ok(...group, "--ack"), /n1:talks\s+replied\s+x/);
    assert.equal(await ok(...group, "--reply"), "x\n");
    const refused = await stitch("send", "deaf", "x");
    assert.equal(refused.code, 1);
    assert.match(refused.output, /^not_addressable: /);
    assert.equal((await stitch("send", "nobody", "x")).code, 1);

    const failed = await stitch("send", "talks", "out of paper", "--channel", "throw", "--ack", "--timeout", "60s");
    assert.equal(failed.code, 3, failed.output);
    assert.match(failed.output, /^stitch_failed: /);
    const letters = async () =>
      (JSON.parse(await ok("dead-letters", "--stitch", "talks", "--json")) as { items: { id: string }[] }).items;
    assert.match(await ok("dead-letters"), /n1:talks\s.*stitch_failed: \S.*\s5\s.*out of paper/);
    const [first] = await letters();
    assert.equal(await ok("dead-letters", "redrive", first?.id ?? ""), "n1:talks\n");
    const again = await until("it is dead again", async () => {
      const [letter] = await letters();
      return letter === undefined || letter.id === first?.id ? null : letter;
    });
    assert.equal(await ok("dead-letters", "rm", again.id), "");
    assert.equal(await ok("dead-letters"), "No dead letters.\n");
    assert.equal((await stitch("dead-letters", "rm", again.id)).code, 1);
  });
});
