// Runs infra/compose.yaml in the image that it builds: its commands, settings, mounts, users, rights and health checks.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import * as z from "zod";
import { until } from "../support/cluster.ts";
import { readCompose } from "../support/compose-file.ts";
import { ComposeRun, whyNoRedis } from "../support/compose-run.ts";
import { ImageRoots } from "../support/image-roots.ts";

const roots = await ImageRoots.make();
const skip = typeof roots === "string" ? roots : whyNoRedis();
const secret = () => randomBytes(32).toString("hex");
const SECRETS = { REDIS_PASSWORD: secret(), STITCH_TOKEN: secret() };

const nodes = z.object({
  items: z.array(z.object({ id: z.string(), liveness: z.string(), zones: z.array(z.string()) })),
});
const masters = z.object({ items: z.array(z.object({ id: z.string() })) });
const job = z.object({ id: z.string(), status: z.string() });
const stitch = z.object({ node: z.string(), state: z.string() });
const node = z.object({ liveness: z.string(), eligibility: z.string() });

after(async () => {
  if (typeof roots !== "string") await roots.end();
});

describe("a cluster from infra/compose.yaml", { skip }, () => {
  if (typeof roots === "string") return;
  let run: ComposeRun;
  const undo: (() => Promise<void>)[] = [];
  before(async () => {
    run = await ComposeRun.create(readCompose(SECRETS), roots);
    undo.push(() => run.end());
  });
  after(async () => {
    for (const each of undo) await each();
  });

  /** `docker compose exec api stitch …` */
  const answerOf = async <T>(shape: z.ZodType<T>, command: string, ...args: string[]): Promise<T> => {
    const { code, stdout, stderr } = await run.container("api").exec(["stitch", command, "--json", ...args]);
    assert.equal(code, 0, stderr);
    return shape.parse(JSON.parse(stdout));
  };

  it("comes up healthy, in the order of what waits for what", async () => {
    await run.up();
    assert.equal(run.containers.size, 7);
  });

  it("has three nodes alive, each in its zone, and two masters", async () => {
    const found = (await answerOf(nodes, "nodes")).items;
    assert.deepEqual(
      found.map(({ id, liveness, zones }) => `${id} ${liveness} ${zones.join()}`),
      ["node-1 alive a", "node-2 alive b", "node-3 alive c"],
    );
    const ids = (await answerOf(masters, "masters")).items.map(({ id }) => id);
    assert.deepEqual(ids.sort(), ["master-1", "master-2"]);
  });

  it("runs a stitch; Redis keeps what only it has, also when it is killed", async () => {
    const created = await answerOf(job, "run", "test.compose.1", "--id", "sleeper", "--", "sleep", "600");
    assert.equal(created.status, "succeeded");
    assert.equal((await answerOf(stitch, "ps", "sleeper")).state, "running");

    await run.container("redis").stop("SIGKILL");
    run.container("redis").start();
    await run.healthy("redis");
    const isBack = async () => (await run.container("api").exec(["stitch", "jobs", created.id])).code === 0;
    await until("the API has its Redis again", isBack);
    assert.deepEqual(await answerOf(job, "jobs", created.id), created);
    await until("the stitch runs", async () => (await answerOf(stitch, "ps", "sleeper")).state === "running");
  });

  it("loses no stitch when a node is drained, replaced and uncordoned, as the docs say", async () => {
    const { node: from } = await answerOf(stitch, "ps", "sleeper");
    const drained = await answerOf(job, "drain", from, "--yes", "--min-healthy", "100ms");
    assert.equal(drained.status, "succeeded");
    const moved = await answerOf(stitch, "ps", "sleeper");
    assert.notEqual(moved.node, from);

    assert.equal(await run.container(from).stop(), 0);
    assert.equal((await answerOf(node, "nodes", from)).liveness, "left");
    run.container(from).start();
    await run.healthy(from);
    assert.deepEqual(await answerOf(node, "nodes", from), { liveness: "alive", eligibility: "cordoned" });
    await answerOf(job, "uncordon", from);
    assert.deepEqual(await answerOf(node, "nodes", from), { liveness: "alive", eligibility: "eligible" });
    assert.deepEqual(await answerOf(stitch, "ps", "sleeper"), { ...moved, state: "running" });
  });

  it("shows no secret in the list of processes, and refuses who has none", async () => {
    for (const [name, container] of run.containers) {
      const { stdout } = await container.exec(["sh", "-c", "cat /proc/[0-9]*/cmdline"]);
      assert.match(stdout, /redis-server|stitch/, name);
      for (const value of Object.values(SECRETS)) assert.ok(!stdout.includes(value), name);
    }
    const asStranger = ["env", "-u", "REDISCLI_AUTH", "redis-cli", "-e", "ping"];
    assert.match((await run.container("redis").exec(asStranger)).stderr, /NOAUTH/);
    const withoutToken = ["env", "-u", "STITCH_TOKEN", "stitch", "nodes"];
    assert.notEqual((await run.container("api").exec(withoutToken)).code, 0);
  });

  it("lets no service write outside its volume and its temporary folders, nor gain rights", async () => {
    for (const [name, container] of run.containers) {
      const { stdout } = await container.exec([
        "sh",
        "-c",
        "id -u; cat /proc/1/status; touch /opt/a /etc/a /usr/a 2>&1",
      ]);
      const status = (field: string) => new RegExp(`^${field}:\\t(\\S+)`, "m").exec(stdout)?.[1];
      assert.notEqual(status("Uid"), "0", name);
      assert.equal(status("CapEff"), "0".repeat(16), name);
      assert.equal(status("CapBnd"), "0".repeat(16), name);
      assert.equal(status("NoNewPrivs"), "1", name);
      assert.equal(stdout.match(/cannot touch '.*': Read-only file system/g)?.length, 3, stdout);
    }
  });

  it("ends in good order within the grace periods, and leaves no process", async () => {
    const { containers } = run;
    const first = [...containers.keys()].filter((name) => name !== "redis");
    const codes = await Promise.all(first.map(async (name) => `${name} ${await run.container(name).stop()}`));
    assert.deepEqual(
      codes,
      first.map((name) => `${name} 0`),
    );
    assert.equal(await run.container("redis").stop(), 0);
    assert.deepEqual(run.processes(), []);
  });
});
