// Messages over real processes: from HTTP, from modules and from processes, to stitches on three nodes.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { putMessages } from "../../src/redis/inbox/put-messages.ts";
import { locateStitch } from "../../src/redis/stitch/pointers.ts";
import { REDISES, TestCluster, until } from "../support/cluster.ts";
import { createMail, MAIL_MODULE, takenBy, tell } from "../support/mail.ts";
import { MailClient, rowsOf } from "../support/mail-client.ts";
import { logOf } from "../support/stitch-folder.ts";

const MIB = 1024 * 1024;
const NODES = ["n1", "n2", "n3"];

for (const redis of REDISES) {
  describe(`messages on a ${redis.name}`, () => {
    let cluster: TestCluster;
    let mail: MailClient;

    before(async () => {
      cluster = await new TestCluster(redis.url).start();
      const [{ url }] = await Promise.all([cluster.api(), ...NODES.map((node) => cluster.node(node, MAIL_MODULE))]);
      mail = new MailClient(url);
    });
    after(() => cluster.stop());

    const taken = (fullId: string) => takenBy(cluster, fullId);
    const dataOf = (fullId: string) => taken(fullId).map(({ data }) => data);
    const log = (fullId: string) => {
      const [node = "", id = ""] = fullId.split(":");
      return logOf(cluster, node, id).map(({ line }) => line);
    };
    const refused = async (code: string, to: object, more: Record<string, unknown> = {}) => {
      const { status, headers, body } = await mail.send(to, more);
      assert.equal(body.code, code, JSON.stringify(body));
      return { status, headers, body };
    };
    /** Resolves when all messages that were sent have left the inboxes. */
    const quiet = () =>
      until("nothing is left in the inboxes", async () => {
        const loads = await Promise.all(
          NODES.map((node) => cluster.open.redis.hgetall(cluster.open.keys.nodeInboxLoad(node))),
        );
        return loads.every(({ incarnation: _, ...load }) => Object.values(load).every((value) => value === "0"));
      });

    it("reach a stitch by its full and by its bare id; text arrives unchanged, JSON as its text", async () => {
      await createMail(cluster, "byid.a.1", { "n1:byid-p": "process", "n2:byid-m": "module" });
      const first = await mail.send({ stitch: "n1:byid-p" }, { channel: "some", data: "plain ü \u2028 text" });
      assert.equal(first.status, 202);
      assert.deepEqual(first.body.deliveries, [{ stitch: "n1:byid-p", status: "accepted" }]);
      assert.match(first.body.messageId, /^[0-9a-f]{32}$/);
      const second = await mail.send({ stitch: "byid-m" }, { data: { a: [1, "x"] } });
      assert.deepEqual(second.body.deliveries, [{ stitch: "n2:byid-m", status: "accepted" }]);
      await quiet();
      assert.partialDeepStrictEqual(taken("n1:byid-p"), [
        { from: `api:${first.body.messageId}`, channel: "some", data: "plain ü \u2028 text" },
      ]);
      assert.partialDeepStrictEqual(taken("n2:byid-m"), [{ channel: "", data: '{"a":[1,"x"]}' }]);
    });

    it("without a recipient are refused: unknown, ambiguous, not addressable, a group without a member", async () => {
      await createMail(cluster, "nobody.a.1", { "n1:twice": "module", "n2:twice": "module", "n1:deaf": "none" });
      for (const to of [
        { stitch: "nosuch" },
        { stitch: "n1:nosuch" },
        { stitch: "n9:nosuch" },
        { group: "nosuch" },
        { group: "nobody.a.2" },
        { group: "nobo" },
        { oneOf: "nosuch" },
        { node: "n9" },
      ])
        assert.equal((await refused("no_recipient", to)).status, 404);
      const { status, body } = await refused("ambiguous_stitch", { stitch: "twice" });
      assert.deepEqual([status, body.candidates], [409, ["n1:twice", "n2:twice"]]);
      assert.equal((await refused("not_addressable", { stitch: "deaf" })).status, 409);
      await createMail(cluster, "deafs.a.1", { "n3:deaf-2": "none" });
      await refused("no_recipient", { group: "deafs.a.1" });
      await refused("no_recipient", { oneOf: "deafs" });
      assert.equal(await cluster.open.redis.exists(cluster.open.keys.nodeInbox("n9")), 0);
    });

    it("reach each member of a group of one, two or three parts, and nobody else", async () => {
      await createMail(cluster, "shop.orders.1", { "n1:g-o1": "module", "n2:g-o2": "process", "n2:g-deaf": "none" });
      await createMail(cluster, "shop.orders.2", { "n3:g-o3": "module" });
      await createMail(cluster, "shop.mail.1", { "n1:g-m1": "module" });
      await createMail(cluster, "shopping.orders.1", { "n1:g-x": "module" });
      const sends = async (group: string, expected: readonly string[]) => {
        const { status, body } = await mail.send({ group }, { data: group, expect: "ack", timeoutMs: 20_000 });
        assert.equal(status, 200);
        assert.deepEqual(
          rowsOf(body.deliveries),
          expected.map((id) => `${id} acked`),
        );
      };
      await sends("shop.orders.1", ["n1:g-o1", "n2:g-o2"]);
      await sends("shop.orders", ["n1:g-o1", "n2:g-o2", "n3:g-o3"]);
      await sends("shop", ["n1:g-m1", "n1:g-o1", "n2:g-o2", "n3:g-o3"]);
      assert.deepEqual(dataOf("n1:g-o1"), ["shop.orders.1", "shop.orders", "shop"]);
      assert.deepEqual(dataOf("n3:g-o3"), ["shop.orders", "shop"]);
      assert.deepEqual(dataOf("n1:g-m1"), ["shop"]);
      assert.deepEqual(dataOf("n1:g-x"), []);
      const unheard = await mail.send({ group: "shop" }, { expect: "none" });
      assert.equal(unheard.status, 202);
      assert.equal(unheard.body.deliveries.length, 4);
    });

    it("to a node reach each of its stitches that takes messages", async () => {
      const node = await cluster.node("n4", MAIL_MODULE);
      await createMail(cluster, "ofnode.a.1", { "n4:on-1": "module", "n4:on-2": "process", "n4:on-none": "none" });
      const { status, body } = await mail.send({ node: "n4" }, { expect: "ack", timeoutMs: 20_000 });
      assert.deepEqual([status, rowsOf(body.deliveries)], [200, ["n4:on-1 acked", "n4:on-2 acked"]]);
      await node.kill("SIGTERM");
    });

    it("to one of a group go to its green members in turn, and to none on a node that is not alive", async () => {
      const node = await cluster.node("n5", { ...MAIL_MODULE, STITCH_LEASE_MS: "7500" });
      await createMail(cluster, "round.a.1", { "n1:r-1": "module", "n2:r-2": "module", "n5:r-5": "module" });
      await createMail(cluster, "round.a.1", { "n3:r-3": "module" }, { start: false });
      await createMail(cluster, "round.a.2", { "n3:r-4": "process" });
      const next = async () => {
        const { status, body } = await mail.send(
          { oneOf: "round" },
          { expect: "reply", channel: "reply", timeoutMs: 20_000 },
        );
        assert.equal(status, 200, JSON.stringify(body));
        return body.deliveries.map(({ stitch, status: how }) => `${stitch} ${how}`).join();
      };
      const turn = ["n1:r-1 replied", "n2:r-2 replied", "n3:r-4 replied", "n5:r-5 replied"];
      const seen = [await next(), await next(), await next(), await next(), await next(), await next(), await next()];
      assert.deepEqual(seen, [...turn, ...turn].slice(0, 7));
      await node.kill("SIGKILL");
      await until("n5 is not alive", async () => (await cluster.master.state.node("n5")).liveness !== "alive");
      assert.equal(
        (await cluster.open.redis.hget(cluster.open.keys.nodeStitches("n5"), "r-5"))?.includes("green"),
        true,
      );
      assert.deepEqual([await next(), await next(), await next()], turn.slice(0, 3));
      await cluster.run({ command: "group.stop", target: "round" }).catch(() => undefined);
      await refused("no_recipient", { oneOf: "round" });
    });

    it("have a result: acked, failed or timeout; a stopped stitch gets them when it runs", async () => {
      await createMail(cluster, "tell.a.1", { "n1:t-p": "process", "n2:t-m": "module" });
      await createMail(cluster, "tell.a.1", { "n3:t-s": "module" }, { start: false });
      const one = async (stitch: string) => {
        await mail.tell(stitch, "");
        const fail = (expect: string) =>
          refused("stitch_failed", { stitch }, { channel: "fail", expect, timeoutMs: 30_000 });
        const [acked, replied] = await Promise.all([fail("ack"), fail("reply")]);
        assert.deepEqual([acked.status, replied.status], [502, 502]);
        assert.deepEqual(rowsOf(acked.body.deliveries), [`${stitch} failed stitch_failed`]);
        const { items } = await mail.deadLetters(`?stitch=${stitch}`);
        for (const { messageId } of [acked.body, replied.body]) {
          const letter = items.find((each) => each.messageId === messageId);
          assert.deepEqual([letter?.code, letter?.tries, letter?.stitch], ["stitch_failed", 5, stitch]);
          const from = `api:${messageId}`;
          assert.equal(taken(stitch).filter((each) => each.from === from).length, 5);
        }
      };
      const stopped = async () => {
        const acked = await mail.send({ stitch: "t-s" }, { data: "first", expect: "ack", timeoutMs: 300 });
        assert.deepEqual([acked.status, rowsOf(acked.body.deliveries)], [200, ["n3:t-s timeout"]]);
        const second = { data: "second", expect: "reply", timeoutMs: 300 };
        const replied = await refused("reply_timeout", { stitch: "t-s" }, second);
        assert.deepEqual([replied.status, rowsOf(replied.body.deliveries)], [504, ["n3:t-s timeout"]]);
      };
      const group = async () => {
        const { status, body } = await mail.send(
          { group: "tell" },
          { channel: "fail", expect: "ack", timeoutMs: 12_000 },
        );
        assert.deepEqual(
          [status, rowsOf(body.deliveries)],
          [200, ["n1:t-p failed stitch_failed", "n2:t-m failed stitch_failed", "n3:t-s timeout"]],
        );
      };
      await Promise.all([one("n1:t-p"), one("n2:t-m"), stopped(), group()]);
      await cluster.run({ command: "stitch.start", target: "t-s" });
      await until("it has got its mail", () => taken("n3:t-s").length >= 3);
      assert.deepEqual(new Set(dataOf("n3:t-s")), new Set(["first", "second", "hello"]));
    });

    it("get replies under their Id, under the next one, or after the acknowledgement; JSON as its text", async () => {
      await createMail(cluster, "reply.a.1", { "n1:re-p": "process", "n2:re-m": "module" });
      for (const channel of ["reply", "reply-under-the-next-id", "ack-then-reply"])
        assert.equal(await mail.ask("re-p", channel, "x"), "re:x");
      assert.equal(await mail.ask("re-m", "reply", "x"), "re:x");
      await refused("invalid_request", { group: "reply" }, { expect: "reply" });
      await refused("invalid_request", { node: "n1" }, { expect: "reply" });
      // An acknowledgement without a reply is not a reply.
      const { body } = await refused("reply_timeout", { stitch: "re-p" }, { expect: "reply", timeoutMs: 1000 });
      assert.deepEqual(rowsOf(body.deliveries), ["n1:re-p timeout"]);
      await refused(
        "stitch_failed",
        { stitch: "re-m" },
        { channel: "reply-large", data: MIB + 1, expect: "reply", timeoutMs: 30_000 },
      );
      assert.equal((await mail.ask("re-m", "reply-large", MIB)).length, MIB);
    });

    it("of up to 1 MiB are accepted; larger ones and those on a system channel are refused", async () => {
      await createMail(cluster, "size.a.1", { "n1:size-p": "process", "n2:size-m": "module" });
      const stitches = ["n1:size-p", "n2:size-m"];
      for (const stitch of stitches) {
        assert.equal(await mail.ask(stitch, "reply", "x".repeat(MIB)), `re:${MIB} xxxxxxxxxx…xxxxxxxxxx`);
        // A character of two bytes takes six in what is written to a process.
        assert.equal(await mail.ask(stitch, "reply", "ü".repeat(MIB / 2)), `re:${MIB / 2} üüüüüüüüüü…üüüüüüüüüü`);
        const tooLarge = await refused("too_large", { stitch }, { data: "x".repeat(MIB + 1) });
        assert.equal(tooLarge.status, 413);
        await refused("too_large", { stitch }, { data: "ü".repeat(MIB / 2 + 1) });
        await refused("too_large", { stitch }, { data: { json: "x".repeat(MIB) } });
        for (const channel of ["_exit", "_", "x".repeat(129)])
          assert.equal((await refused("invalid_request", { stitch }, { channel })).status, 400);
      }
      for (const more of [{ timeoutMs: 0 }, { timeoutMs: 60_001 }, { expect: "all" }, { ref: 1 }, { data: undefined }])
        await refused("invalid_request", { stitch: "n1:size-p" }, more);
      for (const to of [{}, { stitch: "N1:x" }, { stitch: "api:x" }, { group: "a.b.c.d" }, { stitch: "a", node: "n1" }])
        await refused("invalid_request", to);
      await quiet();
    });

    it("of 1 MiB of control characters from a module have room, though they take 6 MiB when stored", async () => {
      await createMail(cluster, "control.a.1", { "n1:control-m": "module", "n2:control-p": "process" });
      const { redis: client, keys } = cluster.open;
      const message = {
        id: "control",
        from: "n1:control-m",
        to: { stitch: "control-p" },
        channel: "",
        ref: null,
        re: null,
      };
      const body = JSON.stringify({ ...message, data: "\u0001".repeat(MIB), receipt: null, hops: 0, sentAtMs: 0 });
      assert.deepEqual(await putMessages(client, keys, "n2", [{ stitch: "control-p", body }]), ["stored"]);
      await until("it came", () => taken("n2:control-p").length === 1);
      assert.match(dataOf("n2:control-p")[0] ?? "", new RegExp(`^${MIB} `));
      await quiet();
    });

    it("with a key are sent once, even if repeated at the same time or after their recipient is gone", async () => {
      await createMail(cluster, "once.a.1", { "n1:once-1": "module", "n2:once-2": "process" });
      const send = (key: string, more: Record<string, unknown> = {}) => mail.send({ group: "once" }, more, key);
      const first = await send("k1");
      const again = await send("k1");
      assert.deepEqual([first.status, again.status], [202, 202]);
      assert.deepEqual(again.body, first.body);
      assert.deepEqual(
        [first.headers.get("Idempotent-Replayed"), again.headers.get("Idempotent-Replayed")],
        [null, "true"],
      );
      const conflict = await send("k1", { data: "another" });
      assert.deepEqual([conflict.status, conflict.body.code], [409, "idempotency_conflict"]);
      const atOnce = await Promise.all(
        Array.from({ length: 8 }, () => send("k2", { data: "at once", expect: "ack", timeoutMs: 20_000 })),
      );
      for (const { status, body } of atOnce)
        assert.deepEqual([status, rowsOf(body.deliveries)], [200, ["n1:once-1 acked", "n2:once-2 acked"]]);
      assert.equal(new Set(atOnce.map(({ body }) => body.messageId)).size, 1);
      const ask = () =>
        mail.send({ stitch: "once-2" }, { channel: "reply", data: "?", expect: "reply", timeoutMs: 20_000 }, "k3");
      const asked = await ask();
      assert.equal(asked.body.deliveries[0]?.data, "re:?");
      assert.deepEqual((await ask()).body, asked.body, "with the same reply");
      await cluster.run({ command: "stitch.remove", target: "once-2" });
      assert.deepEqual((await ask()).body, asked.body, "also when the stitch is gone");
      assert.deepEqual((await send("k1")).body, first.body);
      assert.deepEqual(dataOf("n1:once-1"), ["hello", "at once"]);
      assert.deepEqual(dataOf("n2:once-2"), ["hello", "at once", "?"]);
    });

    it("with a key leave the key free if they were not accepted", async () => {
      const send = (data: string) => mail.send({ stitch: "later" }, { data, expect: "ack", timeoutMs: 20_000 }, "free");
      assert.equal((await send("one")).body.code, "no_recipient");
      await createMail(cluster, "later.a.1", { "n1:later": "module" });
      const { redis: client, keys } = cluster.open;
      await client.hset(keys.nodeInboxLoad("n1"), "n:later", 1000);
      assert.equal((await send("two")).body.code, "inbox_full");
      await client.hdel(keys.nodeInboxLoad("n1"), "n:later");
      assert.deepEqual(rowsOf((await send("three")).body.deliveries), ["n1:later acked"]);
      assert.deepEqual(dataOf("n1:later"), ["three"]);
    });

    it("are refused without room in a stitch's share or a node's inbox; to a group, each row has its own result", async () => {
      await createMail(cluster, "full.a.1", { "n1:f-1": "module" }, { start: false });
      await createMail(cluster, "full.a.1", { "n1:f-2": "module", "n2:f-3": "module" });
      const large = { data: "x".repeat(MIB - 1000) };
      for (let n = 0; n < 4; n++) assert.equal((await mail.send({ stitch: "f-1" }, large)).status, 202);
      const full = await refused("inbox_full", { stitch: "f-1" }, large);
      assert.deepEqual([full.status, full.body.retryable], [429, true]);
      assert.match(full.headers.get("Retry-After") ?? "", /^\d+$/);
      await mail.tell("f-2", "", "a neighbour has room");
      const { redis: client, keys } = cluster.open;
      // An increment, because the node may be about to subtract the messages that it has just taken.
      await client.hincrby(keys.nodeInboxLoad("n1"), "n", 8000);
      assert.equal((await refused("inbox_full", { stitch: "f-2" })).status, 429);
      assert.equal((await refused("inbox_full", { node: "n1" })).status, 429);
      const rows = await mail.send({ group: "full" }, { expect: "ack", timeoutMs: 20_000 });
      assert.deepEqual(
        [rows.status, rowsOf(rows.body.deliveries)],
        [200, ["n1:f-1 rejected inbox_full", "n1:f-2 rejected inbox_full", "n2:f-3 acked"]],
      );
      assert.equal((await mail.send({ group: "full" })).status, 202);
      await client.hincrby(keys.nodeInboxLoad("n1"), "n", -8000);
      await cluster.run({ command: "stitch.start", target: "f-1" });
      await quiet();
      assert.equal(taken("n1:f-1").length, 4);
    });

    it("of a stitch go to its own node first, then anywhere; it is told which cannot be sent", async () => {
      await createMail(cluster, "from.a.1", { "n1:fr-m": "module", "n1:fr-p": "process" });
      await createMail(cluster, "to.a.1", { "n1:near": "module", "n2:near": "module", "n2:far": "process" });
      await createMail(cluster, "to.b.1", { "n2:both": "module", "n3:both": "module", "n3:to-none": "none" });
      const to = (...stitches: string[]) => stitches.map((stitch) => ({ to: { stitch }, data: stitch }));
      for (const from of ["fr-m", "fr-p"]) await mail.tell(from, "send", to("near", "n2:near", "far", "n2:far"));
      await quiet();
      assert.deepEqual(dataOf("n1:near"), ["near", "near"]);
      assert.deepEqual(dataOf("n2:near"), ["n2:near", "n2:near"]);
      assert.deepEqual(dataOf("n2:far"), ["far", "n2:far", "far", "n2:far"]);
      assert.deepEqual(
        taken("n2:far").map(({ from }) => from),
        ["n1:fr-m", "n1:fr-m", "n1:fr-p", "n1:fr-p"],
      );
      const tried = async (recipient: object) => mail.ask("fr-m", "try-send", recipient);
      assert.equal(await tried({ stitch: "both" }), "ambiguous_stitch");
      for (const recipient of [{ stitch: "nosuch" }, { stitch: "n9:x" }, { stitch: "a:b:c" }, { group: "no.such" }])
        assert.equal(await tried(recipient), "no_recipient");
      await mail.tell("fr-p", "send", to("both", "nosuch", "n9:x"));
      await until("its log says so", () => log("n1:fr-p").filter((line) => line.includes("was not sent")).length === 3);
      assert.match(log("n1:fr-p").join("\n"), /sent to both was not sent: .*n2:both, n3:both/);
      assert.match(log("n1:fr-p").join("\n"), /sent to n9:x was not sent: .*no node "n9"/);
      assert.equal(await cluster.open.redis.exists(cluster.open.keys.nodeInbox("n9")), 0);
      // The named node stores the message. Only that node knows that nobody there takes it.
      assert.equal(await tried({ stitch: "n3:to-none" }), "sent");
      assert.equal(await tried({ stitch: "n2:gone" }), "sent");
      const letters = await until("they are dead letters", async () => {
        const { items } = await mail.deadLetters();
        const ours = items.filter(({ from }) => from === "n1:fr-m");
        return ours.length === 2 ? ours : null;
      });
      assert.deepEqual(
        letters.map(({ stitch, code, tries, data, node }) => [stitch, code, tries, data, node]),
        [
          ["n2:gone", "no_recipient", 0, "tried", "n2"],
          ["n3:to-none", "not_addressable", 0, "tried", "n3"],
        ],
      );
    });

    it("of a stitch to its group reach every other member, on its own node and elsewhere", async () => {
      await createMail(cluster, "peers.a.1", { "n1:pe-m": "module", "n1:pe-p": "process", "n2:pe-x": "process" });
      await createMail(cluster, "peers.b.1", { "n3:pe-y": "module" });
      await mail.tell("pe-m", "send", [{ to: { group: "peers" }, data: "of pe-m" }]);
      await mail.tell("pe-p", "send", [{ to: { group: "peers.a" }, data: "of pe-p" }]);
      await quiet();
      const got = (fullId: string) => dataOf(fullId).filter((data) => data.startsWith("of "));
      assert.deepEqual(got("n1:pe-m"), ["of pe-p"]);
      assert.deepEqual(got("n1:pe-p"), ["of pe-m"]);
      assert.deepEqual(got("n2:pe-x"), ["of pe-m", "of pe-p"]);
      assert.deepEqual(got("n3:pe-y"), ["of pe-m"]);
    });

    it("can be questions and answers between stitches, even while the asker handles a message of the other", async () => {
      await createMail(cluster, "ask.a.1", { "n1:as-m": "module", "n2:as-n": "module", "n3:as-p": "process" });
      const ask = (from: string, to: string, channel: string) => mail.ask(from, "ask", { to, channel, data: "?" });
      assert.equal(await ask("as-m", "n2:as-n", "reply"), "re:?");
      assert.equal(await ask("as-m", "as-p", "ack-then-reply"), "re:?");
      // as-n asks as-m in return, and answers as-m's question with as-m's answer.
      assert.equal(await ask("as-m", "as-n", "ask-back"), "re:?");
      // A process recognizes the answer by the Id of its question. For a question without an Id, the answer names none.
      await mail.tell("as-p", "ask", { to: "as-m", channel: "reply", data: "with", id: 4711 });
      await mail.tell("as-p", "ask", { to: "as-m", channel: "reply", data: "without", id: 0 });
      await until(
        "the answers came",
        () => dataOf("n3:as-p").includes("re:without") && dataOf("n3:as-p").includes("re:with"),
      );
      assert.deepEqual(
        taken("n3:as-p").flatMap(({ from, data, replyTo }) =>
          from === "n1:as-m" && data.startsWith("re:") ? [[data, replyTo]] : [],
        ),
        [
          ["re:with", 4711],
          ["re:without", undefined],
        ],
      );
    });

    it("of a stitch on a system channel are not sent, and neither are replies", async () => {
      await createMail(cluster, "system.a.1", { "n1:sy-p": "process", "n2:sy-q": "process" });
      await mail.tell("sy-p", "send", [
        { to: { stitch: "sy-q" }, channel: "_exit", data: "" },
        { to: { stitch: "sy-q" }, channel: "reply-on-a-system-channel", data: "" },
      ]);
      await quiet();
      const channels = (fullId: string) => taken(fullId).map(({ channel }) => channel);
      await until("both were told", () => [...channels("n1:sy-p"), ...channels("n2:sy-q")].length === 4);
      assert.deepEqual(channels("n1:sy-p"), ["send", "_error"]);
      assert.deepEqual(channels("n2:sy-q"), ["reply-on-a-system-channel", "_error"]);
      for (const stitch of ["sy-p", "sy-q"]) {
        const { state, restarts, lastExit } = await cluster.master.state.stitch(stitch);
        assert.deepEqual([state, restarts, lastExit], ["running", 0, null]);
      }
    });

    it("that are dead letters are listed page by page, filtered, redriven and deleted", async () => {
      await createMail(cluster, "dead.a.1", { "n1:d-1": "module", "n2:d-2": "process" });
      await Promise.all(
        ["a", "b", "c"].flatMap((data) =>
          ["d-1", "d-2"].map((stitch) =>
            refused("stitch_failed", { stitch }, { channel: "fail-until-go", data, expect: "ack", timeoutMs: 30_000 }),
          ),
        ),
      );
      const of = (items: readonly { stitch: string; data: string }[]) =>
        items.map(({ stitch, data }) => `${stitch} ${data}`).sort();
      assert.deepEqual(of((await mail.deadLetters("?stitch=n1:d-1")).items), ["n1:d-1 a", "n1:d-1 b", "n1:d-1 c"]);
      assert.deepEqual(of((await mail.deadLetters("?node=n2&stitch=d-2")).items), ["n2:d-2 a", "n2:d-2 b", "n2:d-2 c"]);
      assert.deepEqual((await mail.deadLetters("?node=n1&stitch=d-2")).items, []);
      const whole = (await mail.deadLetters("?limit=1000")).items;
      const paged: string[] = [];
      for (let cursor = ""; ; ) {
        const page = await mail.deadLetters(`?limit=2${cursor === "" ? "" : `&cursor=${cursor}`}`);
        assert.ok(page.items.length <= 2);
        paged.push(...page.items.map(({ id }) => id));
        if (page.nextCursor === null) break;
        cursor = page.nextCursor;
      }
      assert.deepEqual(
        paged,
        whole.map(({ id }) => id),
      );
      const [first, second, third] = (await mail.deadLetters("?stitch=d-1")).items;
      const path = (letter: { id: string } | undefined) => `/v1/dead-letters/${letter?.id}`;
      assert.equal((await mail.on("DELETE", path(second))).status, 204);
      assert.deepEqual((await mail.on("DELETE", path(second))).status, 404);
      assert.deepEqual((await mail.on("POST", `${path(second)}/redrive`)).status, 404);
      tell(cluster, "n1:d-1");
      const redriven = await mail.on("POST", `${path(first)}/redrive`);
      assert.equal(redriven.status, 202);
      assert.deepEqual(redriven.body, {
        messageId: first?.messageId,
        deliveries: [{ stitch: "n1:d-1", status: "accepted" }],
      });
      await quiet();
      assert.deepEqual(
        (await mail.deadLetters("?stitch=d-1")).items.map(({ id }) => id),
        [third?.id],
      );
      assert.equal(dataOf("n1:d-1").at(-1), first?.data);
      await cluster.run({ command: "stitch.remove", target: "d-1" });
      const gone = await mail.on("POST", `${path(third)}/redrive`);
      assert.deepEqual([gone.status, gone.body.code], [404, "no_recipient"]);
      assert.equal((await mail.deadLetters("?stitch=d-1")).items.length, 1, "and it is kept");
      for (const id of ["x", "n1.5", "n1.0-0", "../x", "n9.1-1"])
        assert.equal((await mail.on("DELETE", `/v1/dead-letters/${encodeURIComponent(id)}`)).status, 404);
    });

    it("in the inbox of a forgotten node become dead letters, one for each stitch that they were for", async () => {
      const node = await cluster.node("n6", MAIL_MODULE);
      await createMail(
        cluster,
        "forget.a.1",
        { "n6:fo-1": "module", "n6:fo-2": "module", "n1:fo-3": "module" },
        { start: false },
      );
      await createMail(cluster, "forget.b.1", { "n2:fo-from": "module" });
      await node.kill("SIGTERM");
      await until("it has left", async () => (await cluster.master.state.node("n6")).liveness === "left");
      await mail.send({ stitch: "n6:fo-1" }, { data: "to one" });
      await mail.send({ group: "forget.a" }, { data: "to a group" });
      await mail.send({ node: "n6" }, { data: "to the node" });
      await mail.tell("fo-from", "send", [{ to: { group: "forget" }, data: "of a stitch" }]);
      await cluster.master.commands.forgetNode("n6");
      const { items } = await mail.deadLetters("?node=n6");
      assert.deepEqual(items.map(({ stitch, data, code, tries }) => `${stitch} ${data}: ${code} ${tries}`).sort(), [
        "n6:fo-1 of a stitch: node_forgotten 0",
        "n6:fo-1 to a group: node_forgotten 0",
        "n6:fo-1 to one: node_forgotten 0",
        "n6:fo-1 to the node: node_forgotten 0",
        "n6:fo-2 of a stitch: node_forgotten 0",
        "n6:fo-2 to a group: node_forgotten 0",
        "n6:fo-2 to the node: node_forgotten 0",
      ]);
      const { redis: client, keys } = cluster.open;
      for (const key of [keys.nodeInbox("n6"), keys.nodeInboxLoad("n6"), keys.nodeMeta("n6")])
        assert.equal(await client.exists(key), 0, key);
      await refused("no_recipient", { stitch: "n6:fo-1" });
      assert.equal(await mail.ask("fo-from", "try-send", { stitch: "n6:fo-1" }), "no_recipient");
      assert.deepEqual(await locateStitch(client, keys, "fo-1"), []);
      for (const { id } of items) assert.equal((await mail.on("DELETE", `/v1/dead-letters/${id}`)).status, 204);
      assert.deepEqual((await mail.deadLetters("?node=n6")).items, []);
      assert.equal(await client.sismember(keys.deadLetterNodes, "n6"), 0, "nothing is left of it");
    });

    it("report node_forgotten to their waiting sender when their node is forgotten", async () => {
      const node = await cluster.node("n7", MAIL_MODULE);
      await createMail(cluster, "waits.a.1", { "n7:wa-1": "module" }, { start: false });
      await node.kill("SIGTERM");
      await until("it has left", async () => (await cluster.master.state.node("n7")).liveness === "left");
      const waiting = mail.send({ stitch: "wa-1" }, { expect: "ack", timeoutMs: 50_000 });
      await until("it is stored", async () => (await cluster.open.redis.xlen(cluster.open.keys.nodeInbox("n7"))) === 1);
      await cluster.master.commands.forgetNode("n7");
      const { status, body } = await waiting;
      assert.deepEqual([status, rowsOf(body.deliveries)], [502, ["n7:wa-1 failed node_forgotten"]]);
    });
  });
}
