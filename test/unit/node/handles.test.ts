import assert from "node:assert/strict";
import { test } from "node:test";
import { Handles } from "../../../workers/node/processes/handles.ts";

/** A worker with so many files open and logs to come; `counts`: how often it was counted. */
function handlesOf(limit: number | null, open: number, logsToOpen = 0) {
  const facts = { limit, open, logsToOpen, counts: 0 };
  const handles = new Handles({
    limit: () => facts.limit,
    logsToOpen: () => facts.logsToOpen,
    count: () => {
      facts.counts += 1;
      return facts.open;
    },
  });
  /** Starts until one is refused. */
  const fill = (): number => {
    let started = 0;
    while (started < 10_000 && handles.refusal() === null) {
      started += 1;
      facts.open += 2;
      facts.logsToOpen += 1;
    }
    return started;
  };
  return { handles, facts, fill };
}

test("starts are refused before the files run out, and the worker's own are left", () => {
  const { handles, facts, fill } = handlesOf(120, 30);
  assert.equal(fill(), 19);
  assert.ok(facts.open + facts.logsToOpen <= 120 - 32);
  assert.match(handles.refusal() ?? "", /^this node has 87 of its 120 files .* keeps 32 for itself; raise ulimit -n/);
});

test("a refused start may come when others have ended, or when the limit was raised meanwhile", () => {
  const { handles, facts, fill } = handlesOf(120, 30);
  fill();
  facts.open -= 2;
  facts.logsToOpen -= 1;
  assert.equal(handles.refusal(), null);
  facts.open += 2;
  facts.logsToOpen += 1;
  assert.notEqual(handles.refusal(), null);
  facts.limit = 200;
  assert.equal(handles.refusal(), null);
});

test("a start on a node with room enough does not count what is open", () => {
  const { facts, fill } = handlesOf(10_000, 30);
  assert.ok(fill() > 3000);
  assert.ok(facts.counts < 20, `counted ${facts.counts} times`);
});

test("where there is no limit nothing is refused, and where none can be counted everything is", () => {
  assert.equal(handlesOf(null, 1_000_000).handles.refusal(), null);
  assert.match(handlesOf(64, Number.POSITIVE_INFINITY).handles.refusal() ?? "", /this node has 64 of its 64 files/);
  assert.match(handlesOf(40, 30).handles.refusal() ?? "", /this node has 30 of its 40/);
});
