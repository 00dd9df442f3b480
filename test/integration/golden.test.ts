// Runs all commands, and compares with test/golden/ what they write into Redis and onto the nodes' disks, and what HTTP and the
// command line answer. After a change on purpose, write the files again:
//   TEST_WRITE_GOLDEN=1 npm test -- test/integration/golden.test.ts
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { until, withCluster } from "../support/cluster.ts";
import { goldenPath, isProgress, keysIn, lastLinesIn, Mask } from "../support/golden.ts";
import { MAIL_MODULE } from "../support/mail.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { runStitch } from "../unit/cli/run-stitch.ts";

const MAIL = join(import.meta.dirname, "../support/stitches/mail.mjs");
const QUICK = { minHealthyMs: 0, stopGraceMs: 5000 };
const SLEEPS = { adaptor: "process", protocol: "none", command: ["sleep", "600"], ...QUICK };
/** The reserved resources differ between the nodes at all times. With a tie, the measured load would decide. */
const TALKS = { adaptor: "process", command: [process.execPath, MAIL], resources: { cpu: 0.5 }, ...QUICK };

/** Every command, in an order in which each has something to do. */
const COMMANDS_SENT: readonly ({ readonly command: keyof typeof COMMANDS } & Record<string, unknown>)[] = [
  { command: "node.ping", target: "n1", reason: "is it there?" },
  { command: "stitch.create", target: "shop.mail.1", node: "n1", id: "mail", spec: TALKS },
  { command: "stitch.create", target: "shop.web.1", count: 2, spec: SLEEPS, placement: { strategy: "spread" } },
  {
    command: "stitch.create",
    target: "shop.mod.1",
    node: "n2",
    id: "mod",
    spec: { adaptor: "module", module: "mail" },
  },
  { command: "stitch.create", target: "shop.idle.1", node: "n2", id: "idle", start: false, spec: SLEEPS },
  {
    command: "stitch.create",
    target: "shop.bad.1",
    node: "n2",
    id: "bad",
    spec: { ...SLEEPS, command: ["./none"], restart: { policy: "never" } },
  },
  { command: "stitch.stop", target: "web-1" },
  { command: "stitch.start", target: "web-1" },
  { command: "stitch.restart", target: "n1:mail" },
  { command: "stitch.clone", target: "web-1", toNode: "n2" },
  { command: "stitch.move", target: "mail", toNode: "n2", minHealthyMs: 0 },
  { command: "stitch.remove", target: "bad" },
  { command: "group.stop", target: "shop.web" },
  { command: "group.start", target: "shop.web" },
  { command: "group.restart", target: "shop.web", batch: "50%", minHealthyMs: 0 },
  { command: "group.scale", target: "shop.web.1", count: 4, minHealthyMs: 0 },
  { command: "group.scale", target: "shop.web.1", count: 2 },
  { command: "stitch.create", target: "shop.web.2", count: 2, spec: SLEEPS },
  { command: "group.stopOldVersions", target: "shop.web.2", minHealthyMs: 0 },
  { command: "node.cordon", target: "n2" },
  { command: "node.uncordon", target: "n2" },
  { command: "group.rebalance", target: "shop.web", minHealthyMs: 0 },
  { command: "node.drain", target: "n2", forceAfterMs: 0, minHealthyMs: 0 },
  { command: "node.uncordon", target: "n2" },
  { command: "group.start", target: "shop.mail" },
  { command: "group.start", target: "shop.mod" },
  { command: "group.remove", target: "shop.web.1" },
  { command: "node.relabel", target: "n2", labels: { disk: null, rack: "7" } },
];

const LISTS = [
  "/livez",
  "/readyz",
  "/v1/cluster",
  "/v1/nodes",
  "/v1/nodes/n1",
  "/v1/stitches",
  "/v1/stitches?group=shop.web&state=running",
  "/v1/stitches/idle",
  "/v1/stitches/mail/logs",
  "/v1/groups",
  "/v1/groups/shop",
  "/v1/jobs?limit=1000",
  "/v1/jobs?status=failed",
  "/v1/dead-letters",
];
const REFUSED = [
  "/v1/nodes/n9",
  "/v1/stitches/nobody",
  "/v1/stitches/bad",
  "/v1/groups/none",
  "/v1/jobs/jaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "/v1/nodes?zone=&limit=0",
  "/v1/nothing",
];
const TYPED: readonly (readonly string[])[] = [
  ["status"],
  ["nodes"],
  ["nodes", "n1"],
  ["ps"],
  ["ps", "idle"],
  ["groups"],
  ["groups", "shop.web"],
  ["logs", "mail"],
  ["jobs", "--status", "failed"],
  ["dead-letters"],
  ["ping", "n1"],
  ["plan", "drain", "n2"],
  ["send", "mail", "hello", "--ack"],
  ["stop", "idle"],
  ["stop", "nobody"],
];

