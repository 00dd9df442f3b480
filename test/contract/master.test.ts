// The contract of a Master (./clauses.ts), for every one that can be chosen, on every kind of Redis; and for Masters that
// break it, which must be found out. Whoever adds a mode adds it to MASTERS.
//   TEST_MASTER=/srv/my-master.js npm test -- test/contract/master.test.ts      holds a Master of one's own to it
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { openNodePorts } from "../../src/master/node-ports.ts";
import { REDISES, withCluster } from "../support/cluster.ts";
import { saveDocsMaster } from "../support/docs-master.ts";
import { BROKEN_NODE_PORTS } from "./broken-node-ports.ts";
import { BROKEN_MASTERS } from "./broken-masters.ts";
import { CLAUSES } from "./clauses.ts";
import { WITH_ETCD, withEtcd } from "../support/etcd.ts";
import { NODE_CLAUSES, type NodeClause } from "./node-clauses.ts";
import { type HeldMaster, holdToContract, nameOf, withNodes } from "./testing.ts";

const { TEST_MASTER } = process.env;
const folder = mkdtempSync(join(tmpdir(), "cs-"));
after(() => rmSync(folder, { recursive: true, force: true }));
// The window of the example is open all day.
process.env["WINDOW"] ??= "0-24";

const MASTERS: readonly HeldMaster[] =
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
const nodeClauses: [string, NodeClause][] = Object.entries(NODE_CLAUSES);

for (const redis of REDISES) for (const master of MASTERS) holdToContract(master, redis);

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
