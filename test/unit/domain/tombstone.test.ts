import assert from "node:assert/strict";
import { test } from "node:test";
import {
  buries,
  mayConfirmArrival,
  needsNewerTombstone,
  removalOf,
  type Tombstone,
  type Traces,
} from "../../../src/domain/job/tombstone.ts";
import { record } from "./observed.ts";

const NOTHING: Traces = { record: null, removed: null, tombstone: null };
const here = record("n1:a", { born: "1.0", revision: "5.0" });
const word = (over: Partial<Tombstone> = {}): Tombstone => ({
  revision: "9.0",
  movedTo: null,
  arrivingFrom: null,
  born: "1.0",
  ...over,
});
const gone = (movedTo: string | null, born = "1.0"): Traces["removed"] => ({ movedTo, born });
const NAMESAKE = record("n1:a", { born: "7.0", revision: "7.0" });

for (const [what, said, expected] of [
  ["that is newer than all it has taken", word(), true],
  ["that is older than what it has taken", word({ revision: "4.9" }), false],
  ["of another that had its id", word({ born: "0.1" }), false],
  ["that speaks of any", word({ born: null }), true],
  ["of one that arrives", word({ arrivingFrom: "n2:a" }), false],
] as const) {
  test(`a stitch ${expected ? "is" : "is not"} buried by a tombstone ${what}`, () => {
    assert.equal(buries(said, here), expected);
  });
}

for (const [what, traces, expected] of [
  ["the one it comes from is still there", { record: here }, "not yet"],
  ["that one is there, and a Master has moved it here", { record: here, tombstone: word({ movedTo: "n2:a" }) }, "yes"],
  [
    "that one is there, and a Master has moved it elsewhere",
    { record: here, tombstone: word({ movedTo: "n3:a" }) },
    "not yet",
  ],
  [
    "that one has taken newer commands than the word about it",
    { record: here, tombstone: word({ movedTo: "n2:a", revision: "4.0" }) },
    "not yet",
  ],
  ["that one has moved here", { removed: gone("n2:a") }, "yes"],
  ["that one was removed", { removed: gone(null) }, "unclear"],
  [
    "that one was removed, whatever a Master had said before",
    { removed: gone(null), tombstone: word({ movedTo: "n2:a" }) },
    "unclear",
  ],
  ["that one has moved elsewhere", { removed: gone("n3:a") }, "unclear"],
  [
    "that one had only arrived, and went back",
    { removed: { movedTo: "n2:a", born: "1.0", takenBack: true } },
    "unclear",
  ],
  ["its remains have expired, and a Master has moved it here", { tombstone: word({ movedTo: "n2:a" }) }, "yes"],
  ["its remains have expired, and a Master has removed it", { tombstone: word() }, "unclear"],
  ["its remains have expired, and nothing is left", {}, "unclear"],
  ["another has its id by now, and it has moved here", { record: NAMESAKE, removed: gone("n2:a") }, "yes"],
  ["another has its id by now, and it was removed", { record: NAMESAKE, removed: gone(null) }, "unclear"],
  ["another has moved here from there", { removed: gone("n2:a", "7.0") }, "unclear"],
] as const satisfies readonly (readonly [string, Partial<Traces>, ReturnType<typeof mayConfirmArrival>])[]) {
  test(`may an arrival be confirmed if ${what}: ${expected}`, () => {
    assert.equal(mayConfirmArrival({ id: "n2:a", born: "1.0" }, { ...NOTHING, ...traces }), expected);
  });
}

const REMOVE = { action: "remove", stitch: "n1:a", timeoutMs: 1, born: "1.0" } as const;
const SWITCH = { ...REMOVE, movedTo: "n2:a" } as const;
const UNDO = { ...REMOVE, arrivingFrom: "n2:a" } as const;
for (const [what, step, traces, expected] of [
  ["it is there", SWITCH, { record: here }, "write tombstone"],
  [
    "it is there, and word was left before",
    SWITCH,
    { record: here, tombstone: word({ movedTo: "n2:a" }) },
    "write tombstone",
  ],
  ["its node has moved it itself", SWITCH, { removed: gone("n2:a") }, "done"],
  ["its node has obeyed, and another has its id since", SWITCH, { record: NAMESAKE, removed: gone("n2:a") }, "done"],
  ["it was removed for good", SWITCH, { removed: gone(null) }, "superseded"],
  ["it was removed for good, and another has its id", SWITCH, { record: NAMESAKE, removed: gone(null) }, "superseded"],
  ["another has its id, and nothing tells of it", SWITCH, { record: NAMESAKE }, "superseded"],
  ["its node was forgotten", SWITCH, {}, "write tombstone"],
  ["its node was forgotten after word was left", SWITCH, { tombstone: word({ movedTo: "n2:a" }) }, "done"],
  ["it was removed", REMOVE, { removed: gone(null) }, "done"],
  ["it has moved away", REMOVE, { removed: gone("n3:a") }, "superseded"],
  ["it has arrived", UNDO, { record: { ...here, movedFrom: "n2:a" } }, "write tombstone"],
  ["its node has not told of it", UNDO, {}, "write tombstone"],
  ["another has its id", UNDO, { record: NAMESAKE }, "superseded"],
] as const satisfies readonly (readonly [string, typeof REMOVE, Partial<Traces>, ReturnType<typeof removalOf>])[]) {
  const kind = step === SWITCH ? "a move away" : step === UNDO ? "a move taken back" : "a removal";
  test(`${kind} on a node that is away, if ${what}: ${expected}`, () => {
    assert.equal(removalOf(step, { ...NOTHING, ...traces }), expected);
  });
}

for (const [what, step, traces, expected] of [
  ["a move away, whatever its node has told", SWITCH, { record: here }, true],
  ["a removal of which nothing is known", REMOVE, {}, true],
  ["what arrives", UNDO, { record: here }, false],
  ["what arrives and is not known of", UNDO, {}, false],
  ["what arrives and has taken a newer command", UNDO, { record: { ...here, revision: "8.0" } }, true],
] as const satisfies readonly (readonly [string, typeof REMOVE, Partial<Traces>, boolean])[]) {
  test(`the tombstone of ${what} ${expected ? "is newer than" : "has the revision of"} its job`, () => {
    assert.equal(needsNewerTombstone(step, { revision: 7, wave: 2 }, { ...NOTHING, ...traces }), expected);
  });
}
