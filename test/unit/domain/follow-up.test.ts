import assert from "node:assert/strict";
import { test } from "node:test";
import { type Command, commandOptions } from "../../../src/domain/commands/command.ts";
import { COMMAND_NAMES } from "../../../src/domain/commands/command-names.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import {
  type Aftermath,
  type FollowUp,
  planAgain,
  planSteps,
  recordedAs,
  retryOf,
  rollbackOf,
  stepsIn,
  whereTheyLive,
} from "../../../src/domain/commands/follow-up.ts";
import { means } from "../../../src/domain/planning/meant.ts";
import { type FoldedJob, foldJob } from "../../../src/domain/job/fold.ts";
import { type Chain, type JobRecord, type JobState, outcomeKey, type StitchStep } from "../../../src/domain/job/job.ts";
import type { Observed } from "../../../src/domain/planning/observed.ts";
import { deadlineOf } from "../../../src/domain/commands/plan.ts";
import { oneTask, planOf } from "../../../src/domain/planning/planned.ts";
import type { RemovedRecord, StepOutcome } from "../../../src/domain/stitch/stitch.ts";
import {
  checked,
  CREATE,
  node,
  observed,
  placed,
  planned as planOfCommand,
  record,
  specOf,
  withStitches,
} from "./observed.ts";
import { SimulatedCluster } from "./simulated-cluster.ts";
import { outcome } from "./simulated-node.ts";
import type { PlacementOptions } from "../../../src/domain/stitch/placement-options.ts";

const DONE = outcome("succeeded", true);
const WAS_SO = outcome("succeeded", false);
const FAILED = outcome("failed", false, { code: "exited_early", message: "it exited" });
/** The stitch was started, and is under its restart policy. */
const NOT_UP = outcome("failed", true, { code: "exited_early", message: "it exited" });
const IDS = ["n1:a", "n1:b", "n2:c"];
const seen = (over: Partial<Observed> = {}): Observed =>
  observed({
    nodes: [node("n1"), node("n2")],
    ...withStitches(new Map(IDS.map((id) => [id, record(id)]))),
    ...over,
  });

/** The finished job of a command of one wave, with these outcomes of its steps, in order. */
function jobOf(command: Command, outcomes: readonly StepOutcome[], over: Partial<Observed> = {}): Job {
  const plan = planOfCommand(command, seen(over));
  const { tasks } = plan;
  return finished(
    {
      id: "j1",
      command: command.command,
      target: command.target,
      options: commandOptions(command),
      asked: null,
      reason: null,
      by: null,
      master: "m1",
      revision: 7,
      createdAtMs: 1000,
      deadlineAtMs: 1000 + deadlineOf(command, plan),
      waitForNode: command.waitForNode,
      tasks: [...tasks],
      orchestration: null,
      retryOf: null,
      rollbackOf: null,
    },
    outcomes,
  );
}

function finished(record: JobRecord, outcomes: readonly StepOutcome[]): Job {
  const keys = record.tasks.flatMap((task) => task.steps.map((_, index) => outcomeKey(task, index)));
  const state: JobState = {
    record,
    bodyHash: "",
    marks: { cancelledAtMs: null, closed: null },
    election: null,
    attempts: new Map(),
    outcomes: {
      claims: [],
      stale: new Set(),
      steps: new Map(keys.map((key, index) => [key, outcomes[index] ?? DONE])),
    },
    nowMs: 2000,
    written: 0,
  };
  const folded = foldJob(state, new Map());
  const status = folded.verdict ?? "failed";
  return { state: { ...state, marks: { ...state.marks, closed: { status, atMs: 2000 } } }, folded };
}
type Job = { readonly state: JobState; readonly folded: FoldedJob };

/** A job of many steps that the simulated cluster has carried out. */
function carriedOut(command: Command, tempers: Record<string, "never" | "fails"> = {}): Job {
  const cluster = new SimulatedCluster({ nodes: { n1: [], n2: [] }, stitches: IDS, tempers }, command);
  cluster.finish();
  return { state: cluster.state(), folded: cluster.fold() };
}

const refusedWith = (code: string, why: RegExp) => (error: unknown) => {
  assert.ok(error instanceof RequestError);
  assert.equal(error.code, code);
  assert.match(error.message, why);
  return true;
};
const retry = ({ state, folded }: Job): FollowUp => retryOf(state, folded);
const rollback = ({ state, folded }: Job): FollowUp => rollbackOf(state, folded);
const steps = (next: FollowUp): string[] =>
  next.kind === "steps" ? [next.name, ...next.steps.map(({ action, stitch }) => `${action} ${stitch}`)] : assert.fail();
