// How many dead letters are kept, and for how long; and how a stitch is slowed whose messages all become dead letters.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { API_SENDER, type DeadLetter } from "../../src/domain/message.ts";
import type { DeadLetterFilter } from "../../src/master/ports.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import {
  addDeadLetters,
  dropDeadLetter,
  dropOldDeadLetters,
  listDeadLetters,
} from "../../src/redis/inbox/dead-letters.ts";
import { createInbox } from "../../src/redis/inbox/inbox.ts";
import { putMessages, STITCH_BYTES } from "../../src/redis/inbox/put-messages.ts";
import { Keys } from "../../src/redis/keys.ts";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { createMail, MAIL_MODULE, takenBy } from "../support/mail.ts";
import { MailClient } from "../support/mail-client.ts";

const NODE = "n1";
const MIB = 1024 * 1024;
const WEEK_MS = 7 * 86_400_000;

const letter = (from: string, data: string): DeadLetter => ({
  messageId: "m",
  from,
  to: "n1:nobody",
  channel: "",
  data,
  code: "no_recipient",
  reason: "n1 has no such stitch",
  tries: 0,
  atMs: 0,
});

class Letters {
  readonly redis: RedisClient;
  readonly keys = new Keys(`t${randomBytes(6).toString("hex")}`);

  constructor(redis: RedisClient) {
    this.redis = redis;
  }

  async add(from: string, count: number, size = 0): Promise<void> {
    for (let n = 1; n <= count; n += 200) {
      const some = Array.from({ length: Math.min(200, count - n + 1) }, (_, each) => `${n + each}`.padStart(size, " "));
      await addDeadLetters(
        this.redis,
        this.keys,
        NODE,
        some.map((data) => letter(from, data)),
      );
    }
  }

  /** For each sender: the count of its dead letters, the first and the last of them. */
  async bySender(): Promise<Record<string, string>> {
    const all = await listDeadLetters(this.redis, this.keys, NODE, null, 20_000);
    const senders = Map.groupBy(all, (placed) => placed.letter?.from ?? "");
    const numberOf = (placed: (typeof all)[number] | undefined) => placed?.letter?.data.trim();
    return Object.fromEntries(
      [...senders].map(([from, its]) => [from, `${its.length}: ${numberOf(its[0])}–${numberOf(its.at(-1))}`]),
    );
  }

  /** Fails if the stored counts are not those of the dead letters that are there. */
  async assertCounted(): Promise<void> {
    const { redis, keys } = this;
    const rows = await redis.xrange(keys.nodeDeadLetters(NODE), "-", "+");
    const bytes: Record<string, string> = {};
    const ids: string[] = [];
    for (const [entry, fields] of rows)
      for (const share of ["*", fields[3] ?? ""]) {
        const size = Buffer.byteLength(fields[1] ?? "");
        bytes[share] = String(Number(bytes[share] ?? 0) + size);
        const [ms, number] = entry.split("-");
        ids.push(`${share} ${ms}-${number?.padStart(10, "0")} ${size} ${fields[3]}`);
      }
    assert.deepEqual(await redis.hgetall(keys.nodeDeadLetterBytes(NODE)), bytes);
    assert.deepEqual((await redis.zrange(keys.nodeDeadLetterIds(NODE), 0, "-1")).sort(), ids.sort());
  }
}

async function withLetters(url: string, work: (letters: Letters) => Promise<void>): Promise<void> {
  const redis = openRedis(url, "shared", () => undefined);
  const letters = new Letters(redis);
  const { keys } = letters;
  try {
    await connectRedis(redis, 10_000);
    await work(letters);
  } finally {
    const made = [keys.nodeDeadLetters(NODE), keys.nodeDeadLetterIds(NODE), keys.nodeDeadLetterBytes(NODE)];
    const others = [keys.deadLetterNodes, keys.nodeInbox(NODE), keys.nodeInboxLoad(NODE), keys.nodeMeta(NODE)];
    await Promise.all([...made, ...others].map((key) => redis.del(key))).catch(() => undefined);
    redis.disconnect();
  }
}

