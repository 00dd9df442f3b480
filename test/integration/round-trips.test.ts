// How many round trips to a Redis that is far a request waits for, one upon another.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { createApp } from "../../src/api/app.ts";
import { backendOf } from "../../src/api/backend.ts";
import type { JobResource } from "../../src/contract/job.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import type { DeadLetter } from "../../src/domain/message.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { allNodes } from "../../src/master/state/observed-reader.ts";
import { addDeadLetters } from "../../src/redis/inbox/dead-letters.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import {
  countRoundTrips,
  type DelayingProxy,
  openDelayingProxy,
  type RoundTrip,
  roundTrips,
} from "../support/delaying-proxy.ts";
import { createMail, MAIL_MODULE } from "../support/mail.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const TRIP_MS = 80;
const MANY_NODES = 1500;
/** A receipt that is late by chance, on a machine that is busy, costs a round trip more: it counts if it happens each time. */
const ATTEMPTS = 3;

/** One request, and the most round trips that it may take. */
type Case = {
  readonly path: string;
  readonly body?: Readonly<Record<string, unknown>>;
  readonly most: number;
  /** The least number of items in the list: fewer would not show what a page costs. */
  readonly items?: number;
};

type Asked = Omit<Case, "most"> & { readonly key?: string | null };

const LISTS: readonly Case[] = [
  { path: "/v1/nodes?limit=1000", most: 2, items: 1000 },
  { path: "/v1/nodes?limit=10", most: 2, items: 10 },
  { path: "/v1/stitches", most: 2, items: 6 },
  { path: "/v1/stitches?limit=2", most: 2, items: 2 },
  { path: "/v1/groups", most: 2, items: 3 },
  { path: "/v1/groups?limit=1", most: 2, items: 1 },
  { path: "/v1/jobs?limit=1000", most: 2, items: 6 },
  { path: "/v1/jobs?limit=2", most: 2, items: 2 },
  { path: "/v1/events", most: 1, items: 6 },
  { path: "/v1/dead-letters", most: 2, items: 60 },
  { path: "/v1/dead-letters?limit=30", most: 2, items: 30 },
];
const SINGLE: readonly Case[] = [
  { path: "/v1/cluster", most: 2 },
  { path: "/v1/nodes/n1", most: 1 },
  { path: "/v1/stitches/n1:a", most: 2 },
  { path: "/v1/stitches/a", most: 3 },
  { path: "/v1/groups/shop.mail.1", most: 3 },
];
const message = (to: Readonly<Record<string, string>>, most: number): Case => ({
  path: "/v1/messages",
  body: { to, data: "hello", expect: "ack" },
  most,
});
const MESSAGES: readonly Case[] = [
  message({ stitch: "n2:mail" }, 3),
  message({ stitch: "mail" }, 4),
  message({ group: "shop.mail.1" }, 3),
  message({ group: "shop" }, 4),
];

type CommandCase = {
  readonly most: number;
  /** Carried out before, on the direct link. */
  readonly before?: Readonly<Record<string, unknown>> & { readonly command: CommandName };
  readonly body: Readonly<Record<string, unknown>> & { readonly command: CommandName };
};

const SLEEP = { adaptor: "process", protocol: "none", command: ["sleep", "600"], minHealthyMs: 0 };
const onStitch = (command: CommandName, target: string, more: Record<string, unknown> = {}) => ({
  command,
  target,
  ...more,
});
const scale = (count: number) => onStitch("group.scale", "shop.web.1", { count });
/** The aims: one task at most 3, any command at most 4. What is given is what they take. */
const COMMAND_CASES: readonly CommandCase[] = [
  { most: 2, body: onStitch("node.ping", "n1") },
  { most: 2, body: onStitch("stitch.stop", "n1:a"), before: onStitch("stitch.start", "n1:a") },
  { most: 3, body: onStitch("stitch.start", "a"), before: onStitch("stitch.stop", "n1:a") },
  { most: 2, body: onStitch("stitch.restart", "n1:a") },
  { most: 3, body: onStitch("stitch.clone", "n1:a", { toNode: "n2" }) },
  { most: 2, body: onStitch("node.cordon", "n2") },
  { most: 2, body: onStitch("node.uncordon", "n2") },
  { most: 2, body: onStitch("node.relabel", "n2", { labels: { disk: "ssd" } }) },
  { most: 2, body: onStitch("stitch.create", "shop.new.1", { node: "n1", spec: SLEEP }) },
  { most: 3, body: scale(4), before: scale(2) },
  { most: 3, body: scale(2), before: scale(4) },
  { most: 3, body: onStitch("group.restart", "shop.web.1") },
  { most: 3, body: onStitch("group.start", "shop.web"), before: onStitch("group.stop", "shop.web") },
  {
    most: 2,
    body: onStitch("stitch.remove", "n1:gone"),
    before: onStitch("stitch.create", "shop.gone.1", { node: "n1", id: "gone", spec: SLEEP }),
  },
  {
    most: 3,
    body: onStitch("group.remove", "shop.gone.1"),
    before: onStitch("stitch.create", "shop.gone.1", { node: "n1", spec: SLEEP }),
  },
  {
    most: 3,
    body: onStitch("group.stopOldVersions", "shop.old.2"),
    before: onStitch("stitch.create", "shop.old.1", { node: "n1", spec: SLEEP }),
  },
  { most: 3, body: onStitch("group.stop", "shop.web"), before: onStitch("group.start", "shop.web") },
  // It finds nothing to move, and is closed before the answer.
  { most: 5, body: onStitch("group.rebalance", "shop") },
  { most: 4, body: scale(2), before: scale(2) },
  {
    most: 4,
    body: onStitch("stitch.move", "n1:a", { toNode: "n2" }),
    before: onStitch("stitch.move", "a", { toNode: "n1" }),
  },
  { most: 4, body: onStitch("node.drain", "n2", { forceAfterMs: 0 }), before: onStitch("node.uncordon", "n2") },
];

