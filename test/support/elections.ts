import assert from "node:assert/strict";
import { join } from "node:path";
import { compareOrder } from "../../src/domain/election.ts";
import { Sweeper } from "../../workers/master/sweeper.ts";
import { type TestCluster, until } from "./cluster.ts";
import { counting, linesIn } from "./counted-starts.ts";
import { given, leaderBeside } from "./leaders.ts";

const GROUP = "shop.web.1";

/**
 * Lets leaders be elected one after the other, while a client restarts a stitch again and again. Two of three leaders end in good
 * order, the third as if it was killed. Fails if an accepted job does not succeed, or if a restart has started the stitch twice.
 */
export async function electionsUnderLoad(cluster: TestCluster, elections: number): Promise<void> {
  await cluster.node("n1");
  const { url } = await cluster.api();
  const file = join(cluster.dir, "starts");
  // Leaders end in the middle of their work here: what fails then is not lost, as the end of this test shows.
  const onError = () => undefined;
  const open = async (id: string) => {
    const opened = await cluster.openMaster(id, { onError });
    const blocking = opened.openBlocking();
    const sweeper = new Sweeper({ upkeep: opened.master.upkeep, blocking, onError });
    sweeper.start(assert.fail);
    const end = async (isKilled: boolean) => {
      await sweeper.stop(3000);
      if (!isKilled) await opened.master.upkeep.leave();
      opened.close();
    };
    return { id, end };
  };
  const masters = await Promise.all(["a0", "b0"].map(open));
  try {
    await leaderBeside(cluster);
    const create = { command: "stitch.create", target: GROUP, spec: counting(file), node: "n1", id: "s" };
    assert.equal((await given(url, create, "create"))["status"], "succeeded");
    let isOver = false;
    const accepted: string[] = [];
    const load = async (client: number) => {
      for (let count = 0; !isOver; count++) {
        const job = await given(url, { command: "stitch.restart", target: "n1:s" }, `k${client}.${count}`, 0);
        accepted.push(String(job["id"]));
        await cluster.master.commands.job(String(job["id"]), 30_000);
      }
    };
    const loads = [load(0)];
    const orders: { epoch: number; n: number }[] = [];
    while (orders.length < elections) {
      const leader = await leaderBeside(cluster);
      const last = orders.at(-1);
      assert.ok(last === undefined || compareOrder(leader, last) > 0, "the order goes up");
      orders.push(leader);
      const before = accepted.length;
      await until("a job is accepted under this leader", () => accepted.length > before);
      const index = masters.findIndex(({ id }) => id === leader.id);
      if (index < 0) continue;
      await masters[index]?.end(orders.length % 3 === 0);
      masters[index] = await open(`${leader.id[0] ?? ""}${orders.length}`);
      await leaderBeside(cluster, [leader.id]);
    }
    isOver = true;
    await Promise.all(loads);
    const jobs = await Promise.all(accepted.map((id) => cluster.master.commands.job(id, 30_000)));
    assert.deepEqual(new Set(jobs.map(({ status }) => status)), new Set(["succeeded"]));
    assert.equal(linesIn(file), 1 + accepted.length, "each restart has started it once");
  } finally {
    await Promise.all(masters.map((each) => each.end(true)));
  }
}
