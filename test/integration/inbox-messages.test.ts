// Messages in a node's inbox: its bounds, its counts, and what happens if there is no inbox.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import fc from "fast-check";
import { asLetter, type Message } from "../../src/domain/message.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { listDeadLetters, nodesWithDeadLetters } from "../../src/redis/inbox/dead-letters.ts";
import {
  acknowledgeEntries,
  createInbox,
  dropInbox,
  MAX_ENTRIES,
  putQuestion,
  readNewEntries,
  readOldestEntries,
} from "../../src/redis/inbox/inbox.ts";
import {
  type Posted,
  putMessageOnce,
  putMessages,
  SEVERAL_MESSAGES,
  STITCH_BYTES,
  STITCH_MESSAGES,
} from "../../src/redis/inbox/put-messages.ts";
import { Keys } from "../../src/redis/keys.ts";
import { REDISES } from "../support/cluster.ts";

const NODE = "n1";
const MIB = "x".repeat(1024 * 1024);

const MESSAGE: Message = {
  id: "m",
  from: "n2:from",
  to: { stitch: "a" },
  channel: "",
  data: "é",
  ref: null,
  re: null,
  receipt: null,
  hops: 0,
  sentAtMs: 0,
};

class Fixture {
  readonly redis: RedisClient;
  readonly keys = new Keys(`t${randomBytes(6).toString("hex")}`);

  constructor(redis: RedisClient) {
    this.redis = redis;
  }

  put(...posted: readonly Posted[]) {
    return putMessages(this.redis, this.keys, NODE, posted);
  }
  async read() {
    const entries = await readNewEntries(this.redis, this.keys, NODE, 10_000, 1);
    return { entries, acknowledge: (some = entries) => acknowledgeEntries(this.redis, this.keys, NODE, 1, some) };
  }
  /** The counts of the inbox that are not zero. */
  async load(): Promise<Record<string, number>> {
    const fields = await this.redis.hgetall(this.keys.nodeInboxLoad(NODE));
    return Object.fromEntries(
      Object.entries(fields)
        .map(([name, value]): [string, number] => [name, Number(value)])
        .filter(([name, value]) => value !== 0 && name !== "incarnation"),
    );
  }
}

async function withInbox(url: string, work: (fixture: Fixture) => Promise<void>): Promise<void> {
  const redis = openRedis(url, "shared", () => undefined);
  const fixture = new Fixture(redis);
  const { keys } = fixture;
  try {
    await connectRedis(redis, 10_000);
    await createInbox(redis, keys, NODE, 1);
    await work(fixture);
  } finally {
    const letters = [keys.nodeDeadLetters(NODE), keys.nodeDeadLetterIds(NODE), keys.nodeDeadLetterBytes(NODE)];
    const made = [keys.nodeInbox(NODE), keys.nodeInboxLoad(NODE), keys.nodeMeta(NODE), ...letters];
    await Promise.all([...made, keys.deadLetterNodes].map((key) => redis.del(key))).catch(() => undefined);
    redis.disconnect();
  }
}

