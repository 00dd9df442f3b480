// The Redis users of infra/users.acl.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Redis } from "ioredis";
import type { JobRecord } from "../../src/domain/job/job.ts";
import type { ListResource } from "../../src/contract/list.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { listDeadLetters } from "../../src/redis/inbox/dead-letters.ts";
import { createInbox } from "../../src/redis/inbox/inbox.ts";
import { putMessages, STITCH_BYTES } from "../../src/redis/inbox/put-messages.ts";
import { cancelJob } from "../../src/redis/job/job-record.ts";
import { closeJob } from "../../src/redis/job/decisions.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { claim, recordOutcomes } from "../../src/redis/job/outcomes.ts";
import { Keys } from "../../src/redis/keys.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { orderEligibility } from "../../src/redis/node/node-orders.ts";
import { readTraces } from "../../src/redis/stitch/stitch-records.ts";
import { leaveTombstone } from "../../src/redis/stitch/tombstones.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { type TestCluster, until } from "../support/cluster.ts";
import { leaderBeside } from "../support/leaders.ts";
import { KINDS, withRedisUsers } from "../support/redis-users.ts";

describe("each part with its Redis user from infra/users.acl", { concurrency: 2 }, () => {
  for (const { kind, start } of KINDS) {
    it(`${kind}: everything works, and Redis refuses a node what it does not need`, async () => {
      await withRedisUsers(start, ["n1", "n2"], async ({ cluster, as, admins, redis }) => {
        await everythingWorks(cluster, as);
        for (const admin of admins) assert.deepEqual(await admin.call("ACL", "LOG"), [], "nobody was refused anything");
        const keys = (await Promise.all(admins.map((admin) => admin.keys("*")))).flat();
        await strangersAreRefused(redis.servers[0]?.url ?? "");
        await nodeIsRefused(as("node-n1"), cluster, keys);
        await nodeBuries(as("node-n1"), cluster);
        for (const user of ["api", "master"]) await othersAreRefused(user, as(user), async () => undefined);
      });
    });
  }
});

describe("each part with its Redis user, in the mode leader", { concurrency: 2 }, () => {
  for (const { kind, start } of KINDS)
    it(`${kind}: everything works`, async () => {
      const led = { STITCH_MASTER: "leader" };
      await withRedisUsers(
        start,
        ["n1", "n2"],
        async ({ cluster, as, admins }) => {
          await everythingWorks(cluster, as);
          for (const admin of admins)
            assert.deepEqual(await admin.call("ACL", "LOG"), [], "nobody was refused anything");
        },
        led,
      );
    });
});

async function manySteps(send: (body: Record<string, unknown>) => Promise<JobResource>): Promise<void> {
  const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"], minHealthyMs: 0 };
  await send({ command: "stitch.create", target: "shop.moving.1", node: "n1", id: "moving", spec });
  await send({ command: "stitch.move", target: "moving", toNode: "n2" });
  await send({ command: "group.scale", target: "shop.moving.1", count: 3 });
  await send({ command: "group.restart", target: "shop.moving", batch: 3 });
  await send({ command: "group.remove", target: "shop.moving" });
}