const idsOf = (about: readonly StitchStep[]): string[] => about.map(({ stitch }) => stitch).sort();
const again = (next: FollowUp) => (next.kind === "command" ? next : assert.fail());

/** The deadline of a command of many steps that names none. */
const LONG_MS = 3_600_000;
const AWAY = node("n1", { leaseUntilMs: 0 });
const one = { nodes: [node("n1")], stitches: ["n1:a"] };
const OLD = { target: "shop.orders.2" };
/** The job that has stopped the older versions. */
const stoppedOld = () => {
  const newer = ["n1:new", "n1:newer", "n2:newest"];
  const groups = Object.fromEntries(newer.map((id) => [id, OLD.target]));
  const cluster = new SimulatedCluster(
    { nodes: { n1: [], n2: [] }, stitches: [...IDS, ...newer], groups },
    checked("group.stopOldVersions", OLD),
  );
  cluster.finish();
  return { state: cluster.state(), folded: cluster.fold() };
};

for (const [command, over, expected] of [
  [checked("stitch.start", { target: "a" }), one, ["stitch.stop", "stop n1:a"]],
  [checked("stitch.stop", { target: "a" }), one, ["stitch.start", "start n1:a"]],
  [checked("stitch.remove", { target: "a" }), one, ["stitch.create", "remove n1:a"]],
  [checked("group.start", { target: "shop" }), {}, ["group.stop", "stop n1:a", "stop n1:b", "stop n2:c"]],
  [checked("group.stop", { target: "shop" }), {}, ["group.start", "start n1:a", "start n1:b", "start n2:c"]],
  [checked("group.remove", { target: "shop" }), {}, ["stitch.create", "remove n1:a", "remove n1:b", "remove n2:c"]],
  [
    checked("stitch.create", { ...CREATE, count: 2 }),
    { stitches: [], nodes: [node("n1")] },
    ["stitch.remove", "remove n1:orders-1", "remove n1:orders-2"],
  ],
  [checked("stitch.clone", { target: "a", toNode: "n1" }), one, ["stitch.remove", "remove n1:orders-1"]],
] as const) {
  test(`a rollback of ${command.command} is ${expected.join(", ")}`, () => {
    assert.deepEqual(steps(rollback(jobOf(command, [], over))), expected);
  });
}

for (const name of ["group.start", "group.stop", "group.remove"] as const) {
  test(`a rollback of ${name} covers only what it changed; if it changed nothing, it is not reversible`, () => {
    const command = checked(name, { target: "shop" });
    assert.deepEqual(steps(rollback(jobOf(command, [DONE, WAS_SO, FAILED]))).length, 2);
    assert.throws(
      () => rollback(jobOf(command, [WAS_SO, WAS_SO, FAILED])),
      refusedWith("not_reversible", /changed nothing/),
    );
  });
}

test("rolls back a created stitch that did not come up, too: it exists, under its restart policy", () => {
  const there = { stitches: [], nodes: [node("n1")] };
  const job = jobOf(checked("stitch.create", { ...CREATE, count: 3 }), [DONE, NOT_UP, FAILED], there);
  assert.deepEqual(steps(rollback(job)), ["stitch.remove", "remove n1:orders-1", "remove n1:orders-2"]);
  const refused = jobOf(checked("stitch.create", CREATE), [FAILED], there);
  assert.throws(() => rollback(refused), refusedWith("not_reversible", /changed nothing/));
});

test("rolls back what a create may have made on a node that died, too", () => {
  const { state } = jobOf(checked("stitch.create", CREATE), [], { stitches: [], nodes: [node("n1")] });
  const claims = [{ task: "t0", attempt: 1, incarnation: 1, atMs: 1500 }];
  const unheard: JobState = { ...state, outcomes: { claims, steps: new Map(), stale: new Set() } };
  const folded = foldJob(unheard, new Map());
  assert.deepEqual(steps(rollbackOf(unheard, folded)), ["stitch.remove", "remove n1:orders-1"]);
});

for (const [command, over, expected] of [
  [checked("stitch.start", { target: "a" }), one, ["stitch.stop", "stop n1:a"]],
  [checked("group.start", { target: "shop" }), {}, ["group.stop", "stop n1:a"]],
] as const) {
  test(`rolls back a ${command.command} that failed and left the stitch to its restart policy`, () => {
    assert.deepEqual(steps(rollback(jobOf(command, [NOT_UP, WAS_SO, FAILED], over))), expected);
  });
}

test("rolls back a scale whose creates all failed: the stitches exist", () => {
  const tempers = {
    "n1:orders-100": "fails",
    "n2:orders-100": "fails",
    "n1:orders-101": "fails",
    "n2:orders-101": "fails",
  } as const;
  const job = carriedOut(checked("group.scale", { target: CREATE.target, count: 5 }), tempers);
  assert.equal(job.state.marks.closed?.status, "failed");
  const { command } = again(rollback(job));
  assert.ok(command.command === "group.scale");
  assert.equal(command.count, 3);
});