for (const { name, url } of REDISES) {
  describe(`messages in an inbox on a ${name}`, () => {
    it("are counted, in all and for each stitch, until acknowledged; to acknowledge again changes nothing", async () => {
      await withInbox(url, async (fixture) => {
        assert.deepEqual(
          await fixture.put({ stitch: "a", body: "12" }, { stitch: "", body: "345" }, { stitch: "a", body: "ü" }),
          ["stored", "stored", "stored"],
        );
        assert.deepEqual(await fixture.load(), { n: 3, b: 7, "n:a": 2, "b:a": 4, "n:*": 1, "b:*": 3 });
        const { entries, acknowledge } = await fixture.read();
        assert.deepEqual(
          entries.map(({ kind, to, body }) => [kind, to, body]),
          [
            ["message", "a", "12"],
            ["message", "", "345"],
            ["message", "a", "ü"],
          ],
        );
        await acknowledge(entries.slice(0, 1));
        await acknowledge(entries.slice(0, 2));
        assert.deepEqual(await fixture.load(), { n: 1, b: 2, "n:a": 1, "b:a": 2 });
        await Promise.all([acknowledge(), acknowledge(), acknowledge()]);
        assert.deepEqual(await fixture.load(), {});
        assert.equal(await fixture.redis.xlen(fixture.keys.nodeInbox(NODE)), 0);
      });
    });

    it("for one stitch take at most an eighth, by number, in order: a smaller one does not overtake", async () => {
      await withInbox(url, async (fixture) => {
        const many = (count: number, stitch: string) =>
          Array.from({ length: count }, (): Posted => ({ stitch, body: "b" }));
        const placed = await fixture.put(...many(STITCH_MESSAGES + 1, "deaf"), { stitch: "other", body: "b" });
        assert.deepEqual(
          [placed.indexOf("full"), placed.lastIndexOf("full"), placed.at(-1)],
          [STITCH_MESSAGES, STITCH_MESSAGES, "stored"],
        );
        const { entries, acknowledge } = await fixture.read();
        await acknowledge(entries.slice(0, 1));
        assert.deepEqual(await fixture.put(...many(2, "deaf")), ["stored", "full"]);
        await Promise.all(Array.from({ length: 7 }, (_, index) => fixture.put(...many(STITCH_MESSAGES, `s${index}`))));
        assert.deepEqual(await fixture.put({ stitch: "", body: "b" }, { stitch: "new", body: "b" }), ["full", "full"]);
        const asked = { name: "x", args: {}, reply: "r", asker: "a", untilMs: 0 };
        assert.equal(await putQuestion(fixture.redis, fixture.keys, NODE, asked), true, "a question has room");
        assert.ok((await fixture.redis.xlen(fixture.keys.nodeInbox(NODE))) < MAX_ENTRIES);
      });
    });

    it("for one stitch take at most an eighth, by bytes; a larger one has room alone", async () => {
      await withInbox(url, async (fixture) => {
        const large = { stitch: "a", body: MIB.repeat(5) };
        assert.ok(large.body.length > STITCH_BYTES);
        assert.deepEqual(await fixture.put(large, large), ["stored", "full"]);
        assert.deepEqual(await fixture.put({ stitch: "a", body: "b" }), ["full"]);
        const { acknowledge } = await fixture.read();
        await acknowledge();
        const mib = { stitch: "a", body: MIB };
        assert.deepEqual(
          await fixture.put(mib, mib, mib, mib, { stitch: "a", body: "b" }, { stitch: "b", body: MIB }),
          [...Array.from({ length: 4 }, () => "stored"), "full", "stored"],
        );
      });
    });

    it("for several stitches take at most half, by number and bytes: a flood to a group leaves room for the rest", async () => {
      await withInbox(url, async (fixture) => {
        const toAll = (count: number, body: string) =>
          Array.from({ length: count }, (): Posted => ({ stitch: "", body }));
        const byNumber = await fixture.put(...toAll(SEVERAL_MESSAGES + 2, "b"));
        assert.deepEqual(byNumber.indexOf("full"), SEVERAL_MESSAGES);
        assert.deepEqual(await fixture.put({ stitch: "a", body: "b" }), ["stored"]);
        const { acknowledge } = await fixture.read();
        await acknowledge();
        assert.deepEqual(await fixture.load(), {});
        const byBytes = await fixture.put(...toAll(18, MIB));
        assert.deepEqual(byBytes, [...Array.from({ length: 16 }, () => "stored"), "full", "full"]);
        assert.deepEqual(await fixture.put({ stitch: "a", body: MIB }), ["stored"]);
      });
    });

    it("that find no room become dead letters only if their node is away; those with room are stored", async () => {
      await withInbox(url, async (fixture) => {
        const { redis, keys } = fixture;
        const body = MIB.repeat(4);
        const letter = { ...asLetter(MESSAGE, { code: "inbox_full", reason: "away", tries: 0, atMs: 1 }) };
        const burial = (...to: string[]) => ({ to, letter });
        const letters = async () =>
          (await listDeadLetters(redis, keys, NODE, null, 100)).map(({ letter }) => `${letter?.to} ${letter?.data}`);
        await fixture.put({ stitch: "a", body });
        const refused = { stitch: "a", body: "b" };
        const lease = (field: Record<string, number>) => redis.hset(keys.nodeMeta(NODE), field);
        await lease({ leaseUntil: Date.now() + 60_000 });
        assert.deepEqual(await fixture.put(refused), ["full"]);
        assert.deepEqual(await fixture.put({ ...refused, burial: burial("n1:a") }), ["full"], "its node lives");
        await lease({ left: Date.now() });
        assert.deepEqual(await fixture.put(refused), ["away"], "it has left");
        await redis.hdel(keys.nodeMeta(NODE), "left");
        await lease({ leaseUntil: Date.now() - 1 });
        assert.deepEqual(
          await fixture.put(refused, { stitch: "b", body: "b" }),
          ["away", "stored"],
          "its lease is over",
        );
        assert.deepEqual(await letters(), []);
        const all = [
          { ...refused, burial: burial("n1:a") },
          { stitch: "c", body: "b", burial: burial("n1:c") },
          { stitch: "", body: MIB.repeat(17), burial: burial("n1:a", "n1:b") },
        ];
        assert.deepEqual(await fixture.put(...all), ["buried", "stored", "stored"], "what is alone has room");
        assert.deepEqual(await fixture.put(...all), ["buried", "stored", "buried"]);
        assert.deepEqual(await letters(), ["n1:a é", "n1:a é", "n1:a é", "n1:b é"]);
        assert.deepEqual(
          (await nodesWithDeadLetters(redis, keys)).map(({ node }) => node),
          [NODE],
        );
        const once = (id: string) => putMessageOnce(redis, keys, NODE, id, { ...refused, burial: burial("n1:a") });
        assert.deepEqual([await once("x"), await once("x")], ["buried", "buried"], "once, and no second time");
        assert.equal((await letters()).length, 5);
      });
    });

    it("with an id are stored once, even if several callers try at the same time; not at all without room", async () => {
      await withInbox(url, async (fixture) => {
        const { redis, keys } = fixture;
        const once = (id: string, posted: Posted) => putMessageOnce(redis, keys, NODE, id, posted);
        const tries = Array.from({ length: 5 }, () => once("one", { stitch: "a", body: "b" }));
        assert.deepEqual(
          await Promise.all(tries),
          Array.from({ length: 5 }, () => "stored"),
        );
        assert.deepEqual(await fixture.load(), { n: 1, b: 1, "n:a": 1, "b:a": 1 });
        await fixture.put({ stitch: "a", body: MIB.repeat(3) });
        assert.equal(await once("two", { stitch: "a", body: MIB }), "full");
        const { acknowledge } = await fixture.read();
        await acknowledge();
        assert.equal(await once("two", { stitch: "a", body: MIB }), "stored");
        assert.equal(await once("one", { stitch: "a", body: "b" }), "stored");
        assert.equal((await fixture.load())["n"], 1, "the first was taken long ago, and does not come again");
      });
    });

    it("are refused if there is no inbox; an inbox is dropped only when it is empty", async () => {
      await withInbox(url, async (fixture) => {
        const { redis, keys } = fixture;
        await fixture.put({ stitch: "a", body: "b" }, { stitch: "", body: "b" });
        assert.equal(await dropInbox(redis, keys, NODE), false);
        const entries = await readOldestEntries(redis, keys, NODE, 10);
        assert.deepEqual(
          entries.map(({ to }) => to),
          ["a", ""],
        );
        await acknowledgeEntries(redis, keys, NODE, 1, entries);
        assert.equal(await dropInbox(redis, keys, NODE), true);
        assert.equal(await dropInbox(redis, keys, NODE), true);
        assert.deepEqual(await fixture.put({ stitch: "a", body: "b" }, { stitch: "b", body: "b" }), ["gone", "gone"]);
        assert.equal(await putMessageOnce(redis, keys, NODE, "one", { stitch: "a", body: "b" }), "gone");
        assert.equal(await redis.exists(keys.nodeInbox(NODE)), 0);
        assert.equal(await redis.exists(keys.nodeInboxLoad(NODE)), 0);
        assert.equal(await redis.exists(keys.sentMark(NODE, "one")), 0);
      });
    });

    it("match the counts, whatever is stored and acknowledged", async () => {
      await withInbox(url, async (fixture) => {
        const { redis, keys } = fixture;
        const posted = fc.record({
          stitch: fc.constantFrom("", "a", "b"),
          body: fc.string({ minLength: 1, maxLength: 5, unit: "grapheme" }),
        });
        const act = fc.oneof(
          fc.record({ put: fc.array(posted, { minLength: 1, maxLength: 6 }) }),
          // A message that was handed out leaves the inbox in another way than one that was not.
          fc.record({ take: fc.integer({ min: 1, max: 6 }) }),
          fc.record({ ack: fc.array(fc.nat(8), { maxLength: 6 }) }),
        );
        await fc.assert(
          fc.asyncProperty(fc.array(act, { maxLength: 12 }), async (acts) => {
            for (const each of acts) {
              if ("put" in each) await fixture.put(...each.put);
              else if ("take" in each) await readNewEntries(redis, keys, NODE, each.take, 1);
              else {
                const there = await readOldestEntries(redis, keys, NODE, 9);
                const some = each.ack.flatMap((index) => there[index] ?? []);
                await acknowledgeEntries(redis, keys, NODE, 1, some);
              }
              const counted: Record<string, number> = {};
              const count = (field: string, by: number) => (counted[field] = (counted[field] ?? 0) + by);
              for (const { to, body } of await readOldestEntries(redis, keys, NODE, 10_000)) {
                const bytes = Buffer.byteLength(body);
                for (const suffix of ["", `:${to === "" ? "*" : to}`]) {
                  count(`n${suffix}`, 1);
                  count(`b${suffix}`, bytes);
                }
              }
              assert.deepEqual(await fixture.load(), counted);
            }
          }),
          { numRuns: 40 },
        );
      });
    });
  });
}