for (const { name, url } of REDISES) {
  describe(`dead letters on a ${name}`, { concurrency: 3 }, () => {
    it("of one sender are at most an eighth of 10,000; beyond that only its own oldest are dropped", async () => {
      await withLetters(url, async (letters) => {
        await letters.add("n2:quiet", 3);
        await letters.add("n2:flood", 1300);
        // The API is one sender, not one for each message.
        await letters.add(`${API_SENDER}1`, 1);
        await letters.add(`${API_SENDER}2`, 1300);
        assert.deepEqual(await letters.bySender(), {
          "n2:quiet": "3: 1–3",
          "n2:flood": "1250: 51–1300",
          [`${API_SENDER}2`]: "1250: 51–1300",
        });
        await letters.assertCounted();
      });
    });

    it("of many senders are at most 10,000; the newest are kept", async () => {
      await withLetters(url, async (letters) => {
        for (let sender = 0; sender < 9; sender++) await letters.add(`n2:s${sender}`, 1200);
        const counts = await letters.bySender();
        assert.equal(counts["n2:s0"], "400: 801–1200");
        assert.equal(counts["n2:s8"], "1200: 1–1200");
        await letters.assertCounted();
      });
    });

    it("take at most 8 MiB for each sender, 64 MiB for all; a letter larger than a share is kept alone", async () => {
      await withLetters(url, async (letters) => {
        for (let sender = 0; sender < 9; sender++) await letters.add(`n2:s${sender}`, 12, MIB);
        const { redis, keys } = letters;
        const bytes = await redis.hgetall(keys.nodeDeadLetterBytes(NODE));
        for (const [share, size] of Object.entries(bytes))
          assert.ok(Number(size) <= (share === "*" ? 64 : 8) * MIB, `${share} ${size}`);
        assert.ok(Number(bytes["*"]) > 60 * MIB);
        assert.equal((await letters.bySender())["n2:s8"], "7: 6–12");
        await letters.add("n2:s8", 1, 9 * MIB);
        assert.equal((await letters.bySender())["n2:s8"], "1: 1–1");
        await letters.assertCounted();
      });
    });

    it("are kept for a week; their keys expire by themselves", async () => {
      await withLetters(url, async (letters) => {
        const { redis, keys } = letters;
        const text = JSON.stringify(letter("n2:old", "1"));
        for (const ageMs of [WEEK_MS + 60_000, WEEK_MS - 60_000])
          await redis.xadd(keys.nodeDeadLetters(NODE), `${Date.now() - ageMs}-0`, "letter", text);
        await dropOldDeadLetters(redis, keys, NODE);
        assert.equal(await redis.xlen(keys.nodeDeadLetters(NODE)), 1);
        await letters.add("n2:new", 1);
        for (const key of [keys.nodeDeadLetters(NODE), keys.nodeDeadLetterIds(NODE), keys.nodeDeadLetterBytes(NODE)]) {
          const ttlMs = await redis.pttl(key);
          assert.ok(ttlMs > WEEK_MS - 60_000 && ttlMs <= WEEK_MS, `${key} ${ttlMs}`);
        }
      });
    });

    it("are counted again if the counts are lost, or another value is in their place", async () => {
      await withLetters(url, async (letters) => {
        const { redis, keys } = letters;
        const keysOf = [keys.nodeDeadLetters(NODE), keys.nodeDeadLetterIds(NODE), keys.nodeDeadLetterBytes(NODE)];
        await letters.add("n2:a", 5);
        await redis.xadd(keys.nodeDeadLetters(NODE), "*", "letter", "garbage");
        for (const key of keysOf) {
          for (const spoil of [() => redis.del(key), () => redis.set(key, "garbage")]) {
            await redis.del(key);
            await spoil();
            await letters.add("n2:b", 1);
            await letters.add("n2:b", 1);
          }
        }
        const entries = (await listDeadLetters(redis, keys, NODE, null, 100)).map(({ entry }) => entry);
        for (const entry of entries) assert.equal(await dropDeadLetter(redis, keys, NODE, entry), true);
        assert.equal(await dropDeadLetter(redis, keys, NODE, entries[0] ?? ""), false);
        assert.deepEqual(await Promise.all(keysOf.map((key) => redis.exists(key))), [1, 0, 0]);
      });
    });

    it("that senders add at a node that is away have the same bounds", async () => {
      await withLetters(url, async (letters) => {
        const { redis, keys } = letters;
        await createInbox(redis, keys, NODE, 1);
        await redis.hset(keys.nodeMeta(NODE), "leaseUntil", 1);
        const body = "x".repeat(STITCH_BYTES);
        await putMessages(redis, keys, NODE, [{ stitch: "nobody", body }]);
        await letters.add("n2:quiet", 1);
        const { to: _, ...rest } = letter("n2:flood", "y".repeat(MIB));
        const burial = { to: ["n1:nobody"], letter: rest };
        for (let n = 1; n <= 12; n++)
          assert.deepEqual(await putMessages(redis, keys, NODE, [{ stitch: "nobody", body: "z", burial }]), ["buried"]);
        assert.equal((await letters.bySender())["n2:quiet"], "1: 1–1");
        assert.ok(Number(await redis.hget(keys.nodeDeadLetterBytes(NODE), "n2:flood")) <= 8 * MIB);
        await letters.assertCounted();
      });
    });
  });
}

