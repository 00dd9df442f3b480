import assert from "node:assert/strict";
import { test } from "node:test";
import { type Bounds, Broken, checkProgress, FIRST, type Flaw, type State, steps } from "./leader-model.ts";

type Found = { readonly states: number; readonly broken: string | null; readonly trace: readonly string[] };

/** Visits every state that can be reached, breadth first, until a property is broken: then the trace is a shortest one. */
function search(bounds: Bounds, flaw: Flaw): Found {
  const keyOf = (state: State) => JSON.stringify(state);
  const seen = new Map<string, { readonly from: string | null; readonly action: string }>();
  const first = keyOf(FIRST);
  seen.set(first, { from: null, action: "" });
  let layer: readonly (readonly [key: string, state: State])[] = [[first, FIRST]];
  const traceTo = (key: string): string[] => {
    const trace: string[] = [];
    for (let at: string | null = key; at !== null; ) {
      const reached: { readonly from: string | null; readonly action: string } | undefined = seen.get(at);
      if (reached === undefined || reached.from === null) break;
      trace.unshift(reached.action);
      at = reached.from;
    }
    return trace;
  };
  while (layer.length > 0) {
    const next: (readonly [string, State])[] = [];
    for (const [key, state] of layer) {
      try {
        checkProgress(state, bounds, flaw);
        for (const { action, next: reached } of steps(state, bounds, flaw)) {
          const reachedKey = keyOf(reached);
          if (seen.has(reachedKey)) continue;
          seen.set(reachedKey, { from: key, action });
          next.push([reachedKey, reached]);
        }
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        return { states: seen.size, broken: error.message, trace: traceTo(key) };
      }
    }
    layer = next;
  }
  return { states: seen.size, broken: null, trace: [] };
}

const BOUNDS: Bounds = { ticks: 3, elections: 3, saves: 1, attempts: 3 };

test("P10: in every order of pauses, clocks, failovers, elections, claims and saves, no task is applied under another election", () => {
  const { states, broken, trace } = search(BOUNDS, "none");
  assert.equal(broken, null, trace.join(", "));
  assert.ok(states > 10_000, `${states} states`);
});

for (const [flaw, message] of [
  ["electionBeforeClaim", /^applied under e\d, although/],
  ["payloadNotCompared", /was applied with two contents$/],
  ["attemptNotRaised", /can never be applied$/],
  ["replicationIdNotCompared", /./],
] as const)
  test(`the search finds the flaw: ${flaw}`, () => {
    const { broken, trace } = search(BOUNDS, flaw);
    assert.match(broken ?? "", message);
    assert.ok(trace.length > 0);
  });
