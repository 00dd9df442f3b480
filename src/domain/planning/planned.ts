import { fullId, generatedStitchId, splitFullId } from "../names/ids.ts";
import { parseFullGroup } from "../names/group.ts";
import { leastDurationOf } from "../job/min-healthy.ts";
import type { Chain, Orchestration, Step, Task } from "../job/job.ts";
import type { Observed } from "./observed.ts";
import type { Refusal } from "../placement/refusal.ts";
import type { StepError } from "../stitch/stitch.ts";

/** Where a stitch would go, and why there. `stitch`: a full id. */
export type PlannedPlacement = { readonly stitch: string; readonly node: string; readonly reason: string };

/** A warning for the sender of the command. `stitch`: a full id. */
export type PlanWarning = { readonly code: string; readonly message: string; readonly stitch?: string };

/** What a command would become. */
export type Plan = {
  /** The tasks that are sent to the nodes immediately. */
  readonly tasks: readonly Task[];
  /** For a command of many steps: what happens wave after wave. */
  readonly orchestration: Pick<
    Orchestration,
    "chains" | "allOrStop" | "formerCount" | "forceAtMs" | "replacement"
  > | null;
  /**
   * What the job works on, as groups with more parts: `group`, `group.node` (the group's stitches on the node),
   * `group.node.stitch`. If two jobs of many steps overlap, the second is refused.
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

/** The plan of a command that cannot be carried out. All or none: nothing of the command is done. */
export const infeasible = (refusals: readonly Refusal[]): Plan => ({ ...NOTHING, refusals, feasible: false });

/** The plan of a command of many steps. */
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

/** The warning that the data of a stitch does not move with it. */
export const dataStays = (stitch: string): PlanWarning => ({
  code: "data_stays",
  message: `its data folder is not empty and stays on ${splitFullId(stitch).node}`,
  stitch,
});

/** The least time a plan takes, in milliseconds: how long its stitches must have been well, summed over the waves. */
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
 * When a job without a given deadline must have ended, in milliseconds from its acceptance.
 * @param mayTakeMs how long the command's own options let it take, see `CommandDefinition`.
 */
export const longDeadlineMs = (plan: Plan, mayTakeMs: number): number =>
  Math.max(LONG_DEADLINE_MS, mayTakeMs, 2 * leastDurationMs(plan));
