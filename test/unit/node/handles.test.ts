import assert from "node:assert/strict";
import { test } from "node:test";
import { Handles } from "../../../workers/node/processes/handles.ts";

/** A worker with this many open files and this many logs to open. `counts`: how often the open files were counted. */
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

test("refuses starts before the files run out, and leaves the worker its own files", () => {
  const { handles, facts, fill } = handlesOf(120, 30);
  assert.equal(fill(), 19);
  assert.ok(facts.open + facts.logsToOpen <= 120 - 32);
  assert.match(handles.refusal() ?? "", /^this node has 87 of its 120 files .* keeps 32 for itself; raise ulimit -n/);
});

test("accepts starts again after others have ended, or after the limit was raised", () => {
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

test("does not count open files for a start on a node with enough room", () => {
  const { facts, fill } = handlesOf(10_000, 30);
  assert.ok(fill() > 3000);
  assert.ok(facts.counts < 20, `counted ${facts.counts} times`);
});

test("without a limit refuses nothing; if open files cannot be counted, refuses everything", () => {
  assert.equal(handlesOf(null, 1_000_000).handles.refusal(), null);
  assert.match(handlesOf(64, Number.POSITIVE_INFINITY).handles.refusal() ?? "", /this node has 64 of its 64 files/);
  assert.match(handlesOf(40, 30).handles.refusal() ?? "", /this node has 30 of its 40/);
});
