import assert from "node:assert/strict";
import { test } from "node:test";
import { type Dispatch, dispatchId } from "../../../src/domain/job/job.ts";
import type { Orders } from "../../../src/master/ports.ts";
import type { Publisher } from "../../../workers/node/stitches/publisher.ts";
import type { StitchHost } from "../../../workers/node/stitches/stitch-host.ts";
import { PING_TASK } from "../../support/ping-job.ts";
import { TaskRunner } from "../../../workers/node/tasks/task-runner.ts";

const ELECTION = "0".repeat(32);
const PING: Dispatch = { job: "j", revision: 1, deadlineAtMs: 1000, task: PING_TASK, election: ELECTION };

function runnerWith(orders: Pick<Orders, "claim" | "tell">, journaled: readonly Dispatch[] = []): TaskRunner {
  const publisher: Pick<Publisher, "flush"> = { flush: async () => true };
  return new TaskRunner({
    orders: { ...orders, assigned: async () => new Map() },
    host: {} as StitchHost,
    publisher: publisher as Publisher,
    journal: {
      find: (id) => journaled.find(({ job, task }) => dispatchId(job, task) === id),
      take: () => assert.fail(),
    },
    specs: { bring: async () => new Map() },
    incarnation: () => 1,
    holdsId: () => true,
    learnEligibility: async () => undefined,
    nextBeat: async () => undefined,
    nowMs: () => 0,
    say: assert.fail,
    onError: assert.ifError,
  });
}

test("a task that is delivered again while it is at work is claimed once", async () => {
  const claims: (string | null)[] = [];
  const answer = Promise.withResolvers<"ok">();
  const runner = runnerWith({
    claim: async (_job, _task, _incarnation, election) => {
      claims.push(election);
      return answer.promise;
    },
    tell: async () => true,
  });
  const both = [runner.run(PING), runner.run(PING)];
  answer.resolve("ok");
  await Promise.all(both);
  assert.deepEqual(claims, [ELECTION]);
  await runnerWith({ claim: () => assert.fail(), tell: () => assert.fail() }, [PING]).run(PING);
});

test("a task that was begun is finished under its first claim: later claims compare no election, until it has ended", async () => {
  const claims: (string | null)[] = [];
  let fails = true;
  const runner = runnerWith({
    claim: async (_job, _task, _incarnation, election) => {
      claims.push(election);
      return "ok";
    },
    tell: async () => {
      if (fails) throw new Error("refused");
      return true;
    },
  });
  await assert.rejects(runner.run(PING), /refused/);
  fails = false;
  await runner.run(PING);
  await runner.run(PING);
  assert.deepEqual(claims, [ELECTION, null, ELECTION]);
});

test("another task under the id of one that is at work waits until that has ended", async () => {
  const other: Dispatch = { ...PING, task: { ...PING.task, steps: [...PING.task.steps, ...PING.task.steps] } };
  const answer = Promise.withResolvers<"ok">();
  const runner = runnerWith({ claim: () => answer.promise, tell: async () => true });
  const first = runner.run(PING);
  await assert.rejects(runner.run(other), /still at work/);
  answer.resolve("ok");
  await first;
  await runner.run(other);
  await assert.rejects(
    runnerWith({ claim: () => assert.fail(), tell: () => assert.fail() }, [PING]).run(other),
    /still at/,
  );
});

test("a task that another leader has replaced is not carried out", async () => {
  const runner = runnerWith({ claim: async () => "stale_leader", tell: () => assert.fail() });
  await runner.run(PING);
});