test("rolls back a cordon by an uncordon and an uncordon by a cordon, unless it changed nothing", () => {
  for (const [name, inverse] of [
    ["node.cordon", "node.uncordon"],
    ["node.uncordon", "node.cordon"],
  ] as const) {
    const { command, only } = again(rollback(jobOf(checked(name, { target: "n1" }), [DONE])));
    assert.deepEqual([command.command, command.target, only], [inverse, "n1", null]);
    assert.throws(
      () => rollback(jobOf(checked(name, { target: "n1" }), [WAS_SO])),
      refusedWith("not_reversible", /changed nothing/),
    );
  }
});

test("rolls back a scale to the former count, and a move to the former node", () => {
  const scaled = again(rollback(carriedOut(checked("group.scale", { target: CREATE.target, count: 5, timeoutMs: 9 }))));
  assert.ok(scaled.command.command === "group.scale");
  assert.deepEqual([scaled.command.count, scaled.command.timeoutMs], [3, 9]);
  const moved = again(rollback(carriedOut(checked("stitch.move", { target: "a", toNode: "n2" }))));
  assert.ok(moved.command.command === "stitch.move");
  assert.deepEqual([moved.command.target, moved.command.toNode], ["n2:a", "n1"]);
});

test("rolls back a move that could not be settled: the old stitch is gone", () => {
  const { state, folded } = carriedOut(checked("stitch.move", { target: "a", toNode: "n2" }));
  const orchestration = state.record.orchestration ?? assert.fail();
  const endedAt = (action: string) =>
    orchestration.chains.map((chain) => {
      const at = chain.links.findIndex(({ step }) => step.action === action);
      return { ...chain, at, phase: "ended", status: "failed" } as const;
    });
  const withChains = (chains: Chain[]) => ({
    ...state,
    record: { ...state.record, orchestration: { ...orchestration, chains } },
  });
  const { command } = again(rollbackOf(withChains(endedAt("settle")), folded));
  assert.ok(command.command === "stitch.move");
  assert.deepEqual([command.target, command.toNode], ["n2:a", "n1"]);
  const where = refusedWith("not_reversible", /where it was/);
  assert.throws(() => rollbackOf(withChains(endedAt("remove")), folded), where);
});

for (const [command, why] of [
  [checked("node.ping", { target: "n1" }), /changes nothing/],
  [checked("stitch.restart", { target: "a" }), /cannot be undone/],
] as const) {
  test(`${command.command} is not reversible: ${why.source}`, () => {
    assert.throws(() => rollback(jobOf(command, [DONE], one)), refusedWith("not_reversible", why));
  });
}
for (const [command, tempers, why] of [
  [checked("group.restart", { target: "shop" }), {}, /cannot be undone/],
  [checked("group.rebalance", { target: "shop" }), {}, /one by one, with stitch.move/],
  [checked("node.drain", { target: "n1" }), {}, /node.uncordon/],
  [checked("group.scale", { target: CREATE.target, count: 3 }), {}, /changed nothing/],
  [checked("stitch.move", { target: "a", toNode: "n1" }), {}, /where it was/],
  [checked("stitch.move", { target: "a", toNode: "n2" }), { "n2:a": "fails" }, /where it was/],
] as const) {
  test(`${command.command} ${JSON.stringify(commandOptions(command))} ${JSON.stringify(tempers)} is not reversible: ${why.source}`, () => {
    assert.throws(() => rollback(carriedOut(command, tempers)), refusedWith("not_reversible", why));
  });
}

test("there is nothing to retry if every step succeeded", () => {
  const job = jobOf(checked("group.stop", { target: "shop" }), []);
  assert.throws(() => retry(job), refusedWith("job_finished", /nothing to try again/));
});

for (const [name, action] of [
  ["group.start", "start"],
  ["group.stop", "stop"],
  ["group.remove", "remove"],
] as const) {
  test(`a retry of ${name} repeats the steps that did not succeed, and no others`, () => {
    const asked = checked(name, { target: "shop", timeoutMs: 9, waitForNode: true });
    const next = retry(jobOf(asked, [DONE, FAILED, WAS_SO]));
    const steps = [{ action, stitch: "n1:b", timeoutMs: 9 }];
    assert.deepEqual(next, { kind: "steps", name, steps, restores: false });
  });
}

