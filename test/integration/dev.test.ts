import assert from "node:assert/strict";
import { appendFile, cp, mkdtemp, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createClient } from "../../src/client/client.ts";
import { waitUntil } from "../../src/cli/processes/wait-until.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { processesOf } from "../support/process-list.ts";
import { quietPort } from "../support/quiet-port.ts";
import { Script, shellEnv } from "../support/script.ts";

const root = join(import.meta.dirname, "../..");
const START_LIMIT_MS = 90_000;
const RESTART_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 40_000;

test("npm run dev restarts a part when its code changes, and only that part", { timeout: 6 * 60_000 }, async (t) => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "dev-")));
  const copied = ["src", "workers", "infra", "package.json", "tsconfig.json", "LICENSE"];
  for (const name of copied) await cp(join(root, name), join(folder, name), { recursive: true });
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  const port = await quietPort();
  const { dev = "" } = (JSON.parse(await readFile(join(root, "package.json"), "utf8")) as Scripts).scripts;
  assert.match(dev, /^node infra\/bootstrap\.mjs && node_modules\/\.bin\/node src\/cli\/stitch\.mjs up --watch$/);
  const args = ["src/cli/stitch.mjs", "up", "--watch"];
  const up = new Script(process.execPath, args, folder, shellEnv({ STITCH_PORT: String(port) }));
  t.after(async () => {
    await up.kill();
    await waitUntil(async () => (await processesOf(folder)).length === 0, STOP_LIMIT_MS);
    await rm(folder, { recursive: true, force: true });
  });
  await up.printed(/What happens from here on/, START_LIMIT_MS);

  const url = `http://127.0.0.1:${port}`;
  const client = createClient({ url, fetch: checkedFetch });
  const incarnations = async () => new Map((await client.nodes()).items.map((node) => [node.id, node.incarnation]));
  const restarts = async (part: string) =>
    (await readFile(join(folder, ".crossstitch/logs", `${part}.log`), "utf8")).split("Restarting").length - 1;
  const isUp = async () => (await client.nodes().catch(() => null)) !== null;
  const within = async (what: string, isSo: () => Promise<boolean>) =>
    assert.ok(await waitUntil(isSo, RESTART_LIMIT_MS), `${what}\n${up.output}`);

  await t.test("a change of the node worker restarts the nodes", async () => {
    const before = await incarnations();
    await appendFile(join(folder, "workers/node/stitches/publisher.ts"), "// changed\n");
    await within("every node has a newer incarnation", async () => {
      const now = await incarnations();
      return [...before].every(([id, incarnation]) => (now.get(id) ?? 0) > incarnation);
    });
    assert.equal(await restarts("api"), 0);
  });

  await t.test("a change that does not compile stops the API until it is put right", async () => {
    const app = join(folder, "src/api/app.ts");
    const source = await readFile(app, "utf8");
    await writeFile(app, `${source}\nthis is no code\n`);
    await within("the API is down", async () => !(await isUp()));
    await writeFile(app, source);
    await within("the API is up", isUp);
    assert.ok((await restarts("api")) > 0);
    assert.equal(await restarts("n1"), 1);
  });

  await t.test("Ctrl-C ends every part", async () => {
    up.interrupt();
    assert.equal(await up.end(STOP_LIMIT_MS), 130);
    assert.ok(await waitUntil(async () => (await processesOf(folder)).length === 0, STOP_LIMIT_MS));
  });
});

type Scripts = { readonly scripts: { readonly dev?: string } };
