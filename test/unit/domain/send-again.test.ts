import assert from "node:assert/strict";
import { test } from "node:test";
import { foldJob, type Runner } from "../../../src/domain/job/fold.ts";
import type { Claim, JobState } from "../../../src/domain/job/job.ts";
import type { Liveness } from "../../../src/domain/node/node.ts";
import { OUTCOME_LOST_MS, REDELIVERED_MS, tasksToSendAgain } from "../../../src/domain/job/send-again.ts";
import { outcomeOf, stateOf } from "./job-states.ts";

/** The job's deadline, as in `stateOf`. */
const DEADLINE_MS = 1000;
const OVERDUE_MS = DEADLINE_MS + OUTCOME_LOST_MS;

/** Claims as attempt.incarnation, each made at 5. */
const claimed = (state: JobState, ...claims: readonly `${number}.${number}`[]): JobState => {
  const all = claims.map((each): Claim => {
    const [attempt, incarnation] = each.split(".").map(Number);
    return { task: "t0", attempt: attempt ?? 0, incarnation: incarnation ?? 0, atMs: 5 };
  });
  return { ...state, outcomes: { ...state.outcomes, claims: all } };
};
const node = (incarnation: number, startedAtMs = 0, liveness: Liveness = "alive"): Runner => ({
  liveness,
  incarnation,
  startedAtMs,
});

function sentAgain(state: JobState, runner: Runner | null): string {
  const runners = new Map(runner === null ? [] : [["n1", runner]]);
  const { asTheyAre, asNextAttempt } = tasksToSendAgain(state, foldJob(state, runners), runners);
  assert.ok(asTheyAre.length + asNextAttempt.length <= 1);
  const [same] = asTheyAre;
  const [next] = asNextAttempt;
  if (same !== undefined) return `attempt ${same.attempt}`;
  return next === undefined ? "nothing" : `attempt ${next.attempt + 1}`;
}

const at = (nowMs: number, attempt?: number | null) =>
  stateOf({ nowMs, ...(attempt === undefined ? {} : { attempt }) });
const BACK_MS = 100;
const REDELIVERED = BACK_MS + REDELIVERED_MS;

for (const [said, state, runner, expected] of [
  ["nobody has taken it up", at(500), node(1), "attempt 1"],
  ["nobody has taken it up, the node is not known", at(500), null, "attempt 1"],
  ["nobody has taken it up, the node is dead", at(500), node(1, 0, "dead"), "nothing"],
  ["nobody has taken it up by the deadline", at(DEADLINE_MS), node(1), "nothing"],
  ["the node is at it", claimed(at(500), "1.1"), node(1), "nothing"],
  ["a former life had it, the queue may deliver it", claimed(at(REDELIVERED - 1), "1.1"), node(2, BACK_MS), "nothing"],
  [
    "a former life had it, and was not delivered it again",
    claimed(at(REDELIVERED), "1.1"),
    node(2, BACK_MS),
    "attempt 2",
  ],
  ["a former life had it, this one too", claimed(at(REDELIVERED), "1.1", "1.2"), node(2, BACK_MS), "nothing"],
  [
    "a former life had it, the node is suspect",
    claimed(at(REDELIVERED), "1.1"),
    node(2, BACK_MS, "suspect"),
    "nothing",
  ],
  ["a former life had it, the node has left", claimed(at(500), "1.1"), node(2, 0, "left"), "nothing"],
  ["a former life had it, the node is dead", claimed(at(REDELIVERED), "1.1"), node(2, 0, "dead"), "nothing"],
  ["a former life had it, the node is not known", claimed(at(REDELIVERED), "1.1"), null, "nothing"],
  ["the next attempt is on its way", claimed(at(REDELIVERED, 2), "1.1"), node(2, BACK_MS), "attempt 2"],
  ["the next attempt is on its way, overdue", claimed(at(OVERDUE_MS, 2), "1.1"), node(2, BACK_MS), "attempt 2"],
  ["the next attempt is taken up", claimed(at(REDELIVERED, 2), "1.1", "2.2"), node(2, BACK_MS), "nothing"],
  [
    "the next attempt was a former life's too",
    claimed(at(REDELIVERED, 2), "1.1", "2.2"),
    node(3, BACK_MS),
    "attempt 3",
  ],
  ["not answered by the deadline", claimed(at(DEADLINE_MS), "1.1"), node(1), "nothing"],
  ["not answered long after the deadline", claimed(at(OVERDUE_MS - 1), "1.1"), node(1), "nothing"],
  ["not answered for too long", claimed(at(OVERDUE_MS), "1.1"), node(1), "attempt 2"],
  ["asked again, twice the time", claimed(at(OVERDUE_MS + OUTCOME_LOST_MS - 1, 2), "1.1", "2.1"), node(1), "nothing"],
  ["asked again for too long", claimed(at(OVERDUE_MS + OUTCOME_LOST_MS, 2), "1.1", "2.1"), node(1), "attempt 3"],
  ["of many lives, this one not asked before", claimed(at(OVERDUE_MS, 3), "1.1", "2.2", "3.3"), node(3), "attempt 4"],
  ["Redis is older than the node's claims", claimed(at(REDELIVERED), "1.5"), node(2, BACK_MS), "nothing"],
  ["given up", claimed(at(OVERDUE_MS, null), "1.1"), node(2), "nothing"],
] as const)
  test(`${said}: ${expected} is sent`, () => {
    assert.equal(sentAgain(state, runner), expected);
  });

test("a task that a node has not applied because of another leader is sent as the next attempt, at once", () => {
  const stale = (state: JobState, attempt: number): JobState => ({
    ...state,
    outcomes: { ...state.outcomes, stale: new Set([`t0.${attempt}`]) },
  });
  assert.equal(sentAgain(stale(at(10), 1), node(1)), "attempt 2");
  assert.equal(
    sentAgain(stale(claimed(at(10, 2), "1.1"), 2), node(1)),
    "attempt 3",
    "another attempt may still be at work",
  );
  assert.equal(sentAgain(stale(at(10, 2), 1), node(1)), "attempt 2", "the next one is sent as it is");
});

test("for a task that is taken up after the deadline, the time counts from its claim", () => {
  const claims = [{ task: "t0", attempt: 1, incarnation: 1, atMs: 5000 }];
  const state = (nowMs: number) => ({ ...at(nowMs), outcomes: { claims, steps: new Map(), stale: new Set<string>() } });
  assert.equal(sentAgain(state(OVERDUE_MS), node(1)), "nothing");
  assert.equal(sentAgain(state(5000 + OUTCOME_LOST_MS), node(1)), "attempt 2");
});

test("does not resend a task that is answered, refused, cancelled before a claim, or run by a Master", () => {
  for (const state of [
    claimed(stateOf({ outcome: outcomeOf("failed"), nowMs: OVERDUE_MS }), "1.1"),
    stateOf({ refused: "node_dead" }),
    stateOf({ cancelledAtMs: 1 }),
    stateOf({ runs: "master" }),
    claimed(stateOf({ runs: "master", nowMs: OVERDUE_MS }), "1.1"),
  ])
    assert.equal(sentAgain(state, node(2)), "nothing");
});

test("an answer to an earlier attempt does not prevent a resend", () => {
  const answered = stateOf({ outcome: outcomeOf("succeeded"), attempt: 2, nowMs: OVERDUE_MS });
  assert.equal(sentAgain(claimed(answered, "1.1"), node(1)), "attempt 2");
  assert.equal(sentAgain(claimed(answered, "1.1", "2.1"), node(2)), "attempt 3");
});