test("a retry of a restart repeats what failed, what came up but was not green, and what did not begin", () => {
  for (const temper of ["fails", "never"] as const) {
    const asked = checked("group.restart", { target: "shop", timeoutMs: 2000 });
    const { command, only } = again(retry(carriedOut(asked, { "n1:b": temper })));
    assert.deepEqual([command, idsOf(only ?? [])], [{ ...asked, deadlineMs: LONG_MS }, ["n1:b", "n2:c"]]);
  }
});

/** The steps that a retry of the job plans, chain by chain. */
function planned(job: Job, there: Partial<Observed>): string[] {
  const { orchestration } = planAgain(again(retry(job)), job.state.record.revision, seen(there));
  const chains = orchestration?.chains ?? assert.fail();
  return chains.flatMap(({ links }) => links.map(({ step }) => `${step.action} ${step.stitch}`));
}

test("a retry of a scale creates what is missing, and starts what the scale made if it exists but is not up", () => {
  const scale = checked("group.scale", { target: CREATE.target, count: 6 });
  const tempers = Object.fromEntries(
    ["n1", "n2"].flatMap((on) => [100, 101, 102].map((n) => [`${on}:orders-${n}`, "fails"] as const)),
  );
  const job = carriedOut(scale, tempers);
  const made = job.folded.tasks.flatMap((task) => task.steps.flatMap(({ step }) => step.stitch ?? [])).sort();
  assert.equal(made.length, 3);
  const there = (ids: readonly string[]) => {
    const down = { state: "failed", health: "missing", born: `${job.state.record.revision}.0` } as const;
    return withStitches(new Map(ids.map((id) => [id, record(id, made.includes(id) ? down : {})])));
  };
  const starts = made.map((id) => `start ${id}`);
  assert.deepEqual(planned(job, there([...IDS, ...made])).sort(), starts);
  const [create = "", ...others] = planned(job, { ...there([...IDS, ...made.slice(1)]), firstNumber: 103 });
  assert.match(create, /^create n\d:orders-103$/);
  assert.deepEqual(others.sort(), starts.slice(1));
  const [remove = "", ...left] = planned(job, there([...IDS, ...made, "n1:other"]));
  const gone = remove.replace("remove ", "");
  assert.ok(made.includes(gone), remove);
  const stay = starts.filter((start) => !start.endsWith(gone));
  assert.deepEqual(left.sort(), stay, "what is removed is not started");
});

test("a retry of a scale down starts nothing", () => {
  const job = carriedOut(checked("group.scale", { target: CREATE.target, count: 1 }));
  const failed = { ...job.state, marks: { ...job.state.marks, closed: { status: "failed", atMs: 0 } } } as const;
  const orchestration = job.state.record.orchestration ?? assert.fail();
  const chains = orchestration.chains.map((chain) => ({ ...chain, status: "failed" }) as const);
  const state = { ...failed, record: { ...failed.record, orchestration: { ...orchestration, chains } } };
  assert.deepEqual(again(retryOf(state, job.folded)).notUp, []);
});

for (const [command, tempers] of [
  [checked("group.scale", { target: CREATE.target, count: 5, deadlineMs: LONG_MS }), { "n2:orders-100": "fails" }],
  [checked("group.rebalance", { target: "shop", maxMoves: 3, deadlineMs: LONG_MS }), {}],
  [checked("node.drain", { target: "n1", forceAfterMs: 5, deadlineMs: LONG_MS }), {}],
] as const) {
  test(`${command.command} describes the wanted end: a retry repeats the whole command`, () => {
    const job = carriedOut(command, tempers);
    const failed = { ...job.state, marks: { ...job.state.marks, closed: { status: "failed", atMs: 0 } } } as const;
    const next = again(retryOf(failed, job.folded));
    assert.deepEqual([next.command, next.only], [command, null]);
  });
}

for (const [command, over] of [
  [checked("node.ping", { target: "n1" }), {}],
  [checked("node.cordon", { target: "n1", deadlineMs: 5 }), {}],
] as const) {
  test(`a retry of ${command.command} that its node could not take up repeats the command unchanged`, () => {
    assert.deepEqual(retry(jobOf(command, [FAILED], over)), { kind: "command", command, only: null, notUp: [] });
  });
}

for (const [command, over, expected] of [
  [checked("stitch.start", { target: "a" }), one, ["stitch.start", "start n1:a"]],
  [checked("stitch.restart", { target: "a" }), one, ["stitch.restart", "restart n1:a"]],
  [checked("stitch.remove", { target: "a" }), one, ["stitch.remove", "remove n1:a"]],
] as const) {
  test(`a retry of ${command.command} is about the same stitch as its job`, () => {
    assert.deepEqual(steps(retry(jobOf(command, [FAILED], over))), expected);
  });
}

