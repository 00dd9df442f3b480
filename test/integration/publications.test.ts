// A node's write comes from its present incarnation and is complete, or it is refused.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import type { StitchRecord } from "../../src/domain/stitch/stitch.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { openNodePorts } from "../../src/master/node-ports.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { acknowledgeEntries, createInbox, InboxTaken, readNewEntries } from "../../src/redis/inbox/inbox.ts";
import { putMessages } from "../../src/redis/inbox/put-messages.ts";
import { Keys } from "../../src/redis/keys.ts";
import { readNodes } from "../../src/redis/node/node-record.ts";
import { beatNode } from "../../src/redis/node/node-lease.ts";
import { publishStitches, readStitches, type StitchChange } from "../../src/redis/stitch/stitch-records.ts";
import { publishUsage, readUsage } from "../../src/redis/stitch/stitch-usage.ts";
import { Publisher } from "../../workers/node/stitches/publisher.ts";
import { REDISES, until } from "../support/cluster.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { testStitch } from "../support/test-stitch.ts";

const LOAD = { cpuPercent: 1, memoryBytes: 1, eventLoopDelayMs: 1 };
const STATUS = {
  reserved: { cpu: 0, memoryBytes: 0 },
  stitchCount: 1,
  states: { stopped: 1 },
  eligibility: "eligible" as const,
};

const record = (id: string, restarts = 0): StitchRecord => testStitch(id, { group: "test.stitch.1", restarts });
const set = (id: string, restarts = 0): StitchChange => ({ kind: "set", record: record(id, restarts), isNew: true });

async function withRedis(url: string, work: (redis: RedisClient, keys: Keys) => Promise<void>): Promise<void> {
  const redis = openRedis(url, "shared", () => undefined);
  try {
    await connectRedis(redis, 10_000);
    await work(redis, new Keys(`p${randomBytes(6).toString("hex")}`));
  } finally {
    redis.disconnect();
  }
}

function publisherOf(redis: RedisClient, keys: Keys, records: ReadonlyMap<string, StitchRecord>) {
  const errors: unknown[] = [];
  const publisher = new Publisher({
    publishing: openNodePorts({ redis, direct: redis, keys, node: "n1" }).publishing,
    status: () => STATUS,
    receives: () => true,
    changeOf: (id) => {
      const one = records.get(id);
      return one === undefined ? null : { kind: "set", record: one, isNew: true };
    },
    holdsId: () => true,
    onError: (error) => errors.push(error),
  });
  return { publisher, errors };
}

