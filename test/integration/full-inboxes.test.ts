// Inboxes without room: a recipient that is dead or deaf holds up only the stitches that send to it, and only for a bounded
// time. No message to it is lost silently.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { putMessages, STITCH_MESSAGES } from "../../src/redis/inbox/put-messages.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { createMail, MAIL_MODULE, takenBy, tell } from "../support/mail.ts";
import { MailClient, rowsOf } from "../support/mail-client.ts";
import { logOf } from "../support/stitch-folder.ts";

const [standalone] = REDISES;

const numbered = (prefix: string, count: number, first = 1) =>
  Array.from({ length: count }, (_, n) => `${prefix}${first + n}`);
/** The end of the data: stitches note long data as its length, its beginning and its end. */
const endOf = (data: string): string => /([a-wyz]+\d+)$/.exec(data)?.[1] ?? data;
const takenFrom = (cluster: TestCluster, fullId: string, sender: string) =>
  takenBy(cluster, fullId)
    .filter(({ from, channel }) => from === sender && !channel.startsWith("_"))
    .map(({ data }) => endOf(data));
const errorsOf = (cluster: TestCluster, fullId: string) =>
  takenBy(cluster, fullId).flatMap(({ channel, data }) => (channel === "_error" ? [data] : []));
const lettersTo = async (mail: MailClient, stitch: string) => {
  const { items } = await mail.deadLetters(`?stitch=${stitch}&limit=500`);
  return items.map(({ node, code, data }) => ({ node, code, data: endOf(data.slice(-20)) }));
};

