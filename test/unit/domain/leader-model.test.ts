import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { type Bounds, Broken, checkProgress, FIRST, type Flaw, nameOf, type State, steps } from "./leader-model.ts";

type Found = { readonly states: number; readonly broken: string | null; readonly trace: readonly string[] };
type Reached = { readonly state: State; readonly from: Reached | null; readonly action: string };

/** Visits every state that can be reached, breadth first, until a property is broken: then the trace is a shortest one. */
function search(bounds: Bounds, flaw: Flaw): Found {
  // Names are long, and there are many.
  const seen = new Set<string>();
  const isNew = (state: State): boolean => {
    const before = seen.size;
    seen.add(createHash("sha1").update(nameOf(state)).digest("base64url"));
    return seen.size > before;
  };
  let layer: readonly Reached[] = isNew(FIRST) ? [{ state: FIRST, from: null, action: "" }] : [];
  while (layer.length > 0) {
    const next: Reached[] = [];
    for (const reached of layer) {
      try {
        checkProgress(reached.state, bounds, flaw);
        for (const { action, next: state } of steps(reached.state, bounds, flaw))
          if (isNew(state)) next.push({ state, from: reached, action });
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        return { states: seen.size, broken: error.message, trace: traceTo(reached) };
      }
    }
    layer = next;
  }
  return { states: seen.size, broken: null, trace: [] };
}

function traceTo(reached: Reached): string[] {
  const trace: string[] = [];
  for (let at = reached; at.from !== null; at = at.from) trace.unshift(at.action);
  return trace;
}

/** Where elections, saves and failovers meet: about 900,000 states. */
const ELECTIONS: Bounds = { elections: 2, saves: 1, attempts: 3 };
/** Where a save is lost, and another one takes its place. */
const SAVES: Bounds = { elections: 1, saves: 2, attempts: 2 };

for (const [bounds, least] of [
  [ELECTIONS, 500_000],
  [SAVES, 10_000],
] as const)
  test(`P10: no order of pauses, clocks, failovers, elections, claims and saves breaks it (${JSON.stringify(bounds)})`, () => {
    const { states, broken, trace } = search(bounds, "none");
    assert.equal(broken, null, trace.join(", "));
    assert.ok(states > least, `only ${states} states`);
  });

for (const [flaw, bounds, message] of [
  ["electionBeforeClaim", ELECTIONS, /^applied under e\d, although/],
  ["payloadNotCompared", SAVES, /was applied with another content$/],
  ["attemptNotRaised", ELECTIONS, /can never be applied$/],
  ["replicationIdNotCompared", ELECTIONS, /^applied under e\d, although|^a job was saved under an older election/],
] as const)
  test(`the search finds the flaw: ${flaw}`, () => {
    const { broken, trace } = search(bounds, flaw);
    assert.match(broken ?? "", message, trace.join(", "));
  });