/** A job of many steps, marked as failed whatever its outcome. */
const asFailed = ({ state, folded }: Job): Job => ({
  state: { ...state, marks: { ...state.marks, closed: { status: "failed", atMs: 0 } } },
  folded,
});

for (const [what, tempers, target] of [
  ["could not be brought up there", { "n2:a": "fails" }, "n1:a"],
  ["is there by now", {}, "n2:a"],
] as const) {
  test(`a retry of a move is about the same stitch, where the move left it: one that ${what}`, () => {
    const move = checked("stitch.move", { target: "a", toNode: "n2" });
    const { command, only } = again(retry(asFailed(carriedOut(move, tempers))));
    assert.deepEqual([command, idsOf(only ?? [])], [{ ...move, target, deadlineMs: LONG_MS }, [target]]);
  });
}

test("a retry of a move that its node did not take up moves that stitch, though the only step shown is a remove", () => {
  const move = checked("stitch.move", { target: "a", toNode: "n2" });
  const next = retry(jobOf(move, [FAILED], { ...one, nodes: [AWAY, node("n2")] }));
  const step = { action: "remove", stitch: "n1:a", timeoutMs: move.timeoutMs, born: "1.0" };
  const command = { ...move, target: "n1:a", deadlineMs: LONG_MS };
  assert.deepEqual(next, { kind: "command", command, only: [step], notUp: [] });
  const moved = again(whereTheyLive(next, new Map([["n1:a", "n2:a"]])));
  assert.deepEqual([moved.command.target, idsOf(moved.only ?? [])], ["n2:a", ["n2:a"]]);
});

const START: StitchStep = { action: "start", stitch: "n1:a", timeoutMs: 1 };
const { specHash } = record("n1:a");
const MAKE: StitchStep = { ...START, action: "create", group: CREATE.target, specHash, start: true };
for (const [what, step, born, expected] of [
  ["what it created", MAKE, "7.3", true],
  ["one that was there before what it was to create", MAKE, "6.0", false],
  ["one that was created since under that id", MAKE, "8.0", false],
  ["one that was there before it", START, "6.0", true],
  ["one that it has itself created", START, "7.0", true],
  ["one that was created after it", START, "8.0", false],
  ["the one that a step names", { ...START, born: "3.0" }, "3.0", true],
  ["another than the one that a step names", { ...START, born: "3.0" }, "4.0", false],
  ["the one that a create brings along", { ...MAKE, born: "3.0" }, "3.0", true],
  ["what a create that brings one along would itself have made", { ...MAKE, born: "3.0" }, "7.0", false],
] as const) {
  test(`a job of revision 7 ${expected ? "means" : "does not mean"} ${what}`, () => {
    assert.equal(means(step, 7, born), expected);
  });
}

/** A stitch with the same id as one of a job of revision 7, created after that job. */
const NAMESAKE = { group: "other.db.1", born: "8.0", revision: "8.0" } as const;

for (const [command, over, code] of [
  [checked("stitch.create", { ...CREATE, id: "a" }), { stitches: [], nodes: [node("n1")] }, "not_reversible"],
  [checked("stitch.stop", { target: "a" }), one, "not_reversible"],
  [checked("stitch.start", { target: "a" }), one, "not_reversible"],
] as const) {
  test(`neither rollback nor retry of a ${command.command} touches another stitch that has the id since`, () => {
    const there = aftermath(withStitches(new Map([["n1:a", record("n1:a", NAMESAKE)]])));
    const done = jobOf(command, [DONE], over);
    const back = rollback(done);
    assert.ok(back.kind === "steps");
    assert.throws(() => planSteps(back, done.state.record, there), refusedWith(code, /nothing of what it did is left/));
    const missed = jobOf(command, [FAILED], over);
    const anew = retry(missed);
    assert.ok(anew.kind === "steps");
    assert.throws(() => planSteps(anew, missed.state.record, there), refusedWith("not_found", /nothing to do again/));
  });
}

test("the steps of a follow-up carry the born of their stitch, which the node compares", () => {
  const stopped = jobOf(checked("group.stop", { target: "shop" }), []);
  const back = rollback(stopped);
  assert.ok(back.kind === "steps");
  const mixed = new Map([
    ["n1:a", record("n1:a", { born: "3.0" })],
    ["n1:b", record("n1:b", NAMESAKE)],
    ["n2:c", record("n2:c", { born: "7.0" })],
  ]);
  const { tasks } = planSteps(back, stopped.state.record, aftermath(withStitches(mixed)));
  assert.deepEqual(
    tasks.flatMap((task) => task.steps.map((step) => [step.stitch, "born" in step ? step.born : undefined])),
    [
      ["n1:a", "3.0"],
      ["n2:c", "7.0"],
    ],
  );
});

