// A filter finds all that matches, wherever it is in the list.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Redis } from "ioredis";
import { emitEvents } from "../../src/redis/events.ts";
import { API_SENDER, type DeadLetter } from "../../src/domain/message.ts";
import { addDeadLetters } from "../../src/redis/inbox/dead-letters.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { pingJob } from "../support/ping-job.ts";
import { publishAsNode, publishTestStitch } from "../support/publish-test-stitch.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { testStitch } from "../support/test-stitch.ts";

const FIRST = { limit: 1, cursor: null };
const TWO = { limit: 2, cursor: null };

for (const { name, url } of REDISES) {
  describe(`filtered lists on a ${name}`, { concurrency: 3 }, () => {
    it("of nodes, stitches and dead letters hold matches that come after entries that do not match", async () => {
      await withCluster(url, {}, async ({ open: { redis, keys, master } }) => {
        const status = {
          reserved: { cpu: 0, memoryBytes: 0 },
          stitchCount: 1,
          states: {},
          eligibility: "eligible" as const,
        };
        for (const node of ["n1", "n2", "n3"]) await registerTestNode(redis, keys, node);
        const left = await registerTestNode(redis, keys, "n9");
        assert.ok(await leaveNode(redis, keys, "n9", left));
        const nodes = await master.state.nodes(FIRST, { liveness: "left" });
        assert.deepEqual(
          nodes.items.map(({ id }) => id),
          ["n9"],
        );

        for (const node of ["n1", "n2", "n3"]) {
          const state = node === "n3" ? "failed" : "stopped";
          const records = ["a", "b"].map((id) => testStitch(id, { state, observedAtMs: 1 }));
          const changes = records.map((record) => ({ kind: "set", record, isNew: true }) as const);
          await publishAsNode(redis, keys, node, changes, status);
        }
        for (const filter of [{}, { group: "shop" }]) {
          const first = await master.state.stitches(FIRST, { ...filter, state: "failed" });
          const second = await master.state.stitches(
            { limit: 1, cursor: first.nextCursor },
            { ...filter, state: "failed" },
          );
          assert.deepEqual(
            [...first.items, ...second.items].map(({ fullId }) => fullId),
            ["n3:a", "n3:b"],
          );
        }

        const letter = (to: string): DeadLetter => ({
          messageId: "m",
          from: `${API_SENDER}a`,
          to,
          channel: "",
          data: "d",
          code: "no_recipient",
          reason: "there is none",
          tries: 0,
          atMs: 1,
        });
        const others = Array.from({ length: 50 }, () => letter("n1:other"));
        await addDeadLetters(redis, keys, "n1", [...others, letter("n1:ours")]);
        await addDeadLetters(redis, keys, "n2", [letter("n2:other"), letter("n2:ours")]);
        const letters = await master.routing.deadLetters(TWO, { stitch: "ours" });
        assert.deepEqual(
          letters.items.map(({ stitch }) => stitch),
          ["n1:ours", "n2:ours"],
        );
      });
    });

    it("of jobs hold old jobs that match, and the command line shows them", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { open } = cluster;
        const { redis, keys, master } = open;
        const left = await registerTestNode(redis, keys, "n9");
        assert.ok(await leaveNode(redis, keys, "n9", left));
        await registerTestNode(redis, keys, "n1");
        const failed: string[] = [];
        for (let count = 0; count < 5; count++) {
          const { id, status } = await cluster.run({ command: "node.ping", target: "n9" });
          assert.equal(status, "failed");
          failed.push(id);
        }
        const id = (count: number) =>
          `j${String(count)
            .padStart(26, "a")
            .replace(/[0189]/g, (digit) => "bcde"["0189".indexOf(digit)] ?? "")}`;
        for (let count = 0; count < 150; count++)
          assert.equal(await createJob(redis, keys, await pingJob(open, id(count)), ""), "created");

        const page = await master.commands.jobs({ limit: 100, cursor: null }, { status: "failed" });
        assert.deepEqual(page.items.map((job) => job.id).sort(), failed.sort());
        assert.equal(page.nextCursor, null);
        assert.equal((await master.commands.jobs(TWO, { target: "n9" })).items.length, 2);

        const { url: api } = await cluster.api();
        const shown = cluster.part(["jobs", "--status", "failed"], { STITCH_URL: api });
        assert.equal(await shown.exited, 0, shown.output);
        for (const job of failed) assert.ok(shown.output.includes(job), shown.output);
      });
    });

    it("of events hold old events that match; since takes an id, a time or a duration, over all pages", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys, master } = cluster.open;
        await emitEvents(redis, keys, [
          { type: "node.left", node: "n7" },
          { type: "node.joined", node: "n7" },
        ]);
        for (let count = 0; count < 5; count++)
          await emitEvents(
            redis,
            keys,
            Array.from({ length: 300 }, () => ({ type: "cluster.frozen" }) as const),
          );
        await emitEvents(redis, keys, [{ type: "node.dead", node: "n8" }]);

        const [joined] = (await master.state.events(null, 1, { type: ["node.joined"] })).items;
        assert.equal(joined?.node, "n7");
        const newest = await master.state.events(null, 2, { type: ["node.*"] });
        assert.deepEqual(
          newest.items.map(({ type }) => type),
          ["node.joined", "node.dead"],
          "oldest first",
        );
        const older = await master.state.events(newest.nextCursor, 2, { type: ["node.*"] });
        assert.deepEqual([older.items.map(({ type }) => type), older.nextCursor], [["node.left"], null]);
        const after = await master.state.events(joined?.id ?? "", 1, { type: ["node.dead"] });
        assert.equal(after.items[0]?.node, "n8");

        const { url: api } = await cluster.api();
        const events = async (...args: string[]) => {
          const part = cluster.part(["events", ...args], { STITCH_URL: api });
          assert.equal(await part.exited, 0, part.output);
          return part.output;
        };
        const count = async (...args: string[]) => {
          const body = /^\{.*\}$/m.exec(await events(...args, "--json"))?.[0] ?? "";
          return (JSON.parse(body) as { items: unknown[] }).items.length;
        };
        assert.match(
          await events("--type", "node.joined"),
          new RegExp(`^${joined?.id}  ${joined?.at}  node\\.joined  `),
        );
        assert.equal(await count("--since", joined?.id ?? ""), 1501, "more than a page");
        assert.equal(await count("--since", joined?.at ?? ""), 1502 + (joined?.id.endsWith("-0") === true ? 0 : 1));
        assert.equal(await count("--since", "10m"), 1503);
        assert.equal(await count("--since", "10m", "--limit", "7"), 7);
        assert.equal(await count("--since", "10m", "--type", "node.*"), 3);
        assert.equal(await count(), 100, "the newest");
        assert.equal(await count("--limit", "1000"), 1000);
        await redis.xtrim(keys.events, "MAXLEN", 10);
        const gone = cluster.part(["events", "--since", "10m"], { STITCH_URL: api });
        assert.equal(await gone.exited, 1);
        assert.match(gone.output, /events_gone: .* the oldest one is \d+-\d+, of 20/);
      });
    });
  });
}

