// Delivery of messages: order; stitches that are slow, deaf, stopped, removed or moved; workers that are killed; full inboxes.
// On one kind of Redis: messages.test.ts has what differs between the two.
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { type RemovedRecord, stitchRecord } from "../../src/domain/stitch/stitch.ts";
import { putMessages } from "../../src/redis/inbox/put-messages.ts";
import { FAST, type Part, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { createMail, MAIL_MODULE, takenBy, tell } from "../support/mail.ts";
import { MailClient, rowsOf } from "../support/mail-client.ts";
import { addRecord, dataDirOf, logOf, recordsOf } from "../support/stitch-folder.ts";

const [standalone] = REDISES;
const MIB = 1024 * 1024;

/** The node workers of a cluster. */
class Workers {
  readonly #cluster: TestCluster;
  readonly #running = new Map<string, Part>();

  constructor(cluster: TestCluster) {
    this.#cluster = cluster;
  }

  async start(...nodes: readonly string[]): Promise<void> {
    const start = async (node: string) => this.#running.set(node, await this.#cluster.node(node, MAIL_MODULE));
    await Promise.all(nodes.map(start));
  }

  async end(node: string, signal: NodeJS.Signals): Promise<void> {
    await this.#running.get(node)?.kill(signal);
  }
}

/** A cluster with an API and these nodes. */
function withMail(
  nodes: readonly string[],
  work: (cluster: TestCluster, mail: MailClient, workers: Workers) => Promise<void>,
  { redisUrl = standalone?.url ?? "", env = {} }: { redisUrl?: string; env?: Record<string, string> } = {},
) {
  return withCluster(redisUrl, env, async (cluster) => {
    const workers = new Workers(cluster);
    const [{ url }] = await Promise.all([cluster.api(), workers.start(...nodes)]);
    await work(cluster, new MailClient(url), workers);
  });
}

/** The counts of a node's inbox, without the incarnation that owns it. */
const loadOf = async ({ open: { redis, keys } }: TestCluster, node: string): Promise<Record<string, string>> => {
  const { incarnation: _, ...load } = await redis.hgetall(keys.nodeInboxLoad(node));
  return load;
};
/** Resolves when a node's inbox is empty and all its counts are 0. */
const untilEmpty = (cluster: TestCluster, node: string, limitMs?: number) =>
  until(
    `nothing is left in the inbox of ${node}`,
    async () => {
      const load = await loadOf(cluster, node);
      const left = await cluster.open.redis.xlen(cluster.open.keys.nodeInbox(node));
      return left === 0 && Object.values(load).every((value) => value === "0") && Object.keys(load).length <= 2;
    },
    limitMs,
  );
const dataOf = (cluster: TestCluster, fullId: string) => takenBy(cluster, fullId).map(({ data }) => data);
const numbered = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}${n + 1}`);
type Saying = { readonly to: object; readonly data: string; readonly channel?: string; readonly count?: number };
/** The most messages that a stitch sends for one request: it must acknowledge the request within 10 s, or gets it again. */
const AT_A_TIME = 50;
/** Makes a stitch send all of these, in this order. */
async function tellToSend(mail: MailClient, from: string, sayings: readonly Saying[]): Promise<void> {
  for (const { count = 1, ...saying } of sayings)
    for (let first = 1; first <= count; first += AT_A_TIME)
      await mail.tell(from, "send", [{ ...saying, first, count: Math.min(AT_A_TIME, count - first + 1) }]);
}
const logText = (cluster: TestCluster, node: string, id: string) =>
  logOf(cluster, node, id)
    .map(({ line }) => line)
    .join("\n");
/** Groups what came from several senders by sender. */
const ofEach = (data: readonly string[]) => Map.groupBy(data, (text) => text.replace(/\d+$/, ""));

describe("messages", { concurrency: 2 }, () => {
  it("of one sender arrive in the order they were sent, from any kind of sender and with any kind of address", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "order.to.1", { "n2:to-m": "module", "n2:to-p": "process" });
      await createMail(cluster, "order.from.1", {
        "n1:from-m": "module",
        "n1:from-p": "process",
        "n2:from-q": "process",
      });
      const tos = ["to-m", "n2:to-m", "to-p", "n2:to-p"].map((stitch) => ({ stitch }));
      const say = (prefix: string) => [
        ...tos.map((to) => ({ to, data: `${prefix}a`, count: 200 })),
        { to: { group: "order.to" }, data: `${prefix}b`, count: 100 },
        ...tos.map((to) => ({ to, data: `${prefix}c`, count: 50 })),
        { to: { group: "order.to.1" }, data: `${prefix}d`, count: 50 },
      ];
      const senders = ["from-m", "from-p", "from-q"];
      await Promise.all(senders.map((from) => tellToSend(mail, from, say(from))));
      const expected = (prefix: string) => [
        ...numbered(`${prefix}a`, 200),
        ...numbered(`${prefix}a`, 200),
        ...numbered(`${prefix}b`, 100),
        ...numbered(`${prefix}c`, 50),
        ...numbered(`${prefix}c`, 50),
        ...numbered(`${prefix}d`, 50),
      ];
      for (const to of ["n2:to-m", "n2:to-p"]) {
        await until("all came", () => takenBy(cluster, to).length >= 3 * 650, 60_000);
        for (const from of senders)
          assert.deepEqual(
            dataOf(cluster, to).filter((data) => data.startsWith(from)),
            expected(from),
          );
      }
      await untilEmpty(cluster, "n2");
    });
  });

  it("of a module keep their order, even if the module does not wait for each of them", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "atonce.to.1", { "n2:to": "module" });
      await createMail(cluster, "atonce.from.1", { "n1:from": "module" });
      const tos = [{ stitch: "to" }, { stitch: "n2:to" }, { group: "atonce.to" }, { group: "atonce.to.1" }];
      const said = numbered("", 400).map((data, n) => ({ to: tos[(n * 7) % 4], data }));
      for (let first = 0; first < said.length; first += AT_A_TIME)
        await mail.tell("from", "send-at-once", said.slice(first, first + AT_A_TIME));
      await until("all came", () => takenBy(cluster, "n2:to").length >= 400, 60_000);
      assert.deepEqual(dataOf(cluster, "n2:to"), numbered("", 400));
    });
  });

  it("wait only for the message before them from the same sender to the same stitch", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "slow.a.1", { "n2:slow-m": "module", "n2:slow-p": "process", "n2:other": "process" });
      await createMail(cluster, "slow.b.1", { "n1:from-1": "process", "n1:from-2": "module" });
      for (const slow of ["slow-m", "slow-p"]) {
        await mail.tell("from-1", "send", [
          { to: { stitch: slow }, channel: "wait-for-go", data: "held" },
          { to: { stitch: slow }, data: "behind" },
          { to: { stitch: "other" }, data: `past ${slow}` },
        ]);
        await mail.tell("from-2", "send", [{ to: { stitch: slow }, data: "of another" }]);
        await until("what need not wait came", () => dataOf(cluster, "n2:other").includes(`past ${slow}`));
        await until("and of another sender, too", () => dataOf(cluster, `n2:${slow}`).includes("of another"));
        assert.ok(!dataOf(cluster, `n2:${slow}`).includes("behind"));
        tell(cluster, `n2:${slow}`);
        await until("then the next came", () => dataOf(cluster, `n2:${slow}`).includes("behind"));
      }
      await untilEmpty(cluster, "n2");
    });
  });

  it("are delivered again until acknowledged, even if the stitch crashes; its crashes harm no other messages", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      const restart = { backoffMs: 50, maxBackoffMs: 100, maxRestarts: 50 };
      await createMail(cluster, "again.a.1", { "n2:p": "process" }, { spec: { restart } });
      await createMail(cluster, "again.a.1", { "n2:m": "module" }, { spec: { restart } });
      await createMail(cluster, "again.b.1", { "n1:from": "module" });
      await mail.tell("from", "send", [
        { to: { stitch: "p" }, channel: "fail-until-go", data: "p1" },
        { to: { stitch: "p" }, channel: "exit", data: "p2" },
        { to: { stitch: "p" }, data: "p3" },
        { to: { stitch: "m" }, channel: "never", data: "m1" },
        { to: { stitch: "m" }, data: "m2" },
      ]);
      await until("p1 failed once", () => dataOf(cluster, "n2:p").length >= 1);
      tell(cluster, "n2:p");
      // m never answers m1. When m crashes, this delivery of m1 has failed, and m1 comes again at once.
      await mail.send({ stitch: "m" }, { channel: "throw-later" });
      await until("m1 came again", () => dataOf(cluster, "n2:m").filter((data) => data === "m1").length >= 2);
      await until("p3 came", () => dataOf(cluster, "n2:p").includes("p3"), 60_000);
      const of = dataOf(cluster, "n2:p");
      assert.deepEqual(of, [...of.filter((data) => data === "p1"), "p2", "p2", "p2", "p2", "p2", "p3"]);
      const letters = await until("p2 is a dead letter", async () => {
        const { items } = await mail.deadLetters("?node=n2");
        return items.length >= 1 && items;
      });
      assert.deepEqual(
        letters.map(({ stitch, data, code, tries }) => [stitch, data, code, tries]),
        [["n2:p", "p2", "stitch_failed", 5]],
      );
      await cluster.run({ command: "stitch.remove", target: "m" });
      await untilEmpty(cluster, "n2");
      const left = (await mail.deadLetters("?stitch=n2:m")).items;
      assert.deepEqual(left.map(({ data, code }) => `${data} ${code}`).sort(), ["m1 no_recipient", "m2 no_recipient"]);
    });
  });

  it("that a stitch is handling when it is stopped are acknowledged, and are not delivered again", async () => {
    await withMail(["n1"], async (cluster, mail) => {
      await createMail(cluster, "last.a.1", { "n1:p": "process", "n1:m": "module" });
      // p acknowledges the message only when it is told to exit; it is the last thing that p writes.
      tell(cluster, "n1:p", "ack-at-exit");
      for (const [stitch, channel] of [
        ["p", "never"],
        ["m", "wait-for-go"],
      ] as const) {
        await mail.send({ stitch }, { channel, data: "once" });
        await until("it has it", () => takenBy(cluster, `n1:${stitch}`).length >= 1);
        const stopped = await cluster.run({ command: "stitch.stop", target: stitch });
        assert.equal(stopped.status, "succeeded");
        // If the stop took more than 10 s, the message has come twice by now.
        const before = dataOf(cluster, `n1:${stitch}`);
        const started = await cluster.run({ command: "stitch.start", target: stitch });
        assert.equal(started.status, "succeeded");
        await mail.tell(stitch, "", "next");
        assert.deepEqual(dataOf(cluster, `n1:${stitch}`), [...before, "next"]);
      }
      await untilEmpty(cluster, "n1");
    });
  });

  it("wait for a stopped stitch, even over a restart of its node; for a removed one they become dead letters", async () => {
    await withMail(["n1", "n2"], async (cluster, mail, workers) => {
      await createMail(cluster, "stopped.a.1", { "n2:s": "process", "n2:r": "module" });
      await createMail(cluster, "stopped.b.1", { "n1:from": "module" });
      for (const target of ["s", "r"]) await cluster.run({ command: "stitch.stop", target });
      const say = (stitch: string) => ({ to: { stitch }, data: stitch, count: 50 });
      await tellToSend(mail, "from", [say("s"), say("r"), { to: { group: "stopped.a" }, data: "g", count: 10 }]);
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        await workers.end("n2", signal);
        await workers.start("n2");
      }
      assert.deepEqual([dataOf(cluster, "n2:s"), dataOf(cluster, "n2:r")], [[], []]);
      await cluster.run({ command: "stitch.start", target: "s" });
      await until("it has its mail", () => takenBy(cluster, "n2:s").length >= 60);
      assert.deepEqual(dataOf(cluster, "n2:s"), [...numbered("s", 50), ...numbered("g", 10)]);
      await cluster.run({ command: "stitch.remove", target: "r" });
      await untilEmpty(cluster, "n2");
      const { items } = await mail.deadLetters("?stitch=n2:r");
      assert.deepEqual(
        items.map(({ data, code }) => `${data} ${code}`),
        [...numbered("r", 50), ...numbered("g", 10)].map((data) => `${data} no_recipient`),
      );
      assert.equal((await mail.deadLetters()).items.length, 60);
    });
  });

  it("P11: for a node that was killed are delivered after its next start, in order; the counts return to 0", async () => {
    await withMail(["n1", "n2"], async (cluster, mail, workers) => {
      await createMail(cluster, "killed.a.1", { "n2:m": "module", "n2:p": "process" });
      await createMail(cluster, "killed.b.1", { "n1:from": "module" });
      const say = (channel: string, data: string, count = 1) =>
        ["m", "p"].map((stitch) => ({ to: { stitch }, channel, data, count }));
      await tellToSend(mail, "from", [...say("", "before"), ...say("wait-for-go", "held"), ...say("", "after", 300)]);
      for (const id of ["m", "p"]) await until("they are at it", () => dataOf(cluster, `n2:${id}`).includes("held"));
      const { redis, keys } = cluster.open;
      const unread = 2 * (1 + 300);
      await until("what is done has left the inbox", async () => (await redis.xlen(keys.nodeInbox("n2"))) === unread);
      await workers.end("n2", "SIGKILL");
      await tellToSend(mail, "from", say("", "later", 100));
      for (const id of ["m", "p"]) tell(cluster, `n2:${id}`);
      await workers.start("n2");
      for (const id of ["m", "p"]) {
        await until("all came", () => dataOf(cluster, `n2:${id}`).includes("later100"), 60_000);
        const came = dataOf(cluster, `n2:${id}`);
        // Once in each run of the worker, and once more for each 10 s that the first run had it.
        const held = came.filter((data) => data === "held");
        assert.ok(held.length >= 2);
        assert.deepEqual(came, ["before", ...held, ...numbered("after", 300), ...numbered("later", 100)]);
      }
      await untilEmpty(cluster, "n2");
      assert.deepEqual((await mail.deadLetters()).items, []);
    });
  });

  it("follow a stitch that has moved, a bounded number of times", async () => {
    await withMail(["n1", "n2", "n3"], async (cluster, mail, workers) => {
      await createMail(cluster, "moved.a.1", { "n3:mover": "module", "n2:ring": "module", "n3:ring": "module" });
      await createMail(cluster, "moved.b.1", { "n1:from": "module" });
      // What moves leave behind: the stitch is gone from one node, and on another. The moves of `ring` form a circle.
      const moves = { n1: { mover: "n2:mover" }, n2: { mover: "n3:mover", ring: "n3:ring" }, n3: { ring: "n2:ring" } };
      for (const target of ["n2:ring", "n3:ring"]) await cluster.run({ command: "stitch.remove", target });
      for (const [node, of] of Object.entries(moves)) {
        await workers.end(node, "SIGTERM");
        for (const [id, movedTo] of Object.entries(of)) leaveTombstone(cluster, node, id, movedTo);
      }
      await workers.start("n1", "n2", "n3");
      await mail.tell("from", "send", [
        { to: { stitch: "n1:mover" }, channel: "", data: "twice", count: 20 },
        { to: { stitch: "n2:mover" }, channel: "", data: "once" },
        { to: { stitch: "n2:ring" }, data: "round" },
      ]);
      await until("all came", () => takenBy(cluster, "n3:mover").length >= 21);
      assert.deepEqual(
        dataOf(cluster, "n3:mover").filter((data) => data !== "once"),
        numbered("twice", 20),
      );
      assert.equal(await mail.ask("n1:mover", "reply", "over HTTP, too"), "re:over HTTP, too");
      const letter = await until("what goes round is dead", async () => (await mail.deadLetters()).items[0]);
      assert.deepEqual([letter.data, letter.code], ["round", "too_many_hops"]);
      for (const node of ["n1", "n2", "n3"]) await untilEmpty(cluster, node);
    });
  });

  it("to a bare id find the stitch that has it, even if their sender believes that it is on another node", async () => {
    await withMail(["n1", "n2", "n3"], async (cluster, mail) => {
      const group = "again.a.1";
      await createMail(cluster, group, { "n1:b": "module" });
      await createMail(cluster, "again.b.1", { "n2:from": "module" });
      const say = (data: string) => mail.tell("from", "send", [{ to: { stitch: "b" }, channel: "", data }]);
      await say("to the first");
      await until("it came", () => dataOf(cluster, "n1:b").length === 1);
      await cluster.run({ command: "stitch.remove", target: "b" });
      await createMail(cluster, group, { "n3:b": "module" });
      await say("to the second");
      // As from a sender that looked the stitch up just before it was removed.
      const { redis, keys } = cluster.open;
      const late = {
        id: "late",
        from: "n2:from",
        channel: "",
        ref: null,
        re: null,
        receipt: null,
        hops: 0,
        sentAtMs: 0,
      };
      const put = (stitch: string, data: string, bare: object) =>
        putMessages(redis, keys, "n1", [{ stitch, body: JSON.stringify({ ...late, to: { stitch }, data, ...bare }) }]);
      await put("b", "by its bare id", { bare: true });
      await put("b", "by its full id", {});
      await put("nosuch", "to nobody", { bare: true });
      for (const node of ["n1", "n3"]) await untilEmpty(cluster, node);
      assert.deepEqual(dataOf(cluster, "n3:b").sort(), ["by its bare id", "to the second"]);
      const { items } = await mail.deadLetters();
      assert.deepEqual(items.map(({ stitch, data, code }) => `${stitch} ${data}: ${code}`).sort(), [
        "n1:b by its full id: no_recipient",
        "n1:nosuch to nobody: no_recipient",
      ]);
    });
  });

  it("that are dead letters are redriven to the stitch that now has their bare id, but not if they had a full id", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "redrive.a.1", { "n1:b": "module" }, { start: false });
      for (const to of ["b", "n1:b"]) await mail.send({ stitch: to }, { data: to });
      await until("they wait", async () => (await loadOf(cluster, "n1"))["n:b"] === "2");
      await cluster.run({ command: "stitch.remove", target: "b" });
      await createMail(cluster, "redrive.a.1", { "n2:b": "module" });
      const { items } = await until("they are dead", async () => {
        const letters = await mail.deadLetters();
        return letters.items.length === 2 ? letters : null;
      });
      const redriven = await Promise.all(
        items.map(async ({ id, stitch, data }) => {
          const { status, body } = await mail.on("POST", `/v1/dead-letters/${id}/redrive`);
          return [stitch, data, status, body.code ?? rowsOf(body.deliveries ?? []).join()].join(" ");
        }),
      );
      assert.deepEqual(redriven.sort(), ["n1:b b 202 n2:b accepted", "n1:b n1:b 404 no_recipient"]);
      await untilEmpty(cluster, "n2");
      assert.deepEqual(dataOf(cluster, "n2:b"), ["b"]);
      assert.deepEqual(
        (await mail.deadLetters()).items.map(({ data }) => data),
        ["n1:b"],
      );
    });
  });

  it("that are dead letters are not redriven to a node that is being forgotten: no_recipient, not inbox_full", async () => {
    await withMail(["n1"], async (cluster, mail, workers) => {
      await createMail(cluster, "redrive.a.1", { "n1:a": "module" }, { start: false });
      await mail.send({ stitch: "a" });
      await cluster.run({ command: "stitch.remove", target: "a" });
      const { id } = await until("it is dead", async () => (await mail.deadLetters()).items[0]);
      await createMail(cluster, "redrive.a.1", { "n1:a": "module" }, { start: false });
      await workers.end("n1", "SIGTERM");
      // When a node is forgotten, its inbox is deleted first.
      await cluster.open.redis.del(cluster.open.keys.nodeInbox("n1"));
      const { status, body } = await mail.on("POST", `/v1/dead-letters/${id}/redrive`);
      assert.deepEqual([status, body.code], [404, "no_recipient"]);
      assert.equal((await mail.deadLetters()).items.length, 1, "and it is kept");
    });
  });

  it("that are sent while their stitch moves are not lost: to its bare id, its full id, or its group", async () => {
    await withMail(["n1", "n2", "n3"], async (cluster, mail) => {
      await createMail(cluster, "going.a.1", { "n1:goer": "process" });
      await createMail(cluster, "going.b.1", { "n3:from": "module" });
      const sent = numbered("told", 100);
      let moving = true;
      const keepSending = async (name: string, to: object) => {
        for (let n = 1; moving; n++) {
          const { status, body } = await mail.send(to, { data: `${name}${n}`, expect: "none" });
          assert.equal(status, 202, JSON.stringify(body));
          sent.push(`${name}${n}`);
          // Without this pause, more would be sent than arrives, and the rest would still wait after the moves.
          await wait(10);
        }
      };
      const senders = [
        keepSending("bare", { stitch: "goer" }),
        keepSending("full", { stitch: "n1:goer" }),
        keepSending("group", { group: "going.a" }),
        tellToSend(mail, "from", [{ to: { stitch: "goer" }, channel: "", data: "told", count: 100 }]),
      ];
      for (const toNode of ["n2", "n3"]) {
        const job = await cluster.run({ command: "stitch.move", target: "goer", toNode });
        assert.equal(job.status, "succeeded", JSON.stringify(job));
      }
      moving = false;
      await Promise.all(senders);
      const received = () => new Set(["n1", "n2", "n3"].flatMap((node) => dataOf(cluster, `${node}:goer`)));
      await until(
        "all came",
        () => {
          const all = received();
          return sent.every((data) => all.has(data));
        },
        60_000,
      );
      for (const node of ["n1", "n2", "n3"]) await untilEmpty(cluster, node);
      assert.deepEqual((await mail.deadLetters()).items, []);
    });
  });

  it("that wait for a stitch when it moves follow it; a waiting sender gets the result under the old id", async () => {
    await withMail(["n1", "n2"], async (cluster, mail, workers) => {
      await createMail(cluster, "going.a.1", { "n1:goer": "module", "n1:stays": "module" }, { start: false });
      await createMail(cluster, "going.b.1", { "n2:goer-2": "module" });
      const one = mail.send({ stitch: "n1:goer" }, { data: "alone", expect: "ack", timeoutMs: 50_000 });
      const all = mail.send({ group: "going.a" }, { data: "group", expect: "ack", timeoutMs: 50_000 });
      await until("both wait", async () => (await cluster.open.redis.xlen(cluster.open.keys.nodeInbox("n1"))) === 2);
      await workers.end("n1", "SIGKILL");
      leaveTombstone(cluster, "n1", "goer", "n2:goer-2");
      await workers.start("n1");
      await cluster.run({ command: "stitch.start", target: "n1:stays" });
      const rows = (await Promise.all([one, all])).map(({ body }) => body.deliveries);
      assert.deepEqual(rows, [
        [{ stitch: "n1:goer", status: "acked" }],
        [
          { stitch: "n1:goer", status: "acked" },
          { stitch: "n1:stays", status: "acked" },
        ],
      ]);
      assert.deepEqual(dataOf(cluster, "n2:goer-2").sort(), ["alone", "group"]);
    });
  });

  it("to a group follow a member that moved before its node took them, but not if it moved before they were sent", async () => {
    await withMail(["n1", "n2"], async (cluster, mail, workers) => {
      await createMail(cluster, "away.a.1", { "n1:goer": "module", "n1:long-gone": "module", "n1:stays": "module" });
      await createMail(cluster, "away.b.1", { "n2:goer-2": "module", "n2:long-gone-2": "module", "n2:from": "module" });
      await workers.end("n1", "SIGKILL");
      await mail.tell("from", "send", [{ to: { group: "away.a" }, data: "meanwhile" }]);
      leaveTombstone(cluster, "n1", "goer", "n2:goer-2");
      leaveTombstone(cluster, "n1", "long-gone", "n2:long-gone-2", { removedAtMs: Date.now() - 60_000 });
      await workers.start("n1");
      await untilEmpty(cluster, "n1");
      await untilEmpty(cluster, "n2");
      assert.deepEqual(
        ["n1:stays", "n2:goer-2", "n2:long-gone-2"].map((id) => dataOf(cluster, id)),
        [["meanwhile"], ["meanwhile"], []],
      );
      assert.deepEqual((await mail.deadLetters()).items, []);
    });
  });

  it("for a stitch that is still arriving go to its old node: at once by bare id, the others if the move fails", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      const spec = { restart: { policy: "never" } };
      await createMail(cluster, "back.a.1", { "n1:goer": "process" }, { spec });
      await createMail(cluster, "back.a.1", { "n2:other": "module" });
      await createMail(cluster, "back.b.1", { "n2:from": "module" });
      const move = (toNode: string) => ({ command: "stitch.move", target: "goer", toNode }) as const;
      // The first move makes its folder on n2. The file `silent` in it keeps the stitch from answering at the next move.
      await cluster.run(move("n2"));
      tell(cluster, "n2:goer", "silent");
      await cluster.run(move("n1"));
      const { id } = await cluster.run({ ...move("n2"), timeoutMs: 120_000 }, null, 0);
      const { redis, keys } = cluster.open;
      await until("it arrives", async () => (await redis.hexists(keys.nodeStitches("n2"), "goer")) === 1);
      await mail.tell("from", "send", [
        { to: { stitch: "goer" }, data: "bare" },
        { to: { stitch: "n2:goer" }, channel: "", data: "full" },
        { to: { group: "back.a" }, data: "group" },
      ]);
      const asked = mail.send({ stitch: "n2:goer" }, { data: "asked", expect: "ack", timeoutMs: 50_000 });
      const came = () => dataOf(cluster, "n1:goer");
      await until("what is for the old one came", () => came().includes("bare") && came().includes("group"));
      await until("the other has its own", () => dataOf(cluster, "n2:other").includes("group"));
      await until("the rest waits", async () => (await redis.xlen(keys.nodeInbox("n2"))) === 3);
      const pid = await until("it runs there", async () => (await cluster.master.state.stitch("n2:goer")).pid);
      process.kill(pid, "SIGKILL");
      const job = await cluster.master.commands.job(id, 60_000);
      assert.deepEqual([job.status, job.error?.code], ["failed", "exited_early"]);
      assert.deepEqual((await asked).body.deliveries, [{ stitch: "n2:goer", status: "acked" }]);
      for (const node of ["n1", "n2"]) await untilEmpty(cluster, node);
      assert.deepEqual(came().sort(), ["asked", "bare", "full", "group"]);
      assert.deepEqual(dataOf(cluster, "n2:goer"), []);
      assert.deepEqual((await mail.deadLetters()).items, []);
    });
  });

  it("P11: follow a stitch whose node died while it moved: by its old id at once, from the inbox after a restart", async () => {
    const dies = async (cluster: TestCluster, mail: MailClient, workers: Workers) => {
      await cluster.masterWorker();
      await createMail(cluster, "dies.a.1", { "n1:goer": "process" }, { spec: { heartbeatMs: 1000 } });
      await createMail(cluster, "dies.b.1", { "n3:from": "module" });
      const move = (toNode: string) => ({ command: "stitch.move", target: "goer", toNode }) as const;
      // The first move makes its folder on n2. The file `silent` in it keeps the stitch from answering until it is deleted.
      await cluster.run(move("n2"));
      tell(cluster, "n2:goer", "silent");
      await cluster.run(move("n1"));
      const { id } = await cluster.run({ ...move("n2"), timeoutMs: 90_000 }, null, 0);
      const { redis, keys } = cluster.open;
      await until("it arrives", async () => (await redis.hexists(keys.nodeStitches("n2"), "goer")) === 1);
      await workers.end("n1", "SIGKILL");
      await mail.tell("from", "send", [{ to: { group: "dies.a" }, data: "to the group" }]);
      await until("n1 is dead", async () => (await cluster.master.state.node("n1")).liveness === "dead");
      rmSync(join(dataDirOf(cluster, "n2", "goer"), "silent"));
      const job = await cluster.master.commands.job(id, 90_000);
      assert.equal(job.status, "succeeded", JSON.stringify(job));
      const moved = { code: "not_found", facts: { movedTo: "n2:goer" } };
      await assert.rejects(cluster.master.state.stitch("n1:goer"), moved);
      await assert.rejects(cluster.run({ command: "stitch.stop", target: "n1:goer" }), moved);
      const asked = await mail.send({ stitch: "n1:goer" }, { data: "to the old id", expect: "ack", timeoutMs: 30_000 });
      assert.deepEqual(asked.body.deliveries, [{ stitch: "n2:goer", status: "acked" }]);
      await workers.start("n1");
      await untilEmpty(cluster, "n1");
      await untilEmpty(cluster, "n2");
      assert.deepEqual([...new Set(dataOf(cluster, "n2:goer"))], ["to the old id", "to the group"]);
      assert.deepEqual((await mail.deadLetters()).items, []);
    };
    await withMail(["n1", "n2", "n3"], dies, { env: FAST });
  });

  it("that find no room wait in order while their sender goes on, and its log says why; too many hold it up", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "hold.a.1", { "n2:full": "module", "n2:free": "module" }, { start: false });
      await cluster.run({ command: "stitch.start", target: "free" });
      await createMail(cluster, "hold.b.1", { "n1:p": "process", "n1:m": "module", "n1:q": "process" });
      const { redis, keys } = cluster.open;
      const room = (count: number) => redis.hincrby(keys.nodeInboxLoad("n2"), "n:full", count);
      await redis.hset(keys.nodeInboxLoad("n2"), "n:full", 950);
      const say = (prefix: string, count: number) => [
        { to: { stitch: "full" }, data: prefix, count },
        { to: { stitch: "free" }, data: prefix, count: 3 },
      ];
      await mail.send({ stitch: "m" }, { channel: "send", data: say("m", 60) });
      await until("it is full", async () => (await loadOf(cluster, "n2"))["n:full"] === "1000");
      await mail.tell("p", "send", say("p", 90));
      await until("p got on", () => dataOf(cluster, "n2:free").includes("p3"));
      await mail.send({ stitch: "q" }, { channel: "send", data: say("q", 150) });
      await until("q's log says why", () => logText(cluster, "n1", "q").includes("the inbox of full is full"));
      for (const id of ["p", "m"]) assert.ok(logText(cluster, "n1", id).includes("the inbox of full is full"));
      const waits = mail.send({ stitch: "q" }, { data: "unanswered", expect: "ack", timeoutMs: 60_000 });
      await until("q has it", () => dataOf(cluster, "n1:q").includes("unanswered"));
      // q has written its next messages into a pipe that nobody reads; the module waits until its own are sent.
      assert.deepEqual([...ofEach(dataOf(cluster, "n2:free")).keys()], ["p"]);
      await room(-950);
      await cluster.run({ command: "stitch.start", target: "full" });
      await until("all came", () => takenBy(cluster, "n2:full").length >= 300, 60_000);
      const each = ofEach(dataOf(cluster, "n2:full"));
      assert.deepEqual([...each.values()].flat().length, 300);
      for (const [from, count] of [
        ["m", 60],
        ["p", 90],
        ["q", 150],
      ] as const)
        assert.deepEqual(each.get(from), numbered(from, count));
      await until("and what was behind", () => takenBy(cluster, "n2:free").length >= 9);
      assert.equal((await waits).body.deliveries[0]?.status, "acked");
      await Promise.all(["n1", "n2"].map((node) => untilEmpty(cluster, node)));
      assert.deepEqual(
        takenBy(cluster, "n1:q").map(({ channel, data }) => channel || data),
        ["send", "unanswered"],
        "it was not delivered again while nobody listened",
      );
      assert.deepEqual((await mail.deadLetters()).items, []);
    });
  });

  it("that a stitch wrote and its node did not read in time are not sent after the stitch was restarted", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "lives.a.1", { "n2:full": "module" }, { start: false });
      await createMail(cluster, "lives.b.1", { "n1:p": "process" }, { spec: { stopGraceMs: 200 } });
      const { redis, keys } = cluster.open;
      await redis.hset(keys.nodeInboxLoad("n2"), "n:full", 1000);
      // 100 may wait. p has already written more when it is held up.
      await mail.send({ stitch: "p" }, { channel: "send", data: [{ to: { stitch: "full" }, data: "", count: 150 }] });
      const isHeld = () => logText(cluster, "n1", "p").includes("the inbox of full is full");
      await until("p is held up", isHeld);
      // p has not acknowledged the request, so that its next run gets the same one.
      await cluster.run({ command: "stitch.restart", target: "p" });
      await until("it is told again", () => takenBy(cluster, "n1:p").length === 2);
      await redis.hincrby(keys.nodeInboxLoad("n2"), "n:full", -1000);
      await cluster.run({ command: "stitch.start", target: "full" });
      await Promise.all(["n1", "n2"].map((node) => untilEmpty(cluster, node)));
      const got = dataOf(cluster, "n2:full");
      // How much the node had read when p was ended depends on how busy the node was: at most one more than may wait.
      const ofFirst = got.length - 150;
      assert.ok(ofFirst >= 1 && ofFirst <= 101, String(ofFirst));
      assert.deepEqual(got, [...numbered("", ofFirst), ...numbered("", 150)]);
      const note = "it ended before all that it wrote was read: the rest of it is not sent";
      await until("its log says so", () => logText(cluster, "n1", "p").includes(note));
    });
  });

  it("are written as fast as a stitch reads: one that does not read holds up only itself, and gets them later", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "deaf.a.1", { "n2:deaf": "process", "n2:other": "process" });
      const senders = ["from-1", "from-2", "from-3", "from-4"];
      await createMail(cluster, "deaf.b.1", Object.fromEntries(senders.map((id) => [`n1:${id}`, "module"])));
      await mail.tell("deaf", "stop-reading-until-go");
      const large = [{ to: { stitch: "deaf" }, data: "", count: 4, size: 200_000 }];
      for (const from of senders) await mail.send({ stitch: from }, { channel: "send", data: large });
      await until("its log says so", () => logText(cluster, "n2", "deaf").includes("it does not read its input"));
      await mail.tell("other", "", "a neighbour");
      assert.equal(takenBy(cluster, "n2:deaf").length, 1);
      tell(cluster, "n2:deaf");
      await until("it has read all", () => takenBy(cluster, "n2:deaf").length >= 17, 30_000);
      for (const sender of senders)
        assert.deepEqual(
          takenBy(cluster, "n2:deaf").flatMap(({ from, data }) => (from === `n1:${sender}` ? [data.slice(-1)] : [])),
          numbered("", 4),
        );
      await untilEmpty(cluster, "n2");
      assert.deepEqual((await mail.deadLetters()).items, []);
    });
  });

  it("of 1 MiB arrive, many at a time", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "large.a.1", { "n2:m": "module", "n2:p": "process" });
      await createMail(cluster, "large.b.1", { "n1:from": "module" });
      const say = ["m", "p"].map((stitch) => ({ to: { stitch }, data: "", count: 20, size: MIB }));
      await mail.tell("from", "send", say);
      for (const id of ["m", "p"]) {
        await until("all came", () => takenBy(cluster, `n2:${id}`).length >= 20, 60_000);
        assert.deepEqual(
          dataOf(cluster, `n2:${id}`).map((text) => /^(\d+) .*?(\d+)$/.exec(text)?.slice(1)),
          numbered("", 20).map((n) => [String(MIB), n]),
        );
      }
      await untilEmpty(cluster, "n2");
    });
  });

  it("to a group become dead letters for a member for which too much waits, and reach the others", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "crowd.a.1", { "n2:stopped": "module" }, { start: false });
      await createMail(cluster, "crowd.a.1", { "n2:runs": "module" });
      await createMail(cluster, "crowd.b.1", { "n1:from": "module" });
      const to = { group: "crowd.a" };
      // One at a time: a request that is not acknowledged within 10 s comes again, and eight such messages may take as long.
      for (const data of numbered("", 8)) await mail.tell("from", "send", [{ to, data, size: 900_000 }]);
      await until("all came", () => takenBy(cluster, "n2:runs").length === 8);
      await until("some are dead", async () => (await mail.deadLetters("?stitch=n2:stopped")).items.length === 4);
      await cluster.run({ command: "stitch.start", target: "stopped" });
      await untilEmpty(cluster, "n2");
      assert.deepEqual(
        dataOf(cluster, "n2:stopped").map((data) => data.slice(-1)),
        ["1", "2", "3", "4"],
      );
      const { items } = await mail.deadLetters("?stitch=n2:stopped");
      assert.deepEqual(
        items.map(({ code, data }) => [code, data.slice(-1)]),
        ["5", "6", "7", "8"].map((n) => ["inbox_full", n]),
      );
    });
  });

  it("to a group do not reach stitches created later, even if the node takes the messages once more", async () => {
    await withMail(["n1", "n2"], async (cluster, mail, workers) => {
      const group = "late.a.1";
      await createMail(cluster, group, { "n2:stopped": "module" }, { start: false });
      await createMail(cluster, group, { "n2:there": "process" });
      await createMail(cluster, "late.b.1", { "n1:from": "module" });
      const say = (data: string) => mail.tell("from", "send", [{ to: { group: "late.a" }, data }]);
      await say("early");
      await until("it came", () => dataOf(cluster, "n2:there").includes("early"));
      await createMail(cluster, group, { "n2:late": "process" });
      await say("then");
      for (const id of ["n2:late", "n2:there"]) await until("it came", () => dataOf(cluster, id).includes("then"));
      await workers.end("n2", "SIGKILL");
      // The stitch is created as soon as the node is back, before the node has read its inbox.
      const spec = { adaptor: "module", module: "mail" };
      const create = {
        command: "stitch.create",
        target: group,
        node: "n2",
        id: "latest",
        spec,
        waitForNode: true,
      } as const;
      const [{ status }] = await Promise.all([cluster.run(create), workers.start("n2")]);
      assert.equal(status, "succeeded");
      await cluster.run({ command: "stitch.start", target: "stopped" });
      await untilEmpty(cluster, "n2");
      assert.deepEqual(dataOf(cluster, "n2:stopped"), ["early", "then"]);
      assert.deepEqual(dataOf(cluster, "n2:there"), ["early", "then", "early", "then"]);
      assert.deepEqual(dataOf(cluster, "n2:late"), ["then", "then"]);
      assert.deepEqual(dataOf(cluster, "n2:latest"), []);
    });
  });

  it("that are replies become dead letters if the asker has no room, and do not hold up the replying stitch", async () => {
    await withMail(["n1", "n2"], async (cluster, mail) => {
      await createMail(cluster, "askers.a.1", { "n1:asker": "process" });
      await createMail(cluster, "askers.b.1", { "n2:p": "process", "n2:m": "module" });
      // `asker` asks both, and is stopped before it has read the replies. By then its share is full.
      const ask = (to: string) => ({ to: { stitch: to }, channel: "wait-for-go", data: `?${to}` });
      await mail.tell(
        "asker",
        "send",
        ["p", "m"].flatMap((to) => [ask(to), { ...ask(to), channel: "reply" }]),
      );
      for (const id of ["p", "m"]) await until("they have it", () => takenBy(cluster, `n2:${id}`).length === 1);
      await cluster.run({ command: "stitch.stop", target: "asker" });
      const { redis, keys } = cluster.open;
      await redis.hincrby(keys.nodeInboxLoad("n1"), "n:asker", 1000);
      for (const id of ["p", "m"]) tell(cluster, `n2:${id}`);
      const letters = await until("the replies are dead letters", async () => {
        const { items } = await mail.deadLetters("?node=n2");
        return items.length === 2 ? items : null;
      });
      assert.deepEqual(letters.map(({ stitch, from, data, code }) => `${from} ${stitch} ${data} ${code}`).sort(), [
        "n2:m n1:asker re:?m inbox_full",
        "n2:p n1:asker re:?p inbox_full",
      ]);
      for (const id of ["p", "m"]) {
        await mail.tell(id, "", "goes on");
        const note = /its reply to n1:asker could not be sent/;
        await until("its log says so", () => note.test(logText(cluster, "n2", id)));
      }
      await untilEmpty(cluster, "n2");
    });
  });

  it("that no node would send are dropped and reported by the node that finds them: nobody ends another's stitch", async () => {
    await withCluster(standalone?.url ?? "", {}, async (cluster) => {
      const [{ url }, worker] = await Promise.all([cluster.api(), cluster.node("n1", MAIL_MODULE)]);
      const mail = new MailClient(url);
      await createMail(cluster, "victim.a.1", { "n1:p": "process", "n1:m": "module" });
      const { redis, keys } = cluster.open;
      const before = await Promise.all(["n1:p", "n1:m"].map((id) => cluster.master.state.stitch(id)));
      const common = {
        id: "m1",
        from: "n9:thief",
        channel: "",
        data: "false",
        ref: null,
        re: null,
        receipt: null,
        hops: 0,
      };
      const forged = [
        ...["_exit", "_heartbeat", "_error", "_"].map((channel) => ({ channel })),
        ...["", "m\nend", "_"].map((id) => ({ id })),
        ...["", "thief", "n9:", ":thief", "N9:thief", "n9:thief:x", "api:", "api:\nend"].map((from) => ({ from })),
      ];
      for (const more of forged)
        for (const stitch of ["p", "m"]) {
          const body = JSON.stringify({ ...common, sentAtMs: null, to: { stitch }, ...more });
          await redis.xadd(keys.nodeInbox("n1"), "*", `message:${stitch}`, body);
        }
      // A drop may be reported twice: the node reads the entry again if its acknowledgement is not written yet.
      const told = () => new Set(worker.output.match(/"message":"a message in the inbox is dropped \(\d+-\d+\)/g)).size;
      await until("all of them are told of", () => told() === 2 * forged.length);
      assert.match(worker.output, /is dropped \(\d+-\d+\): channel must not begin with/);
      assert.doesNotMatch(worker.output, /thief/, "what was in them is not told");
      for (const id of ["p", "m"]) await mail.tell(id, "", "goes on");
      for (const [index, id] of ["n1:p", "n1:m"].entries()) {
        assert.deepEqual(dataOf(cluster, id), ["goes on"]);
        const { pid, startedAt, restarts, state } = await cluster.master.state.stitch(id);
        const was = before[index];
        assert.deepEqual([pid, startedAt, restarts, state], [was?.pid, was?.startedAt, 0, "running"]);
      }
      await untilEmpty(cluster, "n1");
      assert.deepEqual((await mail.deadLetters()).items, []);

      // A forged dead letter does not deliver the message either.
      const letter = {
        ...common,
        messageId: "m1",
        to: "n1:p",
        channel: "_exit",
        code: "inbox_full",
        reason: "",
        tries: 0,
      };
      const entry = await redis.xadd(keys.nodeDeadLetters("n1"), "*", "letter", JSON.stringify({ ...letter, atMs: 0 }));
      await redis.sadd(keys.deadLetterNodes, "n1");
      assert.deepEqual((await mail.deadLetters()).items, []);
      assert.equal((await mail.on("POST", `/v1/dead-letters/n1.${entry}/redrive`)).status, 500);
      assert.equal((await mail.on("DELETE", `/v1/dead-letters/n1.${entry}`)).status, 204);
    });
  });

  it("P11: acknowledged while Redis was away are not delivered again, and leave the counts when it is back", async (t) => {
    // Its own Redis: a shared one would be away for other tests, too.
    const dir = await mkdtemp(join(tmpdir(), "cs-redis-"));
    const redis = await startLocalRedis({ dir, port: 0 });
    t.after(async () => {
      await redis.stop();
      await rm(dir, { recursive: true, force: true });
    });
    const goesAway = async (cluster: TestCluster, mail: MailClient) => {
      await createMail(cluster, "away.a.1", { "n1:m": "module" });
      await mail.send({ stitch: "m" }, { channel: "wait-for-go", data: "held" });
      await until("it has it", () => takenBy(cluster, "n1:m").length >= 1);
      // Longer than the rest of the lease: the worker's writes wait, and the worker must take its id again.
      await cluster.open.redis.call("CLIENT", "PAUSE", "8000", "WRITE");
      tell(cluster, "n1:m");
      await untilEmpty(cluster, "n1", 30_000);
      await until("its lease had run out", async () => (await cluster.master.state.node("n1")).incarnation > 1);
      await mail.tell("m", "", "next");
      assert.deepEqual(dataOf(cluster, "n1:m"), ["held", "next"]);
    };
    await withMail(["n1"], goesAway, { redisUrl: redis.url, env: { STITCH_LEASE_MS: "7500" } });
  });
});

/** Writes to the node's disk what a move leaves of a stitch. The node must not run. */
function leaveTombstone(
  cluster: TestCluster,
  node: string,
  id: string,
  movedTo: string,
  over: Partial<RemovedRecord> = {},
): void {
  const left = recordsOf(cluster, node).findLast(({ kind, record: { id: its } }) => kind === "stitch" && its === id);
  const was = left === undefined ? null : stitchRecord.parse(left.record);
  const record: RemovedRecord = {
    id,
    group: was?.group ?? "moved.a.1",
    outcome: null,
    removedAtMs: Date.now(),
    was,
    movedTo,
    revision: "9999.0",
    born: was?.born ?? "1.0",
    ...over,
  };
  addRecord(cluster, node, { kind: "removed", record });
}
