import assert from "node:assert/strict";
import { test } from "node:test";
import { planCommand } from "../../../src/domain/commands/plan.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { checked, CREATE, node, observed, record, withStitches } from "./observed.ts";

const NODES = [node("n1"), node("n2"), node("n3", { leaseUntilMs: 0 })];
const wavesOf = (batch: number | string, all: Readonly<Record<string, Partial<StitchRecord>>>) => {
  const records = new Map(Object.entries(all).map(([id, over]) => [id, record(id, over)]));
  const command = checked("group.restart", { target: CREATE.target, batch });
  const { orchestration, scopes } = planCommand(command, observed({ nodes: NODES, ...withStitches(records) }));
  assert.deepEqual([orchestration?.allOrStop, scopes], [true, [CREATE.target]]);
  const waves = Map.groupBy(orchestration?.chains ?? [], ({ wave }) => wave);
  return [...waves.values()].map((chains) => chains.map(({ stitch }) => stitch).join(" "));
};
const FIVE = { "n1:a": {}, "n1:b": {}, "n2:c": {}, "n2:d": {}, "n2:e": {} };

for (const [batch, expected] of [
  [1, ["n1:a", "n1:b", "n2:c", "n2:d", "n2:e"]],
  [2, ["n1:a n1:b", "n2:c n2:d", "n2:e"]],
  [100_000, ["n1:a n1:b n2:c n2:d n2:e"]],
  ["1%", ["n1:a", "n1:b", "n2:c", "n2:d", "n2:e"]],
  ["50%", ["n1:a n1:b", "n2:c n2:d", "n2:e"]],
  ["99%", ["n1:a n1:b n2:c n2:d", "n2:e"]],
  ["100%", ["n1:a n1:b n2:c n2:d n2:e"]],
] as const) {
  test(`five stitches in batches of ${batch}: ${expected.join(" | ")}`, () => {
    assert.deepEqual(wavesOf(batch, FIVE), expected);
  });
}

test("unhealthy stitches go first, also those that a dead node last reported as green", () => {
  const all = { ...FIVE, "n2:e": { health: "red" }, "n3:f": {} } as const;
  assert.deepEqual(wavesOf(2, all), ["n2:e n3:f", "n1:a n1:b", "n2:c n2:d"]);
});

test("a restart does not start what is stopped or has run to its end", () => {
  const all = { "n1:a": { desired: "stopped" }, "n1:b": { finished: true }, "n1:c": {} } as const;
  assert.deepEqual(wavesOf("50%", all), ["n1:c"]);
  assert.deepEqual(wavesOf(1, { "n1:a": { desired: "stopped" } }), []);
  assert.throws(() => wavesOf(1, {}), { code: "not_found" });
});
