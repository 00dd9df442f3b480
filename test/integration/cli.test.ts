import assert from "node:assert/strict";
import { join } from "node:path";
import { it } from "node:test";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

/** Runs `stitch` against the API. `ok` fails where it does not end with 0, and gives its output. */
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

it("the command line does to a real cluster what it says, and ends with the code that says how it went", async () => {
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
    assert.match(await ok("logs", "says", "-n", "1"), /^\S+Z stdout a word\n$/);

    assert.match(await ok("stop", "one"), /succeeded|stopped/);
    assert.equal((await cluster.master.stitch("one")).state, "stopped");
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

it("the command line sends messages to real stitches, and looks after the dead letters", async () => {
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
    assert.match(await ok("dead-letters"), /n1:talks\s.*stitch_failed\s+5\s.*out of paper/);
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
