import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ApiError, type Client, type CommandBody, createClient } from "../../src/client/client.ts";
import { REDISES, type TestCluster, withCluster } from "../support/cluster.ts";
import { patientCommand } from "../support/patient-command.ts";
import { startedTimes } from "../support/stitch-folder.ts";

/** As many requests as a client could send at once if it lost patience with both of its APIs. */
const AT_ONCE = 40;
const CREATE = {
  command: "stitch.create",
  target: "a.b.1",
  spec: { adaptor: "process", protocol: "none", command: ["sh", "-c", "echo started >> starts; sleep 600"] },
};

const twoApis = async (cluster: TestCluster): Promise<[Client, Client]> => {
  const [one, other] = await Promise.all([cluster.api(), cluster.api()]);
  return [createClient(one), createClient(other)];
};

/** Sends all bodies at once, alternating between the two APIs. */
const sendAll = ([one, other]: readonly [Client, Client], bodies: readonly CommandBody[], idempotencyKey: string) =>
  Promise.allSettled(
    bodies.map((body, index) => (index % 2 === 0 ? one : other).command(body, { idempotencyKey, waitMs: 20_000 })),
  );

const conflict = (error: ApiError): boolean => {
  assert.deepEqual([error.status, error.code], [409, "idempotency_conflict"], String(error));
  return true;
};

for (const redis of REDISES) {
  describe(`one Idempotency-Key through two APIs on a ${redis.name} (P4)`, { concurrency: 2 }, () => {
    it("many requests at once make one job with one effect, and repeat its answer after its target is removed", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const apis = await twoApis(cluster);
        const same = Array.from({ length: AT_ONCE }, () => CREATE);
        const answers = (await sendAll(apis, same, "k")).map((answer) => {
          assert.ok(answer.status === "fulfilled", String(answer.status === "rejected" && answer.reason));
          return answer.value;
        });
        const [job = assert.fail()] = answers.map((answer) => answer.job);
        assert.equal(job.status, "succeeded", JSON.stringify(job));
        for (const answer of answers)
          assert.deepEqual(
            [answer.job.id, answer.job.revision, answer.job.stitches],
            [job.id, job.revision, job.stitches],
          );
        assert.equal(answers.filter(({ replayed }) => !replayed).length, 1, "one of them made it");

        const stitches = await cluster.master.state.stitches({ cursor: null, limit: 10 }, {});
        assert.deepEqual(
          stitches.items.map(({ fullId, revision }) => [fullId, revision]),
          [[job.stitches[0], `${job.revision}.0`]],
        );
        const [stitch = assert.fail()] = stitches.items;
        await startedTimes(cluster, 1, [stitch.fullId]);
        const jobs = await cluster.master.commands.jobs({ cursor: null, limit: 10 }, {});
        assert.deepEqual(
          jobs.items.map(({ id }) => id),
          [job.id],
        );

        const removed = await cluster.run({ command: "stitch.remove", target: stitch.id });
        assert.equal(removed.status, "succeeded");
        for (const api of apis) {
          const again = await patientCommand(api, CREATE, { idempotencyKey: "k" });
          assert.deepEqual([again.replayed, again.job.id, again.job.status], [true, job.id, "succeeded"]);
          await assert.rejects(patientCommand(api, { ...CREATE, target: "a.b.2" }, { idempotencyKey: "k" }), conflict);
        }
        assert.deepEqual((await cluster.master.state.stitches({ cursor: null, limit: 10 }, {})).items, []);
      });
    });

    it("with two different bodies at once, one is carried out and both APIs refuse the other", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const apis = await twoApis(cluster);
        // In pairs, so that each API gets both.
        const bodies = Array.from({ length: AT_ONCE }, (_, index) => ({
          ...CREATE,
          id: index % 4 < 2 ? "one" : "other",
        }));
        const answers = await sendAll(apis, bodies, "k");
        const made = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
        const [{ job } = assert.fail()] = made;
        const [winner] = job.stitches;
        for (const [index, answer] of answers.entries()) {
          if (`n1:${bodies[index]?.id}` !== winner) {
            assert.ok(answer.status === "rejected");
            conflict(answer.reason as ApiError);
          } else {
            assert.ok(answer.status === "fulfilled", String(answer.status === "rejected" && answer.reason));
            assert.equal(answer.value.job.id, job.id);
          }
        }
        assert.equal(made.filter(({ replayed }) => !replayed).length, 1);
        const stitches = await cluster.master.state.stitches({ cursor: null, limit: 10 }, {});
        assert.deepEqual(
          stitches.items.map(({ fullId }) => fullId),
          [winner],
        );
      });
    });
  });
}
