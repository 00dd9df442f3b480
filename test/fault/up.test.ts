// The cluster of `stitch up` when one of its own processes dies.
import assert from "node:assert/strict";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createClient } from "../../src/client/client.ts";
import { until } from "../support/cluster.ts";
import { processesOf } from "../support/process-list.ts";
import { quietPort } from "../support/quiet-port.ts";
import { Script, shellEnv } from "../support/script.ts";

const LAUNCHER = join(import.meta.dirname, "../../src/cli/stitch.mjs");
const START_LIMIT_MS = 90_000;
const STOP_LIMIT_MS = 40_000;

test("stitch up starts a node and the API again that have died, and says so", { timeout: 300_000 }, async (t) => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "cs-up-")));
  const port = await quietPort();
  const up = new Script(process.execPath, [LAUNCHER, "up"], folder, shellEnv({ STITCH_PORT: String(port) }));
  t.after(async () => {
    await up.kill();
    await until("no process is left", async () => (await processesOf(folder)).length === 0, STOP_LIMIT_MS);
    await rm(folder, { recursive: true, force: true });
  });
  await up.printed(/What happens from here on/, START_LIMIT_MS);
  const client = createClient({ url: `http://127.0.0.1:${port}` });
  /** The process of a part: the one that works in its folder. */
  const pidOf = async (part: string) => {
    const role = part === "api" ? "api" : "node";
    const lines = await processesOf(join(folder, ".crossstitch", part));
    const found = lines.filter((line) => line.includes(`stitch.mjs ${role} `));
    assert.equal(found.length, 1, lines.join("\n"));
    return Number.parseInt(found[0] ?? "", 10);
  };

  const before = await client.node("n2");
  process.kill(await pidOf("n2"), "SIGKILL");
  await up.printed(/^n2 has ended: SIGKILL\.$[^]*^The others go on\. It is started again in 1 s\.$/m, STOP_LIMIT_MS);
  await up.printed(/^n2 is started again\.$/m, STOP_LIMIT_MS);
  await until("n2 is back, with its stitches", async () => {
    const node = await client.node("n2");
    return (
      node.incarnation > before.incarnation && node.liveness === "alive" && node.stitchCount === before.stitchCount
    );
  });

  process.kill(await pidOf("api"), "SIGKILL");
  await up.printed(/^api is started again\.$/m, STOP_LIMIT_MS);
  const { job } = await until("the API is back", () =>
    client.command({ command: "node.ping", target: "n1" }).catch(() => null),
  );
  await up.printed(new RegExp(`job\\.ended .*job=${job?.id}`), STOP_LIMIT_MS);

  up.interrupt();
  assert.equal(await up.end(STOP_LIMIT_MS), 130, up.output);
});
