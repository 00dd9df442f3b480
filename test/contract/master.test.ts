// The contract of a Master (./clauses.ts), for every one that can be chosen, on every kind of Redis; and for Masters that
// break it, which must be found out. Whoever adds a mode adds it to MASTERS.
//   TEST_MASTER=/srv/my-master.js npm test -- test/contract/master.test.ts      holds a Master of one's own to it
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { loadConfig } from "../../src/config.ts";
import { loadOwnMaster } from "../../src/load-own-master.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { Sweeper } from "../../workers/master/sweeper.ts";
import { openNodePorts } from "../../src/master/node-ports.ts";
import { REDISES, type TestCluster, withCluster } from "../support/cluster.ts";
import { saveDocsMaster } from "../support/docs-master.ts";
import { MAIL_MODULE } from "../support/mail.ts";
import { BROKEN_NODE_PORTS } from "./broken-node-ports.ts";
import { BROKEN_MASTERS } from "./broken-masters.ts";
import { CLAUSES, type Clause } from "./clauses.ts";
import { WITH_ETCD, withEtcd } from "../support/etcd.ts";
import { NODE_CLAUSES, type NodeClause } from "./node-clauses.ts";

const { TEST_MASTER } = process.env;
const folder = mkdtempSync(join(tmpdir(), "cs-"));
after(() => rmSync(folder, { recursive: true, force: true }));
// The window of the example is open all day.
process.env["WINDOW"] ??= "0-24";

/** Each Master that is held to the contract, with the settings of its processes. */
type Settings = Readonly<Record<string, string>>;
const MASTERS: readonly {
  readonly name: string;
  readonly env: Settings;
  /** Runs the test with what these Masters need beside Redis: it adds to their settings. */
  readonly beside?: (work: (more: Settings) => Promise<void>) => Promise<void>;
  readonly skip?: string;
}[] =
  TEST_MASTER === undefined
    ? [
        { name: "leaderless", env: {} },
        { name: "preferred", env: { STITCH_MASTER: "preferred", STITCH_MASTER_PREFERRED: "two" } },
        { name: "leader", env: { STITCH_MASTER: "leader" } },
        {
          name: "leader by etcd",
          env: { STITCH_MASTER: "leader" },
          beside: (work) => withEtcd(({ place }) => work({ STITCH_LEADER_LEASE: place })),
          ...WITH_ETCD,
        },
        { name: "example", env: { STITCH_MASTER: saveDocsMaster(folder) } },
      ]
    : [{ name: TEST_MASTER, env: { STITCH_MASTER: TEST_MASTER } }];
const clauses: [string, Clause][] = Object.entries(CLAUSES);
const nodeClauses: [string, NodeClause][] = Object.entries(NODE_CLAUSES);
const alone = (work: (more: Settings) => Promise<void>): Promise<void> => work({});
/** A name for the stitches and nodes of a clause. */
const nameOf = (clause: string, by: string): string => `${clause.toLowerCase().slice(0, 24)}-${by}`;

const STOP_MS = 3000;
const sweeperOf = (opened: OpenMaster, { errors }: TestCluster): Sweeper =>
  new Sweeper({
    upkeep: opened.master.upkeep,
    blocking: opened.openBlocking(),
    onError: (error) => errors.push(error),
  });

async function withNodes(
  url: string,
  work: (cluster: TestCluster) => Promise<void>,
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  await withCluster(url, env, async (cluster) => {
    await Promise.all(["n1", "n2"].map((node) => cluster.node(node, MAIL_MODULE)));
    await work(cluster);
  });
}

for (const { name: redisName, url } of REDISES)
  for (const { name: master, env, beside = alone, skip } of MASTERS)
    describe(`the ${master} Master on a ${redisName}`, () => {
      it("keeps every clause of the contract", skip === undefined ? {} : { skip }, async (t) => {
        const checkAll = async (cluster: TestCluster) => {
          const { masterModule } = loadConfig(env);
          const wrap = await loadOwnMaster(masterModule);
          const opened = await Promise.all(["one", "two"].map((id) => cluster.openMaster(id, { wrap })));
          // Where not every Master decides, those that do must run.
          const isShared = !["preferred", "leader"].includes(env["STITCH_MASTER"] ?? "");
          const sweepers = isShared ? [] : opened.map((each) => sweeperOf(each, cluster));
          for (const sweeper of sweepers) sweeper.start((error) => cluster.errors.push(error));
          try {
            const [one, two] = opened;
            assert.ok(one !== undefined && two !== undefined);
            for (const [clause, { title, check }] of clauses)
              await t.test(title, () =>
                check({ master: one.master, other: two.master, cluster, name: nameOf(clause, "ok") }),
              );
          } finally {
            await Promise.all(sweepers.map((sweeper) => sweeper.stop(STOP_MS)));
            for (const each of opened) each.close();
          }
        };
        await beside((more) => withNodes(url, checkAll, { ...env, ...more }));
      });
    });

for (const { name: redisName, url } of REDISES)
  it(`what a Master is to a node worker keeps every clause, on a ${redisName}`, async (t) => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys, master } = cluster.open;
      for (const [clause, { title, check }] of nodeClauses) {
        const node = nameOf(clause, "n");
        const ports = openNodePorts({ redis, direct: redis, keys, node });
        await t.test(title, () => check({ master, ports, node }));
      }
    });
  });

describe("a Master that breaks its contract", () => {
  const [{ url } = { url: "" }] = REDISES;
  it("is found out by what it is to a node worker", async (t) => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys, master } = cluster.open;
      for (const [index, { how, breaks, make }] of BROKEN_NODE_PORTS.entries()) {
        const node = nameOf(breaks, `bad${index}`);
        const ports = make(openNodePorts({ redis, direct: redis, keys, node }));
        await t.test(how, () =>
          assert.rejects(NODE_CLAUSES[breaks].check({ master, ports, node }), assert.AssertionError),
        );
      }
    });
  });

  it("is found out", async (t) => {
    await withNodes(url, async (cluster) => {
      for (const [index, { how, breaks, make }] of BROKEN_MASTERS.entries())
        await t.test(how, async () => {
          const master = make(cluster.master);
          const world = { master, other: master, cluster, name: nameOf(breaks, `bad${index}`) };
          await assert.rejects(CLAUSES[breaks].check(world), assert.AssertionError);
        });
    });
  });
});