describe("a list's asOf", () => {
  it("is Redis's time before the list is read, so that only events since then are missing in it", async () => {
    await withOwnRedis(async ({ url }) => {
      const raw = new Redis(url);
      const monitor = await raw.monitor();
      const sent: (readonly string[])[] = [];
      monitor.on("monitor", (_time: string, args: readonly string[]) => sent.push(args));
      const work = withCluster(url, {}, async ({ open: { redis, keys, master } }) => {
        await registerTestNode(redis, keys, "n1");
        await publishTestStitch({ redis, keys }, "n1", "a");
        const page = { limit: 10, cursor: null };
        for (const [name, list, items] of [
          ["nodes", () => master.state.nodes(page, {}), 1],
          ["stitches", () => master.state.stitches(page, {}), 1],
          ["stitches of a group", () => master.state.stitches(page, { group: "shop" }), 1],
          ["groups", () => master.state.groups(page), 1],
          ["jobs", () => master.commands.jobs(page, {}), 0],
          ["events", () => master.state.events(null, 10, {}), 0],
          ["dead letters", () => master.routing.deadLetters(page, {}), 0],
        ] as const) {
          const begin = `begin-${name}`;
          const end = `end-${name}`;
          await redis.echo(begin);
          assert.equal((await list()).items.length, items, name);
          await redis.echo(end);
          await until("the monitor has seen it", () => sent.some((args) => args.includes(end)));
          const from = sent.findIndex((args) => args.includes(begin)) + 1;
          const [first = []] = sent
            .slice(from)
            .filter(
              ([command, ...args]) => command === "time" || args.some((arg) => arg.startsWith(`cs:${keys.cluster}:`)),
            );
          assert.deepEqual(first, ["time"], name);
        }
      });
      await work.finally(() => {
        monitor.disconnect();
        raw.disconnect();
      });
    });
  });
});