test("a follow-up that is planned again leaves out another stitch that has the id since", () => {
  const at = (born: string, id = "n1:a") => seen(withStitches(new Map([[id, record(id, { born })]])));
  const nothing = refusedWith("not_found", /nothing to do again/);
  const restarted = carriedOut(checked("group.restart", { target: "shop" }), { "n1:a": "fails" });
  const { revision } = restarted.state.record;
  const restart = again(retry(restarted));
  assert.equal(planAgain(restart, revision, at("1.0")).orchestration?.chains.length, 1);
  assert.throws(() => planAgain(restart, revision, at(`${revision + 1}.0`)), nothing);

  const moved = carriedOut(checked("stitch.move", { target: "a", toNode: "n2" }));
  const back = again(rollback(moved));
  assert.equal(planAgain(back, revision, at("1.0", "n2:a")).orchestration?.chains.length, 1);
  assert.throws(() => planAgain(back, revision, at("2.0", "n2:a")), nothing);
  const again2 = again(
    retry(asFailed(carriedOut(checked("stitch.move", { target: "a", toNode: "n2" }), { "n2:a": "fails" }))),
  );
  assert.equal(planAgain(again2, revision, at("1.0")).orchestration?.chains.length, 1);
  assert.throws(() => planAgain(again2, revision, at("2.0")), nothing);
});

test("a removed stitch is not restored, not even by a retry, if another was removed under its id since", () => {
  const first = jobOf(checked("stitch.remove", { target: "a" }), [DONE], one);
  const next = rollback(first);
  assert.ok(next.kind === "steps");
  const gone = (over: Partial<RemovedRecord>) =>
    aftermath({ ...withStitches(new Map()), removed: new Map([["n1:a", { ...left("n1:a", "7.0"), ...over }]]) });
  const [task] = planSteps(next, first.state.record, gone({})).tasks;
  assert.deepEqual(
    task?.steps.map((step) => "born" in step && step.born),
    ["1.0"],
  );
  const back = jobFollowing(next, first, gone({}), [FAILED]);
  const retried = retry(back);
  assert.ok(retried.kind === "steps");
  assert.equal(planSteps(retried, back.state.record, gone({})).tasks.length, 1);
  assert.throws(
    () => planSteps(retried, back.state.record, gone({ born: "2.0" })),
    refusedWith("not_found", /nothing to do again/),
  );
});

/** The finished job that follows from another, as the command service records it. `outcomes` is as in `jobOf`. */
function jobFollowing(next: FollowUp, { state }: Job, there: Left, outcomes: readonly StepOutcome[]): Job {
  assert.ok(next.kind === "steps");
  const now = aftermath(there);
  const plan = planSteps(next, state.record, now);
  const recorded = recordedAs(next, state.record, plan, now);
  const tasks = [...plan.tasks];
  return finished({ ...state.record, ...recorded, revision: 8, tasks, orchestration: null }, outcomes);
}

const MADE = ["stitch.remove", "remove n1:orders-1"];
for (const [first, expected] of [
  [jobOf(checked("stitch.clone", { target: "a", toNode: "n1" }), [], one), MADE],
  [jobOf(checked("stitch.create", CREATE), [], { stitches: [], nodes: [node("n1")] }), MADE],
  [stoppedOld(), ["group.start", "start n1:a", "start n1:b", "start n2:c"]],
] as const) {
  test(`a rollback of ${first.state.record.command} covers only ${expected.slice(1).join(", ")}, as does its retry`, () => {
    const ids = [...IDS, "n1:orders-1"];
    const there = withStitches(new Map(ids.map((id) => [id, record(id, id === "n1:orders-1" ? { born: "7.0" } : {})])));
    const failed = outcome("failed", false, { code: "node_dead", message: "it is dead" });
    const back = jobFollowing(rollback(first), first, there, [failed, failed, failed]);
    assert.deepEqual(steps(retry(back)), expected);
  });
}

test("a follow-up about one stitch shows it as its target; only a retry has the options of its job", () => {
  const first = jobOf(checked("stitch.clone", { target: "a", toNode: "n1" }), [NOT_UP], one);
  const shown = (next: FollowUp) => {
    const there = aftermath(withStitches(new Map(["n1:orders-1", ...IDS].map((id) => [id, record(id)]))));
    const { record: of } = first.state;
    if (next.kind !== "steps") return assert.fail();
    return recordedAs(next, of, planOf([oneTask("t0", "n1", "node", [...next.steps], null)]), there);
  };
  const { target, options } = first.state.record;
  assert.deepEqual(shown(rollback(first)), {
    command: "stitch.remove",
    target: "n1:orders-1",
    options: {},
    asked: null,
  });
  assert.deepEqual(shown(retry(first)), { command: "stitch.clone", target, options, asked: null });
  const many = rollback(jobOf(checked("group.stop", { target: "shop" }), []));
  assert.deepEqual(shown(many), { command: "group.start", target: CREATE.target, options: {}, asked: null });
});

