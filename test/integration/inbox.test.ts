import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { Cluster } from "ioredis";
import { RequestError } from "../../src/domain/errors.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { MAX_ENTRIES, putQuestion, type Question, createInbox, readNewEntries } from "../../src/redis/inbox/inbox.ts";
import { Keys } from "../../src/redis/keys.ts";
import { redisTimeMs } from "../../src/redis/node/node-record.ts";
import { type Answer, takeAnswer } from "../../src/redis/inbox/replies.ts";
import { InboxReader, type QuestionHandler } from "../../workers/node/messages/inbox-reader.ts";
import { REDISES, until } from "../support/cluster.ts";

const NODE = "n1";

/** Redis, and a node that has nothing but its inbox. */
class Fixture {
  readonly keys = new Keys(`t${randomBytes(6).toString("hex")}`);
  readonly redis: RedisClient;
  readonly errors: unknown[] = [];
  /** The ids of messages, in the order in which the reader handed them on. */
  readonly messages: string[] = [];
  /** The connection of the inbox started last. */
  blocking: RedisClient | null = null;
  /** The rest of the lease, as the worker under test knows it. */
  leaseLeftMs = 60_000;
  /** Called with each message that is handed on. */
  onMessage: () => void = () => undefined;
  readonly #url: string;
  readonly #inboxes: InboxReader[] = [];
  #asked = 0;

  constructor(url: string) {
    this.#url = url;
    this.redis = openRedis(url, "shared", (error) => this.errors.push(error));
  }

  get inboxKey(): string {
    return this.keys.nodeInbox(NODE);
  }
  waiting(): Promise<number> {
    return this.redis.xlen(this.inboxKey);
  }

  cutConnections(): void {
    const { blocking } = this;
    for (const node of blocking instanceof Cluster ? blocking.nodes("master") : [blocking]) node?.disconnect(true);
  }

