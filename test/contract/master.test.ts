// The contract of a Master (./clauses.ts), for every one that can be chosen, on every kind of Redis; and for Masters that
// break it, which must be found out. Whoever writes a Master adds it to MASTER_MODES and src/master/open-master.ts.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MASTER_MODES } from "../../src/domain/master-mode.ts";
import { openNodePorts } from "../../src/master/node-ports.ts";
import { REDISES, type TestCluster, withCluster } from "../support/cluster.ts";
import { MAIL_MODULE } from "../support/mail.ts";
import { BROKEN_NODE_PORTS } from "./broken-node-ports.ts";
import { BROKEN_MASTERS } from "./broken-masters.ts";
import { CLAUSES, type Clause } from "./clauses.ts";
import { NODE_CLAUSES, type NodeClause } from "./node-clauses.ts";

const clauses: [string, Clause][] = Object.entries(CLAUSES);
const nodeClauses: [string, NodeClause][] = Object.entries(NODE_CLAUSES);
/** A name for the stitches and nodes of a clause. */
const nameOf = (clause: string, by: string): string => `${clause.toLowerCase().slice(0, 24)}-${by}`;

async function withNodes(url: string, work: (cluster: TestCluster) => Promise<void>): Promise<void> {
  await withCluster(url, {}, async (cluster) => {
    await Promise.all(["n1", "n2"].map((node) => cluster.node(node, MAIL_MODULE)));
    await work(cluster);
  });
}

for (const { name: redisName, url } of REDISES)
  for (const mode of MASTER_MODES)
    describe(`the ${mode} Master on a ${redisName}`, () => {
      it("keeps every clause of the contract", async (t) => {
        await withNodes(url, async (cluster) => {
          const opened = await Promise.all(["one", "two"].map((id) => cluster.openMaster(id, { mode })));
          try {
            const [one, two] = opened;
            assert.ok(one !== undefined && two !== undefined);
            for (const [clause, { title, check }] of clauses)
              await t.test(title, () =>
                check({ master: one.master, other: two.master, cluster, name: nameOf(clause, "ok") }),
              );
          } finally {
            for (const each of opened) each.close();
          }
        });
      });
    });

for (const { name: redisName, url } of REDISES)
  for (const mode of MASTER_MODES)
    it(`what the ${mode} Master is to a node worker keeps every clause, on a ${redisName}`, async (t) => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys, master } = cluster.open;
        for (const [clause, { title, check }] of nodeClauses) {
          const node = nameOf(clause, "n");
          const ports = openNodePorts(mode, { redis, direct: redis, keys, node });
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
        const ports = make(openNodePorts(MASTER_MODES[0], { redis, direct: redis, keys, node }));
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