test("the rollback of a stop of older versions is recorded as a start of those, not of the version that stays", () => {
  const first = stoppedOld();
  const next = rollback(first);
  assert.ok(next.kind === "steps");
  const recordedWith = (...versions: readonly string[]) => {
    const ids = IDS.slice(0, versions.length);
    const there = aftermath(
      withStitches(new Map(ids.map((id, index) => [id, record(id, { group: `shop.orders.${versions[index]}` })]))),
    );
    const { command, target } = recordedAs(next, first.state.record, planSteps(next, first.state.record, there), there);
    return `${command} ${target}`;
  };
  assert.equal(recordedWith("1"), "stitch.start n1:a");
  assert.equal(recordedWith("1", "1", "1"), "group.start shop.orders.1");
  assert.equal(recordedWith("1", "0", "1"), "group.start shop.orders");
});

test("a retry of a stop of older versions waits for the version that stays, as the first job did", () => {
  const next = again(retry(asFailed(stoppedOld())));
  assert.equal(next.only, null);
  const groupOf = (id: string) => (id === "n2:new" ? { group: OLD.target } : {});
  const records = new Map([...IDS, "n2:new"].map((id) => [id, record(id, groupOf(id))] as const));
  assert.equal(planAgain(next, 7, seen(withStitches(records))).orchestration?.replacement?.atLeast, IDS.length);
});

test("a retry of a stitch that is gone is refused", () => {
  const job = jobOf(checked("stitch.stop", { target: "a" }), [FAILED], one);
  const next = retry(job);
  assert.ok(next.kind === "steps");
  assert.throws(
    () => planSteps(next, job.state.record, aftermath(withStitches(new Map()))),
    refusedWith("not_found", /nothing to do again/),
  );
});

test("a retry of a create starts the stitches that exist but did not come up, and places missing ones again", () => {
  const command = checked("stitch.create", { ...CREATE, count: 3, timeoutMs: 9 });
  const job = jobOf(command, [DONE, FAILED, FAILED], { stitches: [], nodes: [node("n1")] });
  const next = retry(job);
  assert.ok(next.kind === "steps");
  const there = withStitches(new Map(["n1:orders-1", "n1:orders-2"].map((id) => [id, record(id, { born: "7.0" })])));
  // n1 takes no new stitches by now.
  const nodes = [node("n1", { eligibility: "cordoned" }), node("n2")];
  const plan = planSteps(next, job.state.record, aftermath({ ...there, nodes }));
  assert.deepEqual(
    plan.tasks.map((task) => [task.node, task.steps.map(({ action, stitch }) => `${action} ${stitch}`)]),
    [
      ["n1", ["start n1:orders-2"]],
      ["n2", ["create n2:orders-3"]],
    ],
  );
  const full = planSteps(
    next,
    job.state.record,
    aftermath({ ...there, nodes: [node("n1", { eligibility: "cordoned" })] }),
  );
  assert.deepEqual([full.feasible, full.tasks, full.refusals.map(({ code }) => code)], [false, [], ["cordoned"]]);
});

/** `placements`: as they were assigned, by full id. */
type Left = Partial<Aftermath> & { readonly placements?: ReadonlyMap<string, PlacementOptions> };

/** All stitches are assigned, also those that were removed. */
function aftermath({ removed = new Map(), placements = new Map(), ...over }: Left = {}): Aftermath {
  const now = seen(over);
  const gone = [...removed].map(([id, { born, group }]) => {
    const { assigned } = placed(id);
    return [id, { ...assigned, born, group, placement: placements.get(id) ?? assigned.placement }] as const;
  });
  const specs = new Map([[specHash, specOf({ specHash })]]);
  return { ...now, removed, specs, assigned: new Map([...gone, ...now.assigned]) };
}
const left = (id: string, revision: string, desired: "running" | "stopped" = "running"): RemovedRecord => {
  const { group, id: bare } = record(id);
  const was = { takesMessages: true, desired };
  return { id: bare, group, revision, born: "1.0", outcome: null, removedAtMs: 0, was, movedTo: null };
};

