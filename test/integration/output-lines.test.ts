// How output of programs that does not end a line gets into their logs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { runStitch } from "../unit/cli/run-stitch.ts";

const PROGRAM = `
printf '\\r10 %%\\r20 %%\\r30 %%\\r\\ndone\\r\\n'
printf 'name? ' >&2
head -c 70000 /dev/zero | tr '\\0' x
echo
read answer
echo 'thanks' >&2
exec sleep 600`;

test("a progress bar, a question without a line end and a line that is too long are logged as they are printed", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    await cluster.node("n1");
    await cluster.create("n1", "a", ["sh", "-c", `mkfifo in; exec 0<>in; ${PROGRAM}`]);
    const lines = async (source: string) =>
      (await cluster.master.state.logs("n1:a", 100)).items
        .filter((line) => line.source === source)
        .map(
          ({ line, continued }) =>
            (line.startsWith("xxx") ? `${line.length} x` : line) + (continued === true ? "…" : ""),
        );
    await until("the question is shown while it is asked", async () => (await lines("stderr")).join("|") === "name? …");
    assert.deepEqual(await lines("stdout"), ["10 %", "20 %", "30 %", "done", "65536 x"]);
    assert.deepEqual(await lines("system"), ["the line before was cut: 4464 more bytes are not kept"]);
    const { url } = await cluster.api();
    const shown = await runStitch(["logs", "n1:a"], { STITCH_URL: url });
    assert.match(shown.stdout, / stderr name\? {2}…\n/);
    const json = await runStitch(["logs", "n1:a", "--json"], { STITCH_URL: url });
    assert.match(json.stdout, /"line":"name\? ","continued":true\}/);
    const { items } = JSON.parse(json.stdout) as { items: object[] };
    assert.equal(items.filter((line) => "continued" in line).length, 1);
  });
});

test("with process-v1, a line of standard output is never logged before it ends", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    await cluster.node("n1");
    // Half a line, for longer than a node waits for the rest. The same on stderr, where that wait ends and the half is logged.
    const program = `printf 'half '; printf 'half ' >&2; while read line; do case $line in *heartbeat*) ;; esac; done`;
    const job = await cluster.run({
      command: "stitch.create",
      target: "test.stitch.1",
      node: "n1",
      id: "v",
      timeoutMs: 5000,
      spec: { adaptor: "process", protocol: "process-v1", command: ["sh", "-c", program], minHealthyMs: 0 },
    });
    assert.equal(job.status, "failed", "it answers no heartbeat");
    const { items } = await cluster.master.state.logs("n1:v", 100);
    assert.ok(items.some(({ source, continued }) => source === "stderr" && continued === true));
    assert.ok(!items.some(({ source }) => source === "stdout"));
  });
});