/** Requests to an API whose Master has the link that is far between itself and Redis. */
class FarApi {
  readonly #proxy: DelayingProxy;
  readonly #app: ReturnType<typeof createApp>;

  constructor(proxy: DelayingProxy, open: OpenMaster) {
    this.#proxy = proxy;
    this.#app = createApp({
      open: () => Promise.resolve(backendOf(open)),
      limits: null,
      access: { kind: "loopback" },
      nowMs: () => performance.now(),
      onError: (error) => assert.fail(String(error)),
      shutdown: new AbortController().signal,
    });
  }

  async ask({ path, body, items = 0, key = null }: Asked): Promise<{ id?: string; nextCursor?: string | null }> {
    const sent =
      body === undefined
        ? { headers: { accept: "application/json" } }
        : {
            method: "POST",
            headers: { "content-type": "application/json", ...(key === null ? {} : { "idempotency-key": key }) },
            body: JSON.stringify(body),
          };
    const response = await this.#app.request(`http://localhost${path}`, sent);
    const answer = (await response.json()) as { id?: string; items?: unknown[]; nextCursor?: string | null };
    assert.ok(response.ok, `${path}: ${JSON.stringify(answer)}`);
    if (items > 0) assert.ok((answer.items?.length ?? 0) >= items, `${path} has ${answer.items?.length} items`);
    return answer;
  }

  async expect(cases: readonly Case[]): Promise<void> {
    for (const each of cases) await atMost(each, () => roundTrips(this.#proxy, () => this.ask(each)));
  }
}

/** Asserts the number of round trips, and says in a failure what each of them carried. */
async function atMost({ path, body, most }: Case, count: () => Promise<readonly RoundTrip[]>): Promise<void> {
  let trips: readonly RoundTrip[] = [];
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    trips = await count();
    if (trips.length <= most) return;
  }
  assert.fail(`${path} ${JSON.stringify(body ?? {})} takes more than ${most} round trips:\n${shown(trips)}`);
}

const shown = (trips: readonly RoundTrip[]): string =>
  trips.map((trip, index) => `${index + 1}: ${trip.join(" ")}`.slice(0, 300)).join("\n");

/**
 * Runs `work` with a cluster that has something of everything, and a proxy to its Redis.
 * @param moreNodes nodes that are in Redis only: they carry out nothing.
 */
async function onFarCluster(
  moreNodes: number,
  work: (cluster: TestCluster, proxy: DelayingProxy) => Promise<void>,
): Promise<void> {
  const { url = "" } = REDISES[0] ?? {};
  await withCluster(url, {}, async (cluster) => {
    const { redis, keys } = cluster.open;
    await Promise.all(["n1", "n2"].map((id) => cluster.node(id, MAIL_MODULE)));
    await createMail(cluster, "shop.mail.1", { "n2:mail": "module", "n1:other": "none" });
    await createMail(cluster, "shop.web.1", { "n1:a": "none", "n2:b": "none" });
    await createMail(cluster, "shop.old.2", { "n2:new": "none" });
    await createMail(cluster, "tools.web.2", { "n1:c": "none", "n2:d": "none" });
    for (let at = 0; at < moreNodes; at += 100)
      await Promise.all(Array.from({ length: 100 }, (_, index) => registerTestNode(redis, keys, `x-${at + index}`)));
    await Promise.all(["n1", "n2", "x-0"].map((node) => addDeadLetters(redis, keys, node, lettersTo(node, 20))));
    const proxy = await openDelayingProxy(url, TRIP_MS);
    try {
      await work(cluster, proxy);
    } finally {
      await proxy.close();
    }
  });
}

