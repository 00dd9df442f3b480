import { fullId, generatedStitchId, splitFullId } from "../names/ids.ts";
import { parseFullGroup } from "../names/group.ts";
import { leastDurationOf } from "../job/min-healthy.ts";
import type { Chain, Orchestration, Step, Task } from "../job/job.ts";
import type { Observed } from "./observed.ts";
import type { Refusal } from "../placement/refusal.ts";
import type { StepError } from "../stitch/stitch.ts";

/** Where a stitch would go, and why there. `stitch`: a full id. */
export type PlannedPlacement = { readonly stitch: string; readonly node: string; readonly reason: string };

/** What whoever gives the command should know of it. `stitch`: a full id. */
export type PlanWarning = { readonly code: string; readonly message: string; readonly stitch?: string };

/** What a command would become. */
export type Plan = {
  /** What goes to the nodes at once. */
  readonly tasks: readonly Task[];
  /** Of a command of many steps: what happens wave after wave. */
  readonly orchestration: Pick<
    Orchestration,
    "chains" | "allOrStop" | "formerCount" | "forceAtMs" | "replacement"
  > | null;
  /**
   * What it works on, as groups with more parts: `group`, `group.node` (its stitches there), `group.node.stitch`. Of two
   * jobs of many steps that overlap, the second is refused.
   */
  readonly scopes: readonly string[];
  readonly placements: readonly PlannedPlacement[];
  readonly refusals: readonly Refusal[];
  readonly warnings: readonly PlanWarning[];
  readonly feasible: boolean;
};

const NOTHING: Plan = {
  tasks: [],
  orchestration: null,
  scopes: [],
  placements: [],
  refusals: [],
  warnings: [],
  feasible: true,
};

export const planOf = (tasks: readonly Task[], more: Partial<Plan> = {}): Plan => ({ ...NOTHING, tasks, ...more });

/** All or none: nothing of it is done. */
export const infeasible = (refusals: readonly Refusal[]): Plan => ({ ...NOTHING, refusals, feasible: false });

/** A command of many steps. */
export const planInWaves = (
  chains: readonly Chain[],
  scopes: readonly string[],
  {
    allOrStop = false,
    formerCount = null,
    forceAtMs = null,
    replacement = null,
  }: Partial<NonNullable<Plan["orchestration"]>>,
  more: Partial<Plan> = {},
): Plan => ({
  ...NOTHING,
  orchestration: { chains: [...chains], allOrStop, formerCount, forceAtMs, replacement },
  scopes,
  ...more,
});

export const oneTask = (
  id: string,
  node: string,
  runs: Task["runs"],
  steps: Step[],
  refused: StepError | null,
): Task => ({ id, node, runs, attempt: 1, wave: 0, steps, refused });

/** Generated ids for new stitches of a full group, on the nodes that were chosen for them. */
export function newIds(group: string, nodes: readonly string[], observed: Observed): string[] {
  const component = parseFullGroup(group)?.component ?? "stitch";
  return nodes.map((node, index) => fullId(node, generatedStitchId(component, observed.firstNumber + index)));
}

/** A stitch whose data does not go with it. */
export const dataStays = (stitch: string): PlanWarning => ({
  code: "data_stays",
  message: `its data folder is not empty and stays on ${splitFullId(stitch).node}`,
  stitch,
});

/** Milliseconds that a plan takes at least: so long its stitches must have been well, wave after wave. */
export function leastDurationMs({ tasks, orchestration }: Plan): number {
  const most = (steps: readonly Step[]) => steps.reduce((ms, step) => Math.max(ms, leastDurationOf(step)), 0);
  const waves = Map.groupBy(orchestration?.chains ?? [], ({ wave }) => wave);
  return [...waves.values()].reduce(
    (sum, chains) => sum + most(chains.flatMap(({ links }) => links.map(({ step }) => step))),
    most(tasks.flatMap(({ steps }) => steps)),
  );
}

const LONG_DEADLINE_MS = 3_600_000;
/**
 * When a job must have ended that was given no deadline, in milliseconds from its acceptance.
 * @param mayTakeMs by its command's own options, see `CommandDefinition`.
 */
export const longDeadlineMs = (plan: Plan, mayTakeMs: number): number =>
  Math.max(LONG_DEADLINE_MS, mayTakeMs, 2 * leastDurationMs(plan));
