// One bad value does no harm elsewhere. In turn, every key of the layout, BullMQ's included, holds another type or garbage,
// while each part has the Redis user that the docs give it. Only routes that ask for the bad record answer 5xx, and a node can
// be forgotten whatever its keys hold.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Redis } from "ioredis";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { addDeadLetters } from "../../src/redis/inbox/dead-letters.ts";
import { createInbox } from "../../src/redis/inbox/inbox.ts";
import { putMessages } from "../../src/redis/inbox/put-messages.ts";
import { type KeyType, LAYOUT } from "../../src/redis/layout.ts";
import { QUEUE_LAYOUT } from "../../src/redis/queue-layout.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { openNodeQueue } from "../../src/queue/node-queue.ts";
import { leaveTombstone } from "../../src/redis/stitch/tombstones.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";
import { KINDS, type WithUsers, withRedisUsers } from "../support/redis-users.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const GARBAGE = "garbage \n{";
const GROUP = "shop.orders.1";

/** What replaces the value of a key. */
const POISONS = ["another type", "garbage"] as const;
type Poison = (typeof POISONS)[number];

/** Replaces the value of `key`, which has the type `type`. */
async function poison(redis: RedisClient, key: string, type: KeyType, how: Poison): Promise<void> {
  if (how === "another type") {
    // In one transaction: otherwise another process could write the value back in between.
    const anew = redis.multi().del(key);
    await (type === "string" ? anew.lpush(key, GARBAGE) : anew.set(key, GARBAGE)).exec();
    return;
  }
  switch (type) {
    case "string":
      await redis.set(key, GARBAGE);
      return;
    case "hash": {
      const fields = await redis.hkeys(key);
      for (const field of [...fields, GARBAGE]) await redis.hset(key, field, GARBAGE);
      return;
    }
    case "set":
      await redis.sadd(key, GARBAGE);
      return;
    case "zset":
      await redis.zadd(key, 0, GARBAGE);
      return;
    case "list":
      await redis.lpush(key, GARBAGE);
      return;
    case "stream":
      await redis.xadd(key, "*", GARBAGE, GARBAGE);
  }
}

type Asked = { readonly status: number; readonly text: string };
const ask = async (url: string, path: string, init: RequestInit = {}): Promise<Asked> => {
  const response = await fetch(`${url}${path}`, init);
  return { status: response.status, text: await response.text() };
};
const post = (url: string, path: string, body: unknown): Promise<Asked> =>
  ask(url, path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

/** A node that exists only in Redis, with everything that a node can have there; it has left. @returns a task in its queue. */
async function makeVictim(cluster: TestCluster, node: string): Promise<string> {
  const { redis, keys } = cluster.open;
  const as = await registerTestNode(redis, keys, node);
  await createInbox(redis, keys, node, as.incarnation);
  await openNodeQueue(redis, keys, node);
  for (const stitch of ["a", "b"]) await publishTestStitch(cluster.open, node, `${stitch}-${node}`, GROUP);
  await putMessages(redis, keys, node, [{ stitch: `a-${node}`, body: "{}" }]);
  const letter = { messageId: "m", from: "n1:x", to: `${node}:a`, channel: "", data: "", tries: 0, atMs: 0 } as const;
  await addDeadLetters(redis, keys, node, [{ ...letter, code: "no_recipient", reason: "" }]);
  const word = { revision: "1.0", movedTo: null, arrivingFrom: null, born: null };
  await leaveTombstone(redis, keys, node, "gone", word);
  await cluster.run({ command: "node.cordon", target: node });
  const { id } = await cluster.run({ command: "node.ping", target: node }, null, 0);
  await leaveNode(redis, keys, node, as);
  return `${id}.t0.1`;
}

const LISTS = ["cluster", "nodes", "stitches", "groups", "jobs", "dead-letters"];

class Matrix {
  readonly #cluster: TestCluster;
  readonly #url: string;
  readonly #failures: string[] = [];
  #made = 0;

  constructor(cluster: TestCluster, url: string) {
    this.#cluster = cluster;
    this.#url = url;
  }

  get failures(): readonly string[] {
    return this.#failures;
  }

  /**
   * Notes a failure if anything stops working but what reads the bad value itself.
   * @param listed must the lists hold everything else? A list whose key had another type is still being written again.
   */
  async othersAnswer(what: string, listed: boolean): Promise<void> {
    const created = `p${(this.#made += 1)}`;
    const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"] };
    const create = { command: "stitch.create", target: GROUP, node: "n1", id: created, spec };
    const asked: readonly [string, Promise<Asked>][] = [
      ...LISTS.map((list) => [list, ask(this.#url, `/v1/${list}`)] as [string, Promise<Asked>]),
      ["events", ask(this.#url, "/v1/events?limit=10", { headers: { Accept: "application/json" } })],
      ["stitches of a group", ask(this.#url, `/v1/stitches?group=shop`)],
      ["the healthy node", ask(this.#url, "/v1/nodes/n1")],
      ["its stitch", ask(this.#url, "/v1/stitches/n1:well")],
      ["the group", ask(this.#url, `/v1/groups/${GROUP}`)],
      ["a ping", post(this.#url, "/v1/commands?waitMs=15000", { command: "node.ping", target: "n1" })],
      ["a create", post(this.#url, "/v1/commands?waitMs=15000", create)],
      ["a plan", post(this.#url, "/v1/commands", { command: "group.scale", target: GROUP, count: 3, dryRun: true })],
      ["a message", post(this.#url, "/v1/messages", { to: { stitch: "n1:hears" }, data: "x" })],
      ["a message to a group", post(this.#url, "/v1/messages", { to: { group: "shop.mail" }, data: "x" })],
    ];
    for (const [name, answer] of asked) {
      const { status, text } = await answer;
      if (status >= 500) this.#failures.push(`${what}: ${name} answers ${status} ${text.slice(0, 300)}`);
      const well = { nodes: '"id":"n1"', stitches: '"fullId":"n1:well"', groups: '"group":"test.stitch"' }[name];
      if (listed && well !== undefined && !text.includes(well))
        this.#failures.push(`${what}: ${well} is missing from the ${name}: ${text.slice(0, 300)}`);
    }
    const removed = await post(this.#url, "/v1/commands?waitMs=15000", {
      command: "stitch.remove",
      target: `n1:${created}`,
    });
    if (removed.status !== 200 || !removed.text.includes('"succeeded"'))
      this.#failures.push(`${what}: a create and its removal: ${removed.status} ${removed.text.slice(0, 300)}`);
  }

  async isForgotten(node: string, what: string): Promise<void> {
    const { status, text } = await ask(this.#url, `/v1/nodes/${node}`, { method: "DELETE" });
    const { redis, keys } = this.#cluster.open;
    const own = [keys.nodeMeta(node), keys.nodeStitches(node), keys.nodeInbox(node)];
    const left = await Promise.all(own.map((key) => redis.exists(key)));
    const listed = await redis.zscore(keys.nodeIds, node);
    const members = (await redis.smembers(keys.group(GROUP))).filter((id) => id.startsWith(`${node}:`));
    if (status !== 204 || left.some((there) => there === 1) || listed !== null || members.length > 0)
      this.#failures.push(
        `${what}: forgetting answers ${status} ${text.slice(0, 300)}; left ${left.join()}, ${listed}, ${members.join()}`,
      );
  }
}

async function withMatrix(
  { cluster, as }: WithUsers,
  work: (matrix: Matrix, url: string) => Promise<void>,
): Promise<void> {
  const [{ url }] = await Promise.all([
    cluster.api({ REDIS_URL: as("api") }),
    cluster.node("n1", { REDIS_URL: as("node-n1") }),
    cluster.masterWorker({ REDIS_URL: as("master") }),
  ]);
  await cluster.create("n1", "well", ["sleep", "600"]);
  const hears = ["sh", "-c", "while read -r line; do :; done"];
  const spec = { adaptor: "process", protocol: "process-v1", command: hears, heartbeatMs: 600_000 };
  await post(url, "/v1/commands", { command: "stitch.create", target: "shop.mail.1", node: "n1", id: "hears", spec });
  await until("it is there", async () => (await ask(url, "/v1/stitches/n1:hears")).status === 200);
  const matrix = new Matrix(cluster, url);
  await work(matrix, url);
  assert.deepEqual(matrix.failures, []);
}

describe("a bad value in Redis", { concurrency: 2 }, () => {
  for (const { kind, start } of KINDS) {
    it(`${kind}: in a node's keys affects this node only; it can be forgotten`, { timeout: 600_000 }, async () => {
      await withRedisUsers(start, ["n1"], async (given) => {
        await withMatrix(given, async (matrix) => {
          const { cluster } = given;
          const { redis, keys } = cluster.open;
          const parts = Object.entries(LAYOUT).filter(([, row]) => row.of[0] === "node");
          const cases = [
            ...parts.map(([name, row]) => {
              const key = (node: string) =>
                String(Reflect.apply(Reflect.get(keys, name) as () => string, keys, [node, "m"]));
              return { name, key, types: row.types };
            }),
            ...Object.entries(QUEUE_LAYOUT).map(([part, row]) => ({
              name: `commands:${part}`,
              key: (node: string, task: string) => keys.nodeQueue(node, part.replace("<task>", task)),
              types: row.types,
            })),
          ];
          for (const [index, { name, key, types }] of cases.entries())
            for (const how of POISONS) {
              const node = `v${index}-${how === "garbage" ? 1 : 2}`;
              const task = await makeVictim(cluster, node);
              await poison(redis, key(node, task), types[0] ?? "string", how);
              const what = `${name}, ${how}`;
              // Only the node itself reads its queue.
              if (!name.startsWith("commands:") || name === "commands:meta") await matrix.othersAnswer(what, true);
              await matrix.isForgotten(node, what);
            }
        });
      });
    });

    it(`${kind}: in the cluster's keys is tolerated or repaired`, { timeout: 600_000 }, async () => {
      await withRedisUsers(start, ["n1"], async (given) => {
        await withMatrix(given, async (matrix, url) => {
          const { cluster, admins } = given;
          const { redis, keys } = cluster.open;
          const named: Readonly<Record<string, string>> = {
            application: "shop",
            group: GROUP,
            component: "orders",
            stitch: "well",
            reply: "r",
            message: "m",
            chore: "jobs",
          };
          const job = await cluster.run({ command: "node.ping", target: "n1" });
          const others = Object.entries(LAYOUT).filter(([, row]) => row.of[0] !== "node");
          for (const [name, row] of others)
            for (const how of POISONS)
              for (const type of row.types) {
                const made: unknown = Reflect.get(keys, name, keys);
                const given_ = row.of.map((what) =>
                  what === "job" ? job.id : what === "runner" ? "n1" : (named[what] ?? ""),
                );
                const key = typeof made === "function" ? String(Reflect.apply(made, keys, given_)) : String(made);
                const before = await dump(admins, key);
                await poison(redis, key, type, how);
                await matrix.othersAnswer(`${name}, ${how}`, how === "garbage");
                // A revision that was drawn since must not be drawn again.
                if (name !== "revision") await restore(redis, admins, key, before);
              }
          // Without Redis, no route answers with an empty list.
          await Promise.all(given.redis.servers.map((server) => server.stop()));
          for (const list of [...LISTS, "events"]) {
            const { status, text } = await ask(url, `/v1/${list}`, { headers: { Accept: "application/json" } });
            assert.deepEqual([status, text.includes("redis_unavailable")], [503, true], `${list}: ${text}`);
          }
        });
      });
    });
  }
});

describe("the tombstone of one stitch", () => {
  it("if it cannot be read, keeps that stitch from starting, and no other", async () => {
    await withCluster(REDISES[0]?.url ?? "", FAST, async (cluster) => {
      const { redis, keys } = cluster.open;
      const first = await cluster.node("n1");
      for (const id of ["well", "bad"]) await cluster.create("n1", id, ["sleep", "600"]);
      // Reading the stitch `bad` by its id would be an error.
      const stateOf = async (id: string) =>
        (await cluster.master.state.stitches({ limit: 10, cursor: null }, {})).items.find((each) => each.id === id)
          ?.state;
      await first.kill("SIGTERM");
      await redis.hset(keys.nodeGone("n1"), "bad", GARBAGE);
      const second = await cluster.node("n1");
      await until("the other runs", async () => (await stateOf("well")) === "running");
      await until("it is held up", async () => (await stateOf("bad")) === "backoff");
      assert.match(second.output, /n1:bad cannot be read/);
      await until("an event says why", async () => {
        const { items } = await cluster.master.state.events(null, 100);
        return items.some(
          ({ type, data }) => type === "stitch.failed" && String(data?.["reason"]).includes("cannot be read"),
        );
      });
      await redis.hdel(keys.nodeGone("n1"), "bad");
      await until("it runs again", async () => (await stateOf("bad")) === "running");
    });
  });
});

const dump = async (admins: readonly Redis[], key: string): Promise<Buffer | null> => {
  for (const admin of admins) {
    const found = await admin.dumpBuffer(key).catch(() => null);
    if (found !== null) return found;
  }
  return null;
};

/** Puts the former value back, or deletes the key if it had none. */
async function restore(
  redis: RedisClient,
  admins: readonly Redis[],
  key: string,
  before: Buffer | null,
): Promise<void> {
  if (before === null) {
    await redis.del(key);
    return;
  }
  for (const admin of admins) {
    const done = await admin.restore(key, 0, before, "REPLACE").catch(() => null);
    if (done !== null) return;
  }
}