async function everythingWorks(cluster: TestCluster, as: (user: string) => string): Promise<void> {
  const { url } = await cluster.api({ REDIS_URL: as("api") });
  await cluster.masterWorker({ REDIS_URL: as("master") });
  const { mode } = await cluster.master.state.cluster();
  if (mode === "leader") await leaderBeside(cluster);
  await cluster.node("n1", { REDIS_URL: as("node-n1") });
  const second = await cluster.node("n2", { REDIS_URL: as("node-n2") });
  const events = await checkedFetch(`${url}/v1/events`);

  const send = async (body: Record<string, unknown>): Promise<JobResource> => {
    const response = await checkedFetch(`${url}/v1/commands?waitMs=20000`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const job = (await response.json()) as JobResource;
    assert.equal(job.status, "succeeded", JSON.stringify(job));
    return job;
  };
  await send({ command: "node.ping", target: "n1" });
  await send({ command: "node.cordon", target: "n2" });
  const create = (node: string, id: string, spec: Record<string, unknown>) =>
    send({ command: "stitch.create", target: "shop.orders.1", node, id, spec: { adaptor: "process", ...spec } });
  await create("n1", "a", { protocol: "none", command: ["sleep", "600"] });
  for (const command of ["stop", "start", "stop", "remove"]) await send({ command: `stitch.${command}`, target: "a" });
  await send({ command: "node.uncordon", target: "n2" });
  await manySteps(send);
  await talk(cluster, url, create);
  const last = await send({ command: "node.ping", target: "n2" });

  await readUntil(events, last.id);
  for (const path of [
    "cluster",
    "nodes",
    "stitches",
    "groups",
    "jobs",
    "events",
    "dead-letters",
    `jobs/${last.id}/steps`,
  ]) {
    const response = await checkedFetch(`${url}/v1/${path}`, { headers: { Accept: "application/json" } });
    assert.equal(response.status, 200, `${path}: ${await response.text()}`);
  }
  await send({ command: "group.stop", target: "shop" });
  assert.equal(await second.kill("SIGTERM"), 0);
  const forgotten = await until("n2 is forgotten", async () => {
    const { status } = await checkedFetch(`${url}/v1/nodes/n2`, { method: "DELETE" });
    return status === 409 ? null : status;
  });
  assert.equal(forgotten, 204);
  await cluster.node("n2", { REDIS_URL: as("node-n2") });
  await send({ command: "node.ping", target: "n2" });
  const { redis, keys } = cluster.open;
  for (const node of ["n1", "n2"]) {
    await leaveTombstone(redis, keys, node, "x", { revision: "1.0", movedTo: null, arrivingFrom: null, born: null });
    const beats = () => redis.hget(keys.nodeMeta(node), "beats");
    const before = await beats();
    await until(`${node} has read it`, async () => Number(await beats()) > Number(before) + 1);
  }
}

/** A stitch that greets the recipients in GREETS, answers greetings, and logs each message. */
const SPEAKER = `
  import { connect } from ${JSON.stringify(new URL("../../src/client/stitch.mjs", import.meta.url).href)};
  const stitch = connect();
  stitch.onMessage(({ from, data }) => {
    stitch.log(data + " from " + from);
    return data === "hello" ? "welcome" : undefined;
  });
  for (const to of JSON.parse(process.env.GREETS)) await stitch.send({ ...to, data: "hello" });`;

/** Sends messages between nodes, and reads logs, which the API asks of the nodes. */
async function talk(
  { dir }: TestCluster,
  url: string,
  create: (node: string, id: string, spec: Record<string, unknown>) => Promise<unknown>,
): Promise<void> {
  const program = join(dir, "speaker.mjs");
  writeFileSync(program, SPEAKER);
  const speaker = (...greets: readonly object[]) => ({
    protocol: "process-v1",
    command: [process.execPath, program],
    env: { GREETS: JSON.stringify(greets) },
  });
  await create("n2", "b", speaker());
  await create("n1", "c", speaker({ to: "b" }, { group: "shop.orders" }, { to: "n2:nobody" }));
  for (const [stitch, line] of [
    ["b", "hello from n1:c"],
    ["c", "welcome from n2:b"],
  ])
    await until(`${stitch} logs: ${line}`, async () =>
      (await (await checkedFetch(`${url}/v1/stitches/${stitch}/logs`)).text()).includes(line ?? ""),
    );
  const log = await checkedFetch(`${url}/v1/stitches/b/logs`, { headers: { Accept: "text/event-stream" } });
  await readUntil(log, "hello");
  const asked = await checkedFetch(`${url}/v1/messages`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": "k" },
    body: JSON.stringify({ to: { oneOf: "shop.orders" }, data: "hello", expect: "reply", timeoutMs: 20_000 }),
  });
  const answer = await asked.text();
  assert.match(answer, /"replied"/);
  assert.match(answer, /"welcome"/);
  const letter = await until("what nobody took is a dead letter", async () => {
    const { items } = (await (await checkedFetch(`${url}/v1/dead-letters`)).json()) as ListResource<{ id: string }>;
    return items[0]?.id;
  });
  const { status } = await checkedFetch(`${url}/v1/dead-letters/${encodeURIComponent(letter)}`, { method: "DELETE" });
  assert.equal(status, 204);
}