it("a dead letter for a group without a known member is listed, but for no stitch", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async ({ open: { redis, keys }, master }) => {
    await addDeadLetters(redis, keys, NODE, [{ ...letter("n2:a", "1"), to: "n1:shop.orders" }, letter("n2:a", "2")]);
    const listed = async (filter: DeadLetterFilter) =>
      (await master.routing.deadLetters({ cursor: null, limit: 10 }, filter)).items.map(({ data }) => data);
    assert.deepEqual(await listed({}), ["1", "2"]);
    assert.deepEqual(await listed({ stitch: "nobody" }), ["2"]);
    assert.deepEqual(await listed({ stitch: "n1:nobody" }), ["2"]);
  });
});

describe("a stitch whose messages all become dead letters", { concurrency: 2 }, () => {
  for (const kind of ["process", "module"] as const)
    it(`is slowed to 250 messages a second after a hundred, until one of them arrives (${kind})`, async () => {
      await withCluster(REDISES[0]?.url ?? "", MAIL_MODULE, async (cluster) => {
        const [{ url }] = await Promise.all([cluster.api(), cluster.node("n1"), cluster.node("n2")]);
        const mail = new MailClient(url);
        await createMail(cluster, "mail.a.1", { "n1:from": kind, "n2:friend": kind });
        const { redis, keys } = cluster.open;
        const made = () => redis.xlen(keys.nodeDeadLetters("n2"));
        // None of the recipients exists: 150 messages go to one name, then 3000 to a new name each.
        const nowhere = [
          { to: { stitch: "n2:nobody" }, data: "lost", count: 150 },
          ...Array.from({ length: 3000 }, (_, n) => ({ to: { stitch: `n2:nobody${n}` }, data: "lost" })),
        ];
        await mail.send({ stitch: "n1:from" }, { channel: "send", data: JSON.stringify(nowhere) });
        await until("a hundred are made", async () => (await made()) >= 100);
        const [fromMs, before] = [performance.now(), await made()];
        await until("eight hundred more are made", async () => (await made()) >= before + 800);
        const [tookMs, more] = [performance.now() - fromMs, (await made()) - before];
        // The messages that were on their way when the hundredth dead letter was made had not been slowed.
        assert.ok(more <= 100 + tookMs / 4, `${before}, then ${more} in ${tookMs} ms`);
        assert.equal((await cluster.master.state.stitch("n1:from")).health, "green");
      });
    });

  it("sends at full speed again once one of its messages arrives", async () => {
    await withCluster(REDISES[0]?.url ?? "", MAIL_MODULE, async (cluster) => {
      const [{ url }] = await Promise.all([cluster.api(), cluster.node("n1"), cluster.node("n2")]);
      const mail = new MailClient(url);
      await createMail(cluster, "mail.a.1", { "n1:from": "module", "n2:friend": "module" });
      const say = [
        { to: { stitch: "n2:nobody" }, data: "lost", count: 120 },
        { to: { stitch: "n2:friend" }, data: "friend", count: 100, size: 100_000 },
      ];
      await mail.send({ stitch: "n1:from" }, { channel: "send", data: JSON.stringify(say) });
      const arrived = () => takenBy(cluster, "n2:friend").length;
      await until("the first has arrived", () => arrived() >= 1);
      const fromMs = performance.now();
      await until("all have", () => arrived() === 100);
      assert.ok(performance.now() - fromMs < 9000, "not a MiB a second");
    });
  });
});
