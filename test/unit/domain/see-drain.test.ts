import assert from "node:assert/strict";
import { test } from "node:test";
import type { Eligibility, NodeRecord } from "../../../src/domain/node/node.ts";
import { seeDrain } from "../../../src/domain/planning/drain.ts";
import type { StitchState } from "../../../src/domain/stitch/stitch.ts";
import { node, observed } from "./observed.ts";

const DRAIN = { target: "n1", revision: 7 };
const see = (over: Partial<NodeRecord>) =>
  seeDrain(DRAIN, [], { timeoutMs: 1000 }, observed({ nodes: [node("n1", { eligibility: "draining", ...over })] }));
const saying = (eligibility: Eligibility, states: Partial<Record<StitchState, number>> = {}) => ({
  status: { ...node("n1").status, eligibility, states },
});

test("a node is empty when it says so itself: it takes nothing new, and has nothing at work", () => {
  assert.equal(see(saying("draining", { stopped: 2, failed: 1 })).confirmed, true);
  assert.equal(see(saying("cordoned")).confirmed, true);
  assert.equal(see(saying("eligible")).confirmed, false, "it has not heard of the drain: what was planned may arrive");
  for (const state of ["starting", "running", "stopping", "backoff"] as const)
    assert.equal(see(saying("draining", { [state]: 1 })).confirmed, false, state);
});

test("a dead or left node counts as empty without saying so; a suspect node must say so", () => {
  assert.equal(see({ ...saying("eligible", { running: 1 }), leaseUntilMs: 0 }).confirmed, true, "dead");
  assert.equal(see({ ...saying("eligible"), leftAtMs: 5 }).confirmed, true, "left");
  assert.equal(see({ ...saying("eligible"), leaseUntilMs: 950 }).confirmed, false, "suspect");
});

test("an uncordon after the drain ends it, even if somebody has cordoned the node again since", () => {
  assert.equal(see({ uncordonedBy: 8 }).uncordoned, true);
  assert.equal(see({ eligibility: "cordoned", uncordonedBy: 8 }).uncordoned, true);
  assert.equal(see({ eligibility: "cordoned", uncordonedBy: 6 }).uncordoned, false);
  assert.equal(see({ eligibility: "eligible", uncordonedBy: 8 }).uncordoned, true);
});
