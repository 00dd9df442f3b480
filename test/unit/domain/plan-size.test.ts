import assert from "node:assert/strict";
import { test } from "node:test";
import { stepChain } from "../../../src/domain/job/chains.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import type { StitchStep } from "../../../src/domain/job/job.ts";
import type { PlacementOptions } from "../../../src/domain/stitch/placement-options.ts";
import { checkPlanSize } from "../../../src/domain/planning/plan-size.ts";
import { oneTask, planInWaves, planOf } from "../../../src/domain/planning/planned.ts";

const LONGEST = "i".repeat(63);

/** Creates with a placement of `kib` KiB. A create names its spec by its hash, so the length of the spec does not count. */
const creates = (count: number, kib: number, node = "n1"): StitchStep[] => {
  const names = Array.from({ length: kib * 4 }, (_, index) => `${index}`.padEnd(248, "l"));
  const placement: PlacementOptions = {
    strategy: "spread",
    labels: Object.fromEntries(names.map((name) => [name, "v"])),
  };
  return Array.from({ length: count }, (_, index) => ({
    action: "create",
    stitch: `${node}:${LONGEST.slice(0, 58)}${index}`,
    group: `${LONGEST}.${LONGEST}.${LONGEST}`,
    specHash: "a".repeat(64),
    start: true,
    timeoutMs: 3_600_000,
    minHealthyMs: 3_600_000,
    placement,
  }));
};
const refused = (error: unknown) =>
  error instanceof RequestError && error.code === "too_large" && /Nothing was changed/.test(error.message);

test("refuses a plan with a task that is larger, as JSON, than a node accepts", () => {
  const limit = 16 * 1024 * 1024;
  for (const count of [1, 100, 200, 250, 270, 300, 1000]) {
    const steps = creates(count, 60);
    const characters = JSON.stringify(steps).length;
    const plan = planOf([oneTask("t0", "n1", "node", steps, null)]);
    if (characters > limit) assert.throws(() => checkPlanSize(plan), refused);
    if (characters < 0.95 * limit) checkPlanSize(plan);
  }
});

test("over nodes or waves, each task has its own limit, and the record limits all of them", () => {
  const spread = (count: number, kib: number) =>
    planOf(Array.from({ length: 10 }, (_, n) => oneTask(`t${n}`, `n${n}`, "node", creates(count, kib, `n${n}`), null)));
  checkPlanSize(spread(80, 60));
  assert.throws(() => checkPlanSize(spread(150, 60)), refused);
  const inWaves = (ofWave: (index: number) => number) =>
    planInWaves(
      creates(600, 60).map((step, index) => stepChain(step, ofWave(index), false)),
      [],
      {},
    );
  checkPlanSize(inWaves((index) => Math.floor(index / 10)));
  assert.throws(() => checkPlanSize(inWaves(() => 0)), refused);
});

test("accepts any number of steps without a placement", () => {
  const steps = Array.from(
    { length: 20_000 },
    (_, index): StitchStep => ({ action: "stop", stitch: `n1:${index}`, timeoutMs: 1 }),
  );
  checkPlanSize(planOf([oneTask("t0", "n1", "node", steps, null)]));
  checkPlanSize(planOf([oneTask("t0", "n1", "node", creates(20_000, 0), null)]));
});