it("a run through all commands writes and answers what the golden files say", async () => {
  assert.deepEqual(
    Object.keys(COMMANDS).filter((name) => !COMMANDS_SENT.some(({ command }) => command === name)),
    [],
    "every command is among them",
  );
  await withOwnRedis((redis) =>
    withCluster(redis.url, {}, async (cluster) => {
      const [{ url }] = await Promise.all([
        cluster.api(),
        cluster.node("n1", { ...MAIL_MODULE, STITCH_ZONES: "a", STITCH_CAPACITY_CPU: "4" }),
        cluster.node("n2", { ...MAIL_MODULE, STITCH_LABELS: "disk=ssd", STITCH_CAPACITY_CPU: "4" }),
      ]);
      const mask = new Mask({ [cluster.name]: "<cluster>", [cluster.dir]: "<folder>" });
      const http: unknown[] = [];
      const ask = async (method: string, path: string, body?: object): Promise<Record<string, unknown>> => {
        const headers: HeadersInit = body === undefined ? {} : { "Content-Type": "application/json" };
        const sent = body === undefined ? {} : { body: JSON.stringify(body) };
        const response = await checkedFetch(`${url}${path}`, {
          method,
          headers: { Accept: "application/json", ...headers },
          ...sent,
        });
        const text = await response.text();
        const answer = (text === "" ? null : JSON.parse(text)) as Record<string, unknown>;
        http.push(mask.value({ asked: `${method} ${path}`, body: body ?? null, status: response.status, answer }));
        return answer;
      };

      const ids: string[] = [];
      for (const command of COMMANDS_SENT) {
        const { id } = await ask("POST", "/v1/commands?waitMs=60000", command);
        ids.push(String(id));
      }
      await ask("POST", "/v1/commands", { command: "group.restart", target: "shop.web.2", dryRun: true });
      await ask("POST", "/v1/commands", { command: "stitch.create", target: "shop", spec: { adaptor: "none" } });
      await ask("POST", "/v1/commands", { command: "stitch.stop", target: "nobody" });
      const failed = ids[5] ?? "";
      const stopped = ids[6] ?? "";
      await ask("GET", `/v1/jobs/${failed}`);
      await ask("GET", `/v1/jobs/${failed}/steps`);
      await ask("POST", `/v1/jobs/${failed}/cancel`);
      for (const [id, act] of [
        [failed, "retry"],
        [stopped, "rollback"],
      ] as const) {
        const { id: next } = await ask("POST", `/v1/jobs/${id}/${act}`);
        if (typeof next === "string") await ask("GET", `/v1/jobs/${next}?waitMs=60000`);
      }
      for (const to of [{ stitch: "mail" }, { group: "shop" }, { stitch: "idle" }, { stitch: "nobody" }])
        await ask("POST", "/v1/messages", { to, channel: "", data: { hello: 1 }, expect: "ack" });
      await ask("POST", "/v1/messages", { to: { stitch: "mod" }, channel: "fail", data: "", expect: "none" });
      await until(
        "its message has become a dead letter",
        async () => (await cluster.master.routing.deadLetters({ limit: 1, cursor: null }, {})).items.length > 0,
      );
      for (const path of [...LISTS, ...REFUSED]) await ask("GET", path);

      const cli: unknown[] = [];
      for (const args of TYPED) {
        const { code, stdout } = await runStitch([...args, "--json"], { STITCH_URL: url });
        cli.push(mask.value({ typed: args.join(" "), code, stdout }));
      }
      const { items } = (await (
        await checkedFetch(`${url}/v1/events?limit=1000`, { headers: { Accept: "application/json" } })
      ).json()) as { items: unknown[] };
      const events = items
        .filter((event) => !isProgress(JSON.stringify(event)))
        .map((event) => JSON.stringify(mask.value(event)))
        .sort()
        .map((text): unknown => JSON.parse(text));
      const journals = Object.fromEntries(
        ["n1", "n2"].map((node) => [
          node,
          lastLinesIn(join(cluster.dir, `state-${node}`, cluster.name, node, "stitches.jsonl"), mask),
        ]),
      );
      const keys = await keysIn(cluster.open.redis, cluster.name, mask);
      for (const [name, value] of Object.entries({ http, cli, events, journals, keys })) compare(name, value);
    }),
  );
});

function compare(name: string, value: unknown): void {
  const path = goldenPath(name);
  if (process.env["TEST_WRITE_GOLDEN"] === "1") {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${JSON.stringify(value, null, 1)}\n`);
  }
  assert.deepEqual(value, JSON.parse(readFileSync(path, "utf8")), `${path}: write it anew where that is meant`);
}