test("a follow-up names its stitches where they live now, in its steps, in only and in notUp", () => {
  const moved = new Map([["n1:b", "n2:b"]]);
  const stopped = rollback(jobOf(checked("group.stop", { target: "shop" }), []));
  assert.deepEqual(idsOf(stepsIn(stopped)), IDS);
  assert.deepEqual(steps(whereTheyLive(stopped, moved)), ["group.start", "start n1:a", "start n2:b", "start n2:c"]);
  const restarted = retry(carriedOut(checked("group.restart", { target: "shop" }), { "n1:b": "fails" }));
  assert.deepEqual(idsOf(stepsIn(restarted)), ["n1:b", "n2:c"]);
  const next = again(whereTheyLive(restarted, moved));
  assert.deepEqual(idsOf(next.only ?? []), ["n2:b", "n2:c"]);
  const down = (["n1:b", "n1:a"] as const).map((stitch) => ({ action: "start", stitch, timeoutMs: 1 }) as const);
  assert.deepEqual(idsOf(again(whereTheyLive({ ...next, notUp: down }, moved)).notUp), ["n1:a", "n2:b"]);
});

test("a rollback of a remove creates each stitch as and where it was, unless its id is or was in use since", () => {
  const job = jobOf(checked("group.remove", { target: "shop", timeoutMs: 9 }), []);
  const next = rollback(job);
  assert.ok(next.kind === "steps");
  const removed = new Map([
    ["n1:a", left("n1:a", "7.0", "stopped")],
    // A later command has removed another stitch under this id.
    ["n1:b", left("n1:b", "8.0")],
    ["n2:c", left("n2:c", "7.0")],
  ]);
  const gone = { ...withStitches(new Map()), removed };
  const plan = planSteps(next, job.state.record, aftermath(gone));
  const { placement, group } = record("n1:a");
  const how = { timeoutMs: 9, minHealthyMs: 0, restores: true, born: "1.0" };
  const create = { action: "create", group, specHash, placement, ...how };
  assert.deepEqual(
    plan.tasks.flatMap((task) => task.steps),
    [
      { ...create, stitch: "n1:a", start: false },
      { ...create, stitch: "n2:c", start: true },
    ],
  );
  const nothing = () => planSteps(next, job.state.record, aftermath({ removed }));
  assert.throws(nothing, refusedWith("not_reversible", /nothing of what it did is left/));
  const pruned = () => planSteps(next, job.state.record, aftermath(withStitches(new Map())));
  assert.throws(pruned, refusedWith("not_reversible", /nothing of what it did is left/));
});

test("a retry of a rollback of a remove creates each stitch as and where it was, unless it was removed again", () => {
  const first = jobOf(checked("group.remove", { target: "shop" }), []);
  const was = (id: string): RemovedRecord => ({ ...left(id, "7.0"), group: `shop.${id.slice(3)}.1` });
  const removed = new Map(IDS.map((id) => [id, was(id)]));
  const west = { strategy: "spread" as const, zones: ["west"] };
  const gone = { ...withStitches(new Map()), placements: new Map([["n2:c", west]]) };
  const back = jobFollowing(rollback(first), first, { ...gone, removed }, [FAILED, FAILED, FAILED]);
  const [c] = back.state.record.tasks.flatMap((task) => task.steps).filter(({ stitch }) => stitch === "n2:c");
  assert.deepEqual(c?.action === "create" && c.placement, west, "where it may live is as it was assigned");
  const next = retry(back);
  assert.ok(next.kind === "steps");
  // The rollback has revision 8. What is left of n1:b is from a later command; nothing is left of n1:a.
  const since = new Map([...removed].filter(([id]) => id !== "n1:a")).set("n1:b", left("n1:b", "9.0"));
  const { tasks } = planSteps(next, back.state.record, aftermath({ ...gone, removed: since }));
  assert.deepEqual(
    tasks.flatMap((task) => task.steps),
    back.state.record.tasks.flatMap((task) => task.steps).filter(({ stitch }) => stitch === "n2:c"),
  );
});

test("a rollback is refused for each node that is dead or unknown", () => {
  const job = jobOf(checked("group.stop", { target: "shop" }), []);
  const next = rollback(job);
  assert.ok(next.kind === "steps");
  const { tasks } = planSteps(next, job.state.record, aftermath({ nodes: [node("n1", { leaseUntilMs: 0 })] }));
  assert.deepEqual(
    tasks.map((task) => [task.node, task.refused?.code]),
    [
      ["n1", "node_dead"],
      ["n2", "node_dead"],
    ],
  );
});

/** Every command has an answer to rollback and to retry. */
test("rollbackOf knows every command", () => {
  const { state, folded } = jobOf(checked("node.ping", { target: "n1" }), [WAS_SO]);
  for (const name of COMMAND_NAMES)
    assert.throws(
      () => rollbackOf({ ...state, record: { ...state.record, command: name } }, folded),
      (error) => error instanceof RequestError && error.code === "not_reversible" && !/no inverse/.test(error.message),
    );
});