async function readUntil({ body }: Response, wanted: string): Promise<void> {
  let read = "";
  for await (const chunk of body ?? []) {
    read += Buffer.from(chunk).toString();
    if (read.includes(wanted)) return;
  }
  assert.fail(`the stream ended after: ${read}`);
}

async function strangersAreRefused(url: string): Promise<void> {
  for (const [login, why] of [
    ["", /NOAUTH/],
    ["node-n1:guessed@", /WRONGPASS/],
    ["nobody:PASSWORD@", /WRONGPASS/],
  ] as const) {
    const client = new Redis(url.replace("://", `://${login}`), { lazyConnect: true, retryStrategy: () => null });
    let said = "";
    client.on("error", ({ message }) => (said += message));
    await assert.rejects(client.connect());
    assert.match(said, why);
  }
}

const ADMINISTRATION = [
  ["FLUSHALL"],
  ["FLUSHDB"],
  ["KEYS", "*"],
  ["CONFIG", "GET", "*"],
  ["CONFIG", "SET", "maxmemory", "1"],
  ["ACL", "LIST"],
  ["ACL", "SETUSER", "node-n1", "allkeys"],
  ["CLIENT", "LIST"],
  ["CLIENT", "KILL", "TYPE", "normal"],
  ["MONITOR"],
  ["SAVE"],
  ["SHUTDOWN", "NOSAVE"],
  ["REPLICAOF", "127.0.0.1", "1"],
  ["SWAPDB", "0", "1"],
  ["PSUBSCRIBE", "*"],
  ["PUBLISH", "somewhere", "something"],
  ["SET", "cs:another-cluster:nodes", "1"],
] as const;

async function othersAreRefused(
  user: string,
  url: string,
  more: (client: RedisClient, refused: (what: string, asked: Promise<unknown>) => Promise<void>) => Promise<void>,
): Promise<void> {
  const client = openRedis(url, "shared", () => undefined);
  try {
    await connectRedis(client, 15_000);
    const refused = (what: string, asked: Promise<unknown>) => assert.rejects(asked, /NOPERM/, `${user}: ${what}`);
    for (const [name, ...args] of ADMINISTRATION) await refused(name, client.call(name, ...args));
    await more(client, refused);
  } finally {
    client.disconnect();
  }
}

/** A message from n1 that finds no room at a node that is away becomes a dead letter of that node. */
async function nodeBuries(url: string, { open }: TestCluster): Promise<void> {
  const { redis, keys } = open;
  await createInbox(redis, keys, "n9", 1);
  await redis.hset(keys.nodeMeta("n9"), "leaseUntil", 1);
  const why = { code: "inbox_full", reason: "away", tries: 0, atMs: 0 } as const;
  const letter = { messageId: "m", from: "n1:c", channel: "", data: "", ...why };
  const large = { stitch: "a", body: "x".repeat(STITCH_BYTES), burial: { to: ["n9:a"], letter } };
  const client = openRedis(url, "shared", () => undefined);
  try {
    await connectRedis(client, 15_000);
    assert.deepEqual(await putMessages(client, keys, "n9", [large, large]), ["stored", "buried"]);
    await assert.rejects(listDeadLetters(client, keys, "n9", null, 1), /NOPERM/);
  } finally {
    client.disconnect();
  }
  assert.deepEqual(
    (await listDeadLetters(redis, keys, "n9", null, 10)).map((each) => each.letter),
    [{ to: "n9:a", ...letter }],
  );
}

