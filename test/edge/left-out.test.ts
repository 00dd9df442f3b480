// What stands on the edge in the place of parts of libraries (wrangler.toml, `[alias]`): what the API uses of them works as without.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import fc from "fast-check";
import { unpack } from "msgpackr";
import { unstable_readConfig } from "wrangler";
import * as leftOut from "../../infra/edge/left-out.ts";
import { Packr } from "../../infra/edge/msgpackr.ts";
import * as semver from "../../infra/edge/semver.ts";
import tlsProfiles from "../../infra/edge/tls-profiles.ts";
import type { Dispatch } from "../../src/domain/job/job.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import { MastersQueue } from "../../src/queue/masters-queue.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { Keys } from "../../src/redis/keys.ts";
import { REQUIRE } from "../../infra/build.ts";
import { REDISES } from "../support/cluster.ts";

const root = join(import.meta.dirname, "../..");
const NODES = ["n1", "n2", "n3"];

type Queues = {
  readonly Dispatcher: typeof Dispatcher;
  readonly MastersQueue: typeof MastersQueue;
  readonly openRedis: typeof openRedis;
  readonly connectRedis: typeof connectRedis;
};

let dir = "";
let onEdge: Queues;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "crossstitch-left-out-"));
  const { alias } = unstable_readConfig({ config: join(root, "wrangler.toml") });
  const outfile = join(dir, "queues.mjs");
  await build({
    stdin: {
      contents: [
        'export { Dispatcher } from "./src/queue/dispatcher.ts";',
        'export { MastersQueue } from "./src/queue/masters-queue.ts";',
        'export { connectRedis, openRedis } from "./src/redis/connection/connection.ts";',
      ].join("\n"),
      resolveDir: root,
    },
    bundle: true,
    minify: true,
    keepNames: true,
    platform: "node",
    // As wrangler picks them.
    mainFields: ["module", "main"],
    format: "esm",
    banner: { js: REQUIRE },
    outfile,
    logLevel: "error",
    plugins: [
      {
        name: "alias",
        setup: (bundler) => {
          bundler.onResolve({ filter: /.*/ }, ({ path }) => {
            const to = alias?.[path];
            return to === undefined ? undefined : { path: join(root, to) };
          });
        },
      },
    ],
  });
  onEdge = (await import(pathToFileURL(outfile).href)) as Queues;
});

after(() => rm(dir, { recursive: true, force: true }));

/** Every method is here: whoever adds one must try it with what stands in on the edge. */
const USED = {
  Dispatcher: ["constructor", "dispatch", "obliterate", "ready", "resume", "withdraw"],
  MastersQueue: ["add", "constructor", "ready", "remove"],
};

test("all that the queues do is tried below", () => {
  assert.deepEqual(Object.getOwnPropertyNames(Dispatcher.prototype).sort(), USED.Dispatcher);
  assert.deepEqual(Object.getOwnPropertyNames(MastersQueue.prototype).sort(), USED.MastersQueue);
});

for (const { name, url } of REDISES)
  test(`the queues on the edge write the same as elsewhere, ${name}`, { timeout: 60_000 }, async () => {
    const elsewhere: Queues = { Dispatcher, MastersQueue, openRedis, connectRedis };
    const [wanted, written] = [await useQueues(elsewhere, url, "wanted"), await useQueues(onEdge, url, "edge")];
    assert.deepEqual(written, wanted);
    // What was added to n1 and not taken back, n3's entry, and the entry for the leader that nobody took back.
    assert.deepEqual(
      wanted.map(([, , jobs]) => jobs),
      [1, 0, 1, 1],
    );
  });