describe("a full inbox", { concurrency: 2 }, () => {
  it("of a dead group member: messages to it become dead letters, and all others get theirs at once", async () => {
    await withCluster(standalone?.url ?? "", FAST, async (cluster) => {
      const [{ url }, dying] = await Promise.all([
        cluster.api(),
        cluster.node("n2"),
        cluster.node("n1"),
        cluster.node("n3"),
      ]);
      const mail = new MailClient(url);
      await createMail(cluster, "pair.a.1", { "n1:lives": "process", "n2:dies": "process" });
      await createMail(cluster, "pair.b.1", { "n1:from": "process", "n3:friend": "process" });
      await dying.kill("SIGKILL");
      await until("n2 is dead", async () => (await cluster.master.state.node("n2")).liveness === "dead");
      const { redis, keys } = cluster.open;
      const to = { group: "pair.a" };
      const filler = { id: "filler", from: "n9:filler", to, channel: "", ref: null, re: null, receipt: null, hops: 0 };
      const fill = (n: number) => {
        const data = `filler${n}`.padStart(900_000, "x");
        return putMessages(redis, keys, "n2", [{ stitch: "", body: JSON.stringify({ ...filler, data, sentAtMs: 0 }) }]);
      };
      let filled = 0;
      while ((await fill(filled + 1))[0] === "stored") filled += 1;

      const sentAtMs = Date.now();
      const say = [
        { to, data: "group", count: 20, size: 100_000 },
        { to: { stitch: "friend" }, data: "friend1" },
      ];
      await mail.tell("from", "send", say);
      await until("the friend has it", () => takenFrom(cluster, "n3:friend", "n1:from").length === 1);
      await until("so has the living member", () => takenFrom(cluster, "n1:lives", "n1:from").length === 20);
      assert.ok(Date.now() - sentAtMs < 4000, "nobody waited for the dead one");
      assert.deepEqual(takenFrom(cluster, "n1:lives", "n1:from"), numbered("group", 20));
      const letters = await lettersTo(mail, "n2:dies");
      const pending = (await redis.xlen(keys.nodeInbox("n2"))) - filled;
      assert.ok(pending > 0 && letters.length > 0, `${pending} in the inbox, ${letters.length} dead letters`);
      assert.deepEqual(
        letters,
        numbered("group", 20 - pending, pending + 1).map((data) => ({ node: "n2", code: "inbox_full", data })),
      );
      await until("the sender is told", () => errorsOf(cluster, "n1:from").some((text) => text.includes("n2 is away")));

      const byHttp = await mail.send(to, { data: "http1".padStart(100_000, "x") });
      assert.deepEqual(
        [byHttp.status, rowsOf(byHttp.body.deliveries)],
        [202, ["n1:lives accepted", "n2:dies failed inbox_full"]],
      );
      assert.equal((await lettersTo(mail, "n2:dies")).at(-1)?.data, "http1");
      assert.equal((await mail.send({ stitch: "n2:dies" }, { data: "direct1" })).status, 202, "its own share has room");

      await cluster.node("n2");
      await until("its inbox is empty", async () => (await redis.xlen(keys.nodeInbox("n2"))) === 0);
      assert.equal((await lettersTo(mail, "n2:dies")).length, letters.length + 1, "none of it became a dead letter");
      assert.deepEqual(takenFrom(cluster, "n2:dies", "n1:from"), numbered("group", pending));
      assert.deepEqual(takenFrom(cluster, "n2:dies", "n9:filler"), numbered("filler", filled));
      assert.ok(takenBy(cluster, "n2:dies").some(({ data }) => data === "direct1"));
      await mail.tell("from", "send", [{ to, data: "again1" }]);
      await until("it gets what is new", () => takenFrom(cluster, "n2:dies", "n1:from").includes("again1"));
    });
  });

  it("of a deaf stitch delays its sender for a bounded time; then messages are dead letters; the sender is told", async () => {
    await withCluster(standalone?.url ?? "", {}, async (cluster) => {
      const [{ url }, second] = await Promise.all([cluster.api(), cluster.node("n2"), cluster.node("n1", MAIL_MODULE)]);
      const mail = new MailClient(url);
      await createMail(cluster, "deaf.a.1", { "n2:deaf": "process", "n2:friend": "process" });
      await createMail(cluster, "deaf.b.1", { "n1:from": "process" });
      await createMail(cluster, "deaf.b.1", { "n1:m": "module" });
      const { redis, keys } = cluster.open;
      await redis.hset(keys.nodeInboxLoad("n2"), "n:deaf", STITCH_MESSAGES - 50);
      const deaf = { stitch: "deaf" };
      const friend = (data: string) => ({ to: { stitch: "friend" }, data });
      const friendHas = (data: string, limitMs?: number) =>
        until(`the friend has ${data}`, () => takenFrom(cluster, "n2:friend", "n1:from").includes(data), limitMs);

      await mail.tell("from", "send", [
        { to: deaf, channel: "wait-for-go", data: "held1" },
        { to: deaf, data: "a", count: 80 },
        friend("past1"),
      ]);
      await friendHas("past1");
      assert.deepEqual(await lettersTo(mail, "n2:deaf"), [], "what finds no room waits, and its sender goes on");

      const tried = mail.ask("m", "try-send", JSON.stringify({ stitch: "n2:deaf" }));
      const sentAtMs = Date.now();
      await mail.tell("from", "send", [{ to: deaf, data: "b", count: 150 }, friend("past2")]);
      await friendHas("past2");
      assert.ok(Date.now() - sentAtMs < 10_000, "it was held up as long as a message waits, and no longer");
      assert.equal(await tried, "inbox_full", "a module hears it from its promise");
      const told = "what it sent to deaf was not sent: the inbox of n2:deaf is full: it is a dead letter";
      await until("the sender is told", () => errorsOf(cluster, "n1:from").includes(told));
      await until("its log says so", () => logOf(cluster, "n1", "from").some(({ line }) => line === told));

      const againAtMs = Date.now();
      await mail.tell("from", "send", [{ to: deaf, data: "c", count: 10 }, friend("past3")]);
      await friendHas("past3");
      assert.ok(Date.now() - againAtMs < 3000, "it is not held up again");

      await redis.hincrby(keys.nodeInboxLoad("n2"), "n:deaf", 50 - STITCH_MESSAGES);
      await mail.tell("from", "send", [{ to: deaf, data: "d", count: 20 }]);
      tell(cluster, "n2:deaf");
      await until("it hears again", () => takenFrom(cluster, "n2:deaf", "n1:from").includes("d20"));
      const taken = takenFrom(cluster, "n2:deaf", "n1:from");
      const inOrder = [...numbered("a", 80), ...numbered("b", 150), ...numbered("c", 10), ...numbered("d", 20)];
      assert.deepEqual(
        taken.filter((data) => data !== "held1"),
        [...inOrder.slice(0, 49), ...numbered("d", 20)],
      );
      const letters = (await lettersTo(mail, "n2:deaf")).filter(({ data }) => data !== "tried");
      assert.ok(letters.every(({ node, code }) => node === "n1" && code === "inbox_full"));
      assert.deepEqual(letters.map(({ data }) => data).sort(), inOrder.slice(49, -20).sort(), "nothing is missing");
      await until("nothing waits", async () => (await redis.xlen(keys.nodeInbox("n2"))) === 0);

      await redis.hset(keys.nodeInboxLoad("n2"), "n:deaf", STITCH_MESSAGES);
      await mail.tell("friend", "send", [{ to: deaf, data: "e", count: 10 }]);
      await second.kill("SIGTERM");
      const left = (await lettersTo(mail, "n2:deaf")).filter(({ node }) => node === "n2");
      assert.deepEqual(
        left.map(({ data }) => data),
        numbered("e", 10),
        "what waits when its sender's node leaves is kept, too",
      );
    });
  });
});