for (const { name, url } of REDISES) {
  describe(`a node's writes on a ${name}`, { concurrency: 4 }, () => {
    it("are refused if an earlier incarnation sent them and they come late", async () => {
      await withRedis(url, async (redis, keys) => {
        const former = await registerTestNode(redis, keys, "n1");
        await createInbox(redis, keys, "n1", former.incarnation);
        await putMessages(redis, keys, "n1", [{ stitch: "a", body: "{}" }]);
        const taken = await readNewEntries(redis, keys, "n1", 10, 100);
        const present = await registerTestNode(redis, keys, "n1");
        await createInbox(redis, keys, "n1", present.incarnation);
        const publish = (incarnation: number, change: StitchChange) => {
          let number = 0;
          const as = { incarnation, known: 0, draw: () => (number += 1) };
          return publishStitches(redis, keys, "n1", [change], STATUS, () => true, as);
        };
        assert.deepEqual(await publish(present.incarnation, set("a", 1)), { kind: "ok", number: 1 });
        assert.deepEqual(await publish(former.incarnation, set("a", 9)), { kind: "other" });
        const removed = { ...set("a").record, removedAtMs: 0, was: null, movedTo: null, outcome: null };
        assert.deepEqual(await publish(former.incarnation, { kind: "removed", record: removed, isNew: true }), {
          kind: "other",
        });
        assert.equal((await readStitches(redis, keys, ["n1:a"]))[0]?.restarts, 1);

        const usage = (cpuPercent: number) => new Map([["a", { cpuPercent, memoryBytes: 1, hasData: false }]]);
        await publishUsage(redis, keys, "n1", present.incarnation, usage(1), 60_000);
        await publishUsage(redis, keys, "n1", former.incarnation, usage(9), 60_000);
        assert.equal((await readUsage(redis, keys, ["n1:a"], assert.fail))[0]?.cpuPercent, 1);

        const beat = (as: typeof present, load: typeof LOAD) =>
          beatNode(redis, keys, "n1", { ...as, leaseMs: 60_000, status: STATUS, load, beats: 0, leaseUntilHintMs: 0 });
        assert.equal((await beat(present, LOAD)).outcome, "ok");
        const late = await beat(former, { ...LOAD, cpuPercent: 99 });
        assert.deepEqual(late, { outcome: "other", session: present.session, incarnation: present.incarnation });
        assert.equal((await readNodes(redis, keys, ["n1"]))[0]?.load?.cpuPercent, 1);

        await assert.rejects(acknowledgeEntries(redis, keys, "n1", former.incarnation, taken), InboxTaken);
        assert.equal(await redis.xlen(keys.nodeInbox("n1")), 1, "it is there for the present one");
        await acknowledgeEntries(redis, keys, "n1", present.incarnation, taken);
        assert.equal(await redis.xlen(keys.nodeInbox("n1")), 0);
      });
    });

    it("do not overwrite later ones of the same incarnation if they were delayed", async () => {
      await withRedis(url, async (redis, keys) => {
        const { incarnation } = await registerTestNode(redis, keys, "n1");
        const publish = (number: number, restarts: number) =>
          publishStitches(redis, keys, "n1", [set("a", restarts)], STATUS, () => true, {
            incarnation,
            known: 0,
            draw: () => number,
          });
        await publish(2, 2);
        await assert.rejects(publish(1, 1), /later publication/);
        assert.equal((await readStitches(redis, keys, ["n1:a"]))[0]?.restarts, 2);
      });
    });

    it("are repeated if Redis has lost them: all that was in lost publications, and nothing else", async () => {
      await withRedis(url, async (redis, keys) => {
        const { incarnation } = await registerTestNode(redis, keys, "n1");
        const records = new Map(["a", "b", "c"].map((id) => [id, record(id)]));
        const { publisher, errors } = publisherOf(redis, keys, records);
        publisher.begin(incarnation);
        publisher.open();
        const publish = async (id: string) => {
          publisher.publish([set(id)], []);
          assert.ok(await publisher.flush());
        };
        for (const id of ["a", "b"]) await publish(id);
        const kept = publisher.known;
        await publish("c");
        const lose = async () => {
          await redis.hset(keys.nodeMeta("n1"), "published", kept);
          await redis.hdel(keys.nodeStitches("n1"), "a", "c");
        };
        const there = async () => (await redis.hkeys(keys.nodeStitches("n1"))).filter((id) => id !== "_").sort();

        await lose();
        publisher.heard(kept, publisher.known);
        assert.ok(await publisher.flush());
        // `a` was in a publication that Redis says it has, so it is not published again.
        assert.deepEqual(await there(), ["b", "c"], "by a heartbeat");

        await lose();
        records.set("d", record("d"));
        publisher.publish([set("d")], []);
        await until(
          "the next publication finds out",
          async () => (await publisher.flush()) && (await there()).length === 3,
        );
        assert.deepEqual(await there(), ["b", "c", "d"], "by the next publication");
        assert.equal(errors.length, 2, String(errors));
      });
    });

    it("wait while the publisher is held, and all go out after that", async () => {
      await withRedis(url, async (redis, keys) => {
        const { incarnation } = await registerTestNode(redis, keys, "n1");
        const { publisher } = publisherOf(redis, keys, new Map());
        publisher.begin(incarnation);
        publisher.publish([set("a")], []);
        assert.equal(await publisher.flush(), false);
        assert.deepEqual(await readStitches(redis, keys, ["n1:a"]), [null]);
        publisher.open();
        assert.ok(await publisher.flush());
        assert.equal((await readStitches(redis, keys, ["n1:a"]))[0]?.id, "a");
      });
    });

    it("go out in parts if there are ten thousand; each heartbeat writes a share of their pointers again", async () => {
      await withRedis(url, async (redis, keys) => {
        const { incarnation } = await registerTestNode(redis, keys, "n1");
        const records = Array.from({ length: 10_000 }, (_, index) => record(`s-${String(index).padStart(5, "0")}`));
        const ids = records.map(({ id }) => id);
        const { publisher } = publisherOf(redis, keys, new Map(records.map((each) => [each.id, each])));
        publisher.begin(incarnation);
        publisher.open();
        publisher.publish(
          records.map((each): StitchChange => ({ kind: "set", record: each, isNew: true })),
          [],
        );
        assert.ok(await publisher.flush());
        assert.equal(await redis.hlen(keys.nodeStitches("n1")), records.length);
        const members = () => redis.scard(keys.group("test.stitch.1"));
        await redis.del(keys.group("test.stitch.1"));
        // All pointers within 300 s, with a heartbeat every 30 s: ten heartbeats.
        await publisher.assertPointers(() => [...ids], 30_000);
        assert.equal(await members(), records.length / 10);
        for (let beat = 1; beat < 10; beat++) await publisher.assertPointers(() => [...ids], 30_000);
        assert.equal(await members(), records.length);
      });
    });
  });
}