/** @returns for each queue the places of its entries, what is written of them, and how many there are. */
async function useQueues({ Dispatcher, MastersQueue, openRedis, connectRedis }: Queues, url: string, mark: string) {
  const redis = openRedis(url, "direct", () => undefined);
  try {
    await connectRedis(redis, 10_000);
    const keys = new Keys(`left-out-${process.pid}-${mark}`);
    const dispatcher = new Dispatcher(redis, keys);
    const masters = new MastersQueue(redis, keys);
    await Promise.all([dispatcher.ready(), masters.ready()]);
    const tasks = ["a", "b", "c"].map((id): Dispatch => dispatchOf(id, NODES[0] ?? ""));
    await dispatcher.dispatch([...tasks, dispatchOf("d", "n2"), dispatchOf("e", "n3")]);
    await dispatcher.withdraw(
      "job-1",
      [tasks[0], tasks[2]].flatMap((each) => (each === undefined ? [] : [each.task])),
    );
    await dispatcher.obliterate("n2");
    await dispatcher.resume("n2");
    await masters.add("request-1", "forward", { job: "job-1" });
    await masters.add("request-2", "forward", { job: "job-2", text: "ö".repeat(300) });
    await masters.remove("request-1");
    const queues = [...NODES.map((node) => (part: string) => keys.nodeQueue(node, part)), keys.mastersQueue.bind(keys)];
    return await Promise.all(
      queues.map(async (keyOf) => {
        const [wait, paused, marker, meta] = await Promise.all([
          redis.lrange(keyOf("wait"), 0, -1),
          redis.lrange(keyOf("paused"), 0, -1),
          redis.zrange(keyOf("marker"), 0, "-1"),
          redis.hgetall(keyOf("meta")),
        ]);
        const entries = await Promise.all(wait.map((id) => redis.hgetall(keyOf(id))));
        const timeless = entries.map(({ timestamp, ...rest }) => ({ ...rest, timed: Number(timestamp) > 1e12 }));
        return [{ wait, paused, marker, meta }, timeless, entries.length] as const;
      }),
    );
  } finally {
    redis.disconnect();
  }
}

const dispatchOf = (id: string, node: string): Dispatch => ({
  job: "job-1",
  revision: 7,
  deadlineAtMs: 1_700_000_000_000,
  task: {
    id,
    node,
    runs: "node",
    attempt: 1,
    wave: 0,
    steps: [{ action: "ping", stitch: null }],
    refused: null,
  },
});

test("what is left out says so if it is called, and where it is left out", () => {
  const { leftOut: _, JobScheduler, createToJSONSchemaMethod, createStandardJSONSchemaMethod, ...others } = leftOut;
  const calls = [
    () => new JobScheduler(),
    () => tlsProfiles["RedisCloudFixed"],
    createToJSONSchemaMethod(),
    createStandardJSONSchemaMethod(),
    ...Object.values(others),
  ];
  for (const call of calls) assert.throws(call, /is not part of the API on the edge \(infra\/edge.*wrangler\.toml/);
  assert.equal(tlsProfiles["undefined"], undefined);
});

test("what is packed on the edge is read as it was, by msgpackr", () => {
  const { pack } = new Packr();
  const plain = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom(null, true, false, -0, 2 ** 31, 2 ** 32, -(2 ** 31), -(2 ** 31) - 1, 1_700_000_000_000),
      fc.integer(),
      fc.double({ noNaN: true }),
      fc.string({ unit: "grapheme", maxLength: 300 }),
      fc.array(tie("value"), { maxLength: 20 }),
      fc.dictionary(
        fc.string().filter((key) => key !== "__proto__"),
        tie("value"),
        { maxKeys: 20, noNullPrototype: true },
      ),
    ),
  })).value;
  fc.assert(fc.property(plain, (value) => assert.deepEqual(unpack(pack(value)), value)));
  for (const length of [31, 32, 255, 256, 65_535, 65_536]) {
    assert.equal(unpack(pack("x".repeat(length))), "x".repeat(length));
    assert.deepEqual(
      unpack(pack(Array.from({ length }, (_, index) => index))),
      Array.from({ length }, (_, i) => i),
    );
    const fields = Object.fromEntries(Array.from({ length }, (_, index) => [`f${index}`, index]));
    assert.deepEqual(unpack(pack(fields)), fields);
  }
  assert.equal(unpack(pack(undefined)), null);
  assert.throws(() => pack({ a: [1n] }), /plain values, no bigint/);
});

test("versions are compared as numbers, part by part", () => {
  const version = fc.tuple(fc.nat(30), fc.nat(30), fc.nat(30));
  fc.assert(
    fc.property(version, version, (one, other) => {
      const pairs = one.map((part, index) => part - (other[index] ?? 0));
      assert.equal(semver.lt(one.join("."), other.join(".")), (pairs.find((difference) => difference !== 0) ?? 0) < 0);
    }),
  );
  assert.throws(() => semver.coerce("7.2.0-rc1"), /infra\/edge\/semver/);
});
