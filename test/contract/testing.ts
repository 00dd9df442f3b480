// The contract of a Master as tests, for the author of one: `crossstitch/testing` (docs/masters.md).
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadConfig } from "../../src/config.ts";
import { loadOwnMaster } from "../../src/load-own-master.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { Sweeper } from "../../workers/master/sweeper.ts";
import { type TestCluster, withCluster } from "../support/cluster.ts";
import { MAIL_MODULE } from "../support/mail.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { CLAUSES, type Clause } from "./clauses.ts";

type Settings = Readonly<Record<string, string>>;

/** A Master that is held to the contract. */
export type HeldMaster = {
  readonly name: string;
  /** The settings of its processes, such as `{ STITCH_MASTER: "/srv/my-master.js" }`. */
  readonly env: Settings;
  /** Runs the tests with what these Masters need beside Redis: it adds to their settings. */
  readonly beside?: (work: (more: Settings) => Promise<void>) => Promise<void>;
  /** Why the tests are skipped. */
  readonly skip?: string | false;
};

const STOP_MS = 3000;
const clauses: [string, Clause][] = Object.entries(CLAUSES);
const alone = (work: (more: Settings) => Promise<void>): Promise<void> => work({});
/** A name for the stitches and nodes of a clause. */
export const nameOf = (clause: string, by: string): string => `${clause.toLowerCase().slice(0, 24)}-${by}`;

/** Runs `work` with a cluster of two nodes. */
export async function withNodes(
  url: string,
  work: (cluster: TestCluster) => Promise<void>,
  env: Settings = {},
): Promise<void> {
  await withCluster(url, env, async (cluster) => {
    await Promise.all(["n1", "n2"].map((node) => cluster.node(node, MAIL_MODULE)));
    await work(cluster);
  });
}

/**
 * Registers a test with node:test for a Master: it opens two of them beside two real nodes, and holds them to each clause of the
 * contract.
 * @param redis where; null: a Redis of its own, which needs the program `redis-server` or `valkey-server`.
 */
export function holdToContract(
  { name, env, beside = alone, skip = false }: HeldMaster,
  redis: { readonly name: string; readonly url: string } | null = null,
): void {
  const where = redis?.name ?? "Redis of its own";
  // node:test waits for it, and reports its failure.
  void test(`the ${name} Master on a ${where} keeps every clause of the contract`, { skip }, async (t) => {
    const check = (cluster: TestCluster) =>
      withTwoMasters(cluster, env, async (master, other) => {
        for (const [clause, { title, check: holds }] of clauses)
          await t.test(title, () => holds({ master, other, cluster, name: nameOf(clause, "ok") }));
      });
    const on = (url: string) => beside((more) => withNodes(url, check, { ...env, ...more }));
    await (redis === null ? withOwnRedis(({ url }) => on(url)) : on(redis.url));
  });
}

async function withTwoMasters(
  cluster: TestCluster,
  env: Settings,
  work: (one: OpenMaster["master"], two: OpenMaster["master"]) => Promise<void>,
): Promise<void> {
  const wrap = await loadOwnMaster(loadConfig(env).masterModule);
  const opened = await Promise.all(["one", "two"].map((id) => cluster.openMaster(id, { wrap })));
  // Where not every Master decides, those that do must run.
  const isShared = !["preferred", "leader"].includes(env["STITCH_MASTER"] ?? "");
  const onError = (error: unknown) => cluster.errors.push(error);
  const sweeperOf = (each: OpenMaster) =>
    new Sweeper({ upkeep: each.master.upkeep, blocking: each.openBlocking(), onError });
  const sweepers = isShared ? [] : opened.map(sweeperOf);
  for (const sweeper of sweepers) sweeper.start(onError);
  try {
    const [one, two] = opened;
    assert.ok(one !== undefined && two !== undefined);
    await work(one.master, two.master);
  } finally {
    await Promise.all(sweepers.map((sweeper) => sweeper.stop(STOP_MS)));
    for (const each of opened) each.close();
  }
}