const lettersTo = (node: string, count: number): DeadLetter[] =>
  Array.from({ length: count }, (_, index) => ({
    to: `${node}:gone`,
    messageId: String(index).padStart(32, "0"),
    from: `${node}:sender`,
    channel: "mail",
    data: "lost",
    code: "no_recipient",
    reason: "it was removed",
    tries: 1,
    atMs: 0,
  }));

/** Nothing is left of the job: not even what goes on after its end. */
async function ended(cluster: TestCluster, { id, status }: JobResource): Promise<void> {
  assert.equal(status, "succeeded", id);
  const { redis, keys } = cluster.open;
  await until("the job has left the index", async () => (await redis.zscore(keys.openJobs, id)) === null);
}

test("reads and messages take few round trips", async (t) => {
  await onFarCluster(MANY_NODES, async (cluster, proxy) => {
    const openFar = () => cluster.openMaster("far", { redisUrl: proxy.url });
    const open = await openFar();
    const api = new FarApi(proxy, open);
    try {
      await t.test("lists", () => api.expect(LISTS));
      await t.test("the next pages of lists", async () => {
        for (const { path, most } of LISTS.filter((each) => each.path.includes("limit="))) {
          const { nextCursor } = await api.ask({ path });
          if (nextCursor != null)
            await api.expect([{ path: `${path}&cursor=${encodeURIComponent(nextCursor)}`, most }]);
        }
      });
      await t.test("single resources", () => api.expect(SINGLE));
      await t.test("all nodes, for placement", async () => {
        const nodes = () => allNodes(open.redis, open.keys, (error) => assert.fail(error));
        assert.equal((await nodes()).length, MANY_NODES + 2);
        assert.equal(await countRoundTrips(proxy, nodes), 2);
      });
      await t.test("messages, once the subscription to replies is there", async () => {
        await api.ask(message({ stitch: "n2:mail" }, 0));
        await api.expect(MESSAGES);
      });
      await t.test("the first message on new connections", async () => {
        for (const each of MESSAGES) {
          await atMost({ ...each, most: 4 }, async () => {
            const fresh = await openFar();
            try {
              return await roundTrips(proxy, () => new FarApi(proxy, fresh).ask(each));
            } finally {
              fresh.close();
            }
          });
        }
      });
      await t.test("a create that is spread over a thousand nodes", async () => {
        const body = onStitch("stitch.create", "shop.spread.1", { spec: SLEEP, count: 1000 });
        await atMost({ path: "/v1/commands", body, most: 3 }, () =>
          roundTrips(proxy, () => api.ask({ path: "/v1/commands", body })),
        );
      });
      await t.test("jobs, while one is open: the nodes that have not answered are read, too", async () => {
        const job = await cluster.run(
          {
            command: "stitch.create",
            target: "shop.slow.1",
            node: "n1",
            id: "slow",
            spec: { adaptor: "process", protocol: "none", command: ["sleep", "600"], minHealthyMs: 600_000 },
          },
          null,
          0,
        );
        await until("the job runs", async () => (await cluster.master.commands.job(job.id, 0)).status === "running");
        await api.expect([{ path: "/v1/jobs", most: 3, items: 7 }]);
        await cluster.run({ command: "stitch.remove", target: "n1:slow" });
      });
    } finally {
      open.close();
    }
  });
});

test("commands take few round trips, without a key and with one", async () => {
  await onFarCluster(0, async (cluster, proxy) => {
    const open = await cluster.openMaster("far", { redisUrl: proxy.url });
    const api = new FarApi(proxy, open);
    try {
      for (const { most, body, before } of COMMAND_CASES)
        for (const isKeyed of [false, true])
          await atMost({ path: "/v1/commands", body, most }, async () => {
            if (before !== undefined) await ended(cluster, await cluster.run(before));
            const key = isKeyed ? randomUUID() : null;
            let id = "";
            const trips = await roundTrips(proxy, async () => {
              ({ id = "" } = await api.ask({ path: "/v1/commands", body, key }));
            });
            await ended(cluster, await cluster.master.commands.job(id, 60_000));
            return trips;
          });
    } finally {
      await open.settled();
      open.close();
    }
  });
});
