// The contract of a Master (./clauses.ts), for every one that can be chosen, on every kind of Redis; and for Masters that
// break it, which must be found out. Whoever adds a mode adds it to MASTER_MODES.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ChosenMaster, MASTER_MODES } from "../../src/domain/master-mode.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { Sweeper } from "../../workers/master/sweeper.ts";
import { openNodePorts } from "../../src/master/node-ports.ts";
import { REDISES, type TestCluster, withCluster } from "../support/cluster.ts";
import { MAIL_MODULE } from "../support/mail.ts";
import { BROKEN_NODE_PORTS } from "./broken-node-ports.ts";
import { BROKEN_MASTERS } from "./broken-masters.ts";
import { CLAUSES, type Clause } from "./clauses.ts";
import { NODE_CLAUSES, type NodeClause } from "./node-clauses.ts";

const CHOSEN = MASTER_MODES.map((mode): ChosenMaster => ({ mode, preferred: mode === "preferred" ? "two" : null }));
const clauses: [string, Clause][] = Object.entries(CLAUSES);
const nodeClauses: [string, NodeClause][] = Object.entries(NODE_CLAUSES);
/** A name for the stitches and nodes of a clause. */
const nameOf = (clause: string, by: string): string => `${clause.toLowerCase().slice(0, 24)}-${by}`;

const STOP_MS = 3000;
const envOf = ({ mode, preferred }: ChosenMaster): Record<string, string> => ({
  STITCH_MASTER: mode,
  ...(preferred === null ? {} : { STITCH_MASTER_PREFERRED: preferred }),
});
const sweeperOf = (opened: OpenMaster, { errors }: TestCluster): Sweeper =>
  new Sweeper({
    upkeep: opened.master.upkeep,
    blocking: opened.openBlocking(),
    onError: (error) => errors.push(error),
  });

async function withNodes(
  url: string,
  work: (cluster: TestCluster) => Promise<void>,
  env: Record<string, string> = {},
): Promise<void> {
  await withCluster(url, env, async (cluster) => {
    await Promise.all(["n1", "n2"].map((node) => cluster.node(node, MAIL_MODULE)));
    await work(cluster);
  });
}

for (const { name: redisName, url } of REDISES)
  for (const chosen of CHOSEN)
    describe(`the ${chosen.mode} Master on a ${redisName}`, () => {
      it("keeps every clause of the contract", async (t) => {
        await withNodes(
          url,
          async (cluster) => {
            const opened = await Promise.all(["one", "two"].map((id) => cluster.openMaster(id, { chosen })));
            // Where not every Master decides, those that do must run.
            const sweepers = chosen.mode === "leaderless" ? [] : opened.map((each) => sweeperOf(each, cluster));
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
          },
          envOf(chosen),
        );
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