/** The access to a key that the worker of n1 needs. */
function needOf(keys: Keys, key: string): "write" | "read" | "nothing" {
  const shared = [
    keys.format,
    keys.nodes,
    keys.nodeIds,
    keys.applications,
    keys.deadLetterNodes,
    keys.events,
    keys.dueJobs,
    keys.revision,
  ];
  const families = [keys.node("n1"), keys.route(""), keys.group(""), keys.application("")];
  if (shared.includes(key) || families.some((family) => key.startsWith(family))) return "write";
  if (/:\{job:[^}]*\}:out:n1$|:\{node:[^}]*\}:inbox(:load)?$|:\{reply:[^}]*\}(:lease)?$/.test(key)) return "write";
  // It may add dead letters of other nodes, but not read them.
  if (/:\{node:[^}]*\}:dead-letters(:ids|:bytes)?$/.test(key)) return "write";
  if (key.startsWith(keys.spec("")) || [keys.nodeAssigned("n1"), keys.nodeOrders("n1"), keys.leaderLease].includes(key))
    return "read";
  return /:\{job:[^}]*\}$|:\{node:[^}]*\}:(stitches|removed|gone|meta)$/.test(key) ? "read" : "nothing";
}

/** Redis refuses n1 every key of the cluster that it does not need, and every write that makes other parts do something. */
async function nodeIsRefused(url: string, { name, master }: TestCluster, all: readonly string[]): Promise<void> {
  const keys = new Keys(name);
  await othersAreRefused("n1", url, async (client, refused) => {
    const tried = { write: 0, read: 0, nothing: 0 };
    for (const key of all) {
      const need = needOf(keys, key);
      tried[need] += 1;
      if (need === "nothing") await refused(`reading ${key}`, client.exists(key));
      if (need === "read") assert.equal(await client.exists(key), 1, key);
      if (need !== "write") await refused(`deleting ${key}`, client.del(key));
    }
    const library = "#!lua name=l\nredis.register_function('f', function() return 1 end)";
    for (const asked of [["LOAD", library], ["FLUSH"], ["LIST"]])
      await refused(`functions: ${asked[0]}`, client.call("FUNCTION", ...asked));
    await refused("another database", client.call("SELECT", "1"));
    assert.ok(tried.read > 5 && tried.nothing > 10, JSON.stringify(tried));

    const [job] = (await master.commands.jobs({ cursor: null, limit: 1 }, {})).items;
    const { id } = job ?? assert.fail();
    const task = { id: "t9", node: "n2", runs: "node", attempt: 1, wave: 0, refused: null } as const;
    const steps = [{ action: "ping" as const, stitch: null }];
    const record: JobRecord = {
      id: `j${"a".repeat(26)}`,
      command: "node.ping",
      target: "n2",
      options: {},
      asked: null,
      reason: null,
      by: null,
      master: "thief",
      revision: 1,
      createdAtMs: 0,
      deadlineAtMs: 9e12,
      waitForNode: false,
      orchestration: null,
      retryOf: null,
      rollbackOf: null,
      tasks: [{ ...task, steps }],
    };
    await refused("a job of its own", createJob(client, keys, record, ""));
    await refused("a cancel", cancelJob(client, keys, id));
    await refused("a verdict", closeJob(client, keys, id, 0, "failed", 1000));
    await refused("a claim for another", claim(client, keys, id, "n2", task, 1));
    await refused("an outcome for another", recordOutcomes(client, keys, id, "n2", task, 1, new Map(), true));
    const dispatcher = new Dispatcher(client, keys);
    await dispatcher.ready();
    const dispatched = { job: id, revision: 1, deadlineAtMs: 9e12, task: { ...task, steps } };
    await refused("a task for another", dispatcher.dispatch([dispatched]));
    await refused("orders for another", orderEligibility(client, keys, "n2", "cordoned", { revision: 9e9, wave: 0 }));
    await refused("leaving for another", leaveNode(client, keys, "n2", { session: "", incarnation: 1 }));
    const word = { revision: `${9e9}.0`, movedTo: "n1:a", arrivingFrom: null, born: null };
    for (const node of ["n1", "n2"]) await refused(`word for ${node}`, leaveTombstone(client, keys, node, "a", word));
    await readTraces(client, keys, "n2:a");
  });
}