  async start(handlers: Readonly<Record<string, QuestionHandler>>): Promise<InboxReader> {
    const inbox = new InboxReader({
      redis: this.redis,
      openBlocking: () => {
        this.blocking = openRedis(this.#url, "blocking", (error) => this.errors.push(error));
        return this.blocking;
      },
      keys: this.keys,
      node: NODE,
      onMessage: ({ id }) => {
        this.messages.push(id);
        this.onMessage();
      },
      incarnation: () => 1,
      messagesHeld: () => 0,
      handlers,
      leaseLeftMs: () => this.leaseLeftMs,
      redisNowMs: Date.now,
      onError: (error) => this.errors.push(error),
    });
    this.#inboxes.push(inbox);
    await inbox.start();
    return inbox;
  }

  /** Puts a question; returns the id of its reply. */
  async ask(name: string, args: Question["args"] = {}, waitMs = 60_000): Promise<string> {
    const reply = `reply-${++this.#asked}`;
    const untilMs = (await redisTimeMs(this.redis, this.keys.nodeInbox(NODE))) + waitMs;
    assert.equal(await putQuestion(this.redis, this.keys, NODE, { name, args, reply, asker: "test", untilMs }), true);
    return reply;
  }

  answer(reply: string): Promise<Answer> {
    return until(`the answer ${reply}`, () => takeAnswer(this.redis, this.keys, reply));
  }

  async close(): Promise<void> {
    for (const inbox of this.#inboxes) await inbox.stop(500);
    await this.redis.del(this.inboxKey);
    this.redis.disconnect();
  }
}

async function withInbox(url: string, work: (fixture: Fixture) => Promise<void>): Promise<void> {
  const fixture = new Fixture(url);
  try {
    await connectRedis(fixture.redis, 10_000);
    await work(fixture);
  } finally {
    await fixture.close();
  }
}

const echo: QuestionHandler = async (args) => args;

for (const { name, url } of REDISES) {
  describe(`a node's inbox on a ${name}`, { concurrency: 3 }, () => {
    it("answers questions, reports those that it cannot answer, and acknowledges each", async () => {
      await withInbox(url, async (fixture) => {
        await fixture.start({
          echo,
          refuse: () => Promise.reject(new RequestError("not_found", "no such thing")),
          fail: () => Promise.reject(new Error("a canary")),
        });
        const ask = async (what: string) => fixture.answer(await fixture.ask(what, { a: 1 }));
        assert.deepEqual(await ask("echo"), { ok: true, value: { a: 1 } });
        assert.deepEqual(await ask("refuse"), { ok: false, code: "not_found", detail: "no such thing" });
        const failed = await ask("fail");
        assert.ok(!failed.ok && failed.code === "internal" && !failed.detail.includes("canary"));
        assert.match(String(fixture.errors), /a canary/);
        const unknown = await ask("toString");
        assert.ok(!unknown.ok && unknown.code === "internal");
        await until("nothing waits", async () => (await fixture.waiting()) === 0);
        const groups: unknown = await fixture.redis.xpending(fixture.inboxKey, "node");
        assert.equal((groups as unknown[])[0], 0, "and nothing is pending");
      });
    });

    it("drops late and unreadable questions, and leaves alone entries that a later version may know", async () => {
      await withInbox(url, async (fixture) => {
        const called: unknown[] = [];
        const note: QuestionHandler = async (args) => called.push(args);
        await fixture.ask("note", { late: true }, -1);
        await fixture.redis.xadd(fixture.inboxKey, "*", "question", "{");
        await fixture.redis.xadd(fixture.inboxKey, "*", "question", '{"name":"note"}');
        await fixture.redis.xadd(fixture.inboxKey, "*", "parcel", "of a later version");
        await fixture.start({ note, echo });
        await fixture.answer(await fixture.ask("note", { in: "time" }));
        assert.deepEqual(called, [{ in: "time" }]);
        await until("what it can deal with is gone", async () => (await fixture.waiting()) === 1);
        const [left] = await fixture.redis.xrange(fixture.inboxKey, "-", "+");
        assert.deepEqual(left?.[1], ["parcel", "of a later version"]);
        assert.equal(fixture.errors.length, 2);
      });
    });

    it("refuses questions beyond its bound", async () => {
      await withInbox(url, async (fixture) => {
        const fill = Array.from({ length: MAX_ENTRIES - 1 }, () => fixture.redis.xadd(fixture.inboxKey, "*", "a", "b"));
        await Promise.all(fill);
        const asked = { name: "echo", args: {}, reply: "r", asker: "test", untilMs: 0 };
        const put = () => putQuestion(fixture.redis, fixture.keys, NODE, asked);
        assert.deepEqual(await Promise.all([put(), put(), put()]), [true, false, false]);
        assert.equal(await fixture.waiting(), MAX_ENTRIES);
      });
    });

    it("answers a question that an earlier run took and did not finish", async () => {
      await withInbox(url, async (fixture) => {
        const taken = Promise.withResolvers<void>();
        const first = await fixture.start({
          echo: () => {
            taken.resolve();
            return new Promise(() => undefined);
          },
        });
        const reply = await fixture.ask("echo", { kept: true });
        await taken.promise;
        await first.stop(0);
        assert.equal(await takeAnswer(fixture.redis, fixture.keys, reply), null);
        await fixture.start({ echo });
        assert.deepEqual(await fixture.answer(reply), { ok: true, value: { kept: true } });
        await until("it is acknowledged", async () => (await fixture.waiting()) === 0);
      });
    });

    it("P12: takes and answers nothing without the node's id; with the id again, answers what is not late", async () => {
      await withInbox(url, async (fixture) => {
        const finish = Promise.withResolvers<void>();
        const taken = Promise.withResolvers<void>();
        let calls = 0;
        await fixture.start({
          slow: async (args) => {
            calls += 1;
            taken.resolve();
            await finish.promise;
            return args;
          },
        });
        const begun = await fixture.ask("slow", { n: 1 });
        await taken.promise;
        fixture.leaseLeftMs = 0;
        finish.resolve();
        const unread = await fixture.ask("slow", { n: 2 });
        assert.equal(await takeAnswer(fixture.redis, fixture.keys, begun), null);
        assert.equal(await takeAnswer(fixture.redis, fixture.keys, unread), null);
        fixture.leaseLeftMs = 60_000;
        assert.deepEqual(await fixture.answer(begun), { ok: true, value: { n: 1 } });
        assert.deepEqual(await fixture.answer(unread), { ok: true, value: { n: 2 } });
        assert.equal(calls, 3, "the answer to the first was withheld, and it was asked again");
      });
    });

    it("works on a bounded number of questions at the same time", async () => {
      await withInbox(url, async (fixture) => {
        let now = 0;
        let most = 0;
        const finish = Promise.withResolvers<void>();
        const handlers: Record<string, QuestionHandler> = {
          count: async () => {
            now += 1;
            most = Math.max(most, now);
            await finish.promise;
            now -= 1;
          },
        };
        const replies = await Promise.all(Array.from({ length: 40 }, () => fixture.ask("count")));
        await fixture.start(handlers);
        await until("it is busy", () => most === 8);
        finish.resolve();
        for (const reply of replies) await fixture.answer(reply);
        assert.equal(most, 8);
      });
    });

    it("finds entries that Redis handed out on a connection that broke before they arrived", async () => {
      await withInbox(url, async (fixture) => {
        await fixture.start({ echo });
        assert.equal((await fixture.answer(await fixture.ask("echo"))).ok, true);
        // One script adds and reads the entry, as if a reply were lost with its connection: the inbox never gets it.
        const untilMs = (await redisTimeMs(fixture.redis, fixture.keys.nodeInbox(NODE))) + 60_000;
        const lost: Question = { name: "echo", args: {}, reply: "reply-lost", asker: "test", untilMs };
        await fixture.redis.eval(
          `redis.call('XADD', KEYS[1], '*', 'question', ARGV[1])
          return redis.call('XREADGROUP', 'GROUP', 'node', 'node', 'STREAMS', KEYS[1], '>')`,
          1,
          fixture.inboxKey,
          JSON.stringify(lost),
        );
        assert.equal((await fixture.answer("reply-lost")).ok, true);
      });
    });

    it("goes on after Redis has lost the inbox, and after its connections were cut", async () => {
      await withInbox(url, async (fixture) => {
        await fixture.start({ echo });
        await fixture.answer(await fixture.ask("echo"));
        await fixture.redis.del(fixture.inboxKey);
        await fixture.answer(await fixture.ask("echo"));
        fixture.cutConnections();
        await fixture.answer(await fixture.ask("echo"));
      });
    });

    it("hands messages on in order, even those that Redis handed out on a connection that broke", async () => {
      await withInbox(url, async (fixture) => {
        const { redis, keys } = fixture;
        await fixture.start({ echo });
        const put = () => redis.xadd(fixture.inboxKey, "*", "message:a", "m");
        for (let round = 0; round < 5; round++) {
          await fixture.answer(await fixture.ask("echo"));
          fixture.cutConnections();
          const first = await put();
          // If Redis did not hand it out on the broken connection, this read has the same effect.
          await readNewEntries(redis, keys, NODE, 10, 1);
          const second = await put();
          await until("the second came", () => fixture.messages.includes(second ?? ""));
          const [before] = fixture.messages.slice(fixture.messages.indexOf(second ?? "") - 1);
          assert.equal(before, first);
        }
      });
    });

    it("hands messages on in order, even if the lease ends and returns while it takes those of an earlier run", async () => {
      await withInbox(url, async (fixture) => {
        const { redis, keys, messages } = fixture;
        await createInbox(redis, keys, NODE, 1);
        const put = async () => (await redis.xadd(fixture.inboxKey, "*", "message:a", "m")) ?? "";
        const ids = [await put(), await put(), await put()];
        await readNewEntries(redis, keys, NODE, 10, 1);
        ids.push(await put());
        fixture.onMessage = () => {
          fixture.onMessage = () => undefined;
          fixture.leaseLeftMs = 0;
          setImmediate(() => (fixture.leaseLeftMs = 60_000));
        };
        await fixture.start({});
        await until("all came", () => ids.every((id) => messages.includes(id)));
        assert.deepEqual([...new Set(messages)], ids);
      });
    });
  });
}
