import { canonicalJson } from "./canonical-json.ts";
import type { CloneCommand, Command, CreateCommand, GroupCommand, StitchCommand } from "./command.ts";
import { RequestError } from "./errors.ts";
import { parseFullGroup } from "./group.ts";
import { fullId, generatedStitchId, parseStitchRef } from "./ids.ts";
import type { Step, Task } from "./job.ts";
import { livenessOf, type NodeRecord } from "./node.ts";
import { candidateOf, place } from "./placement.ts";
import type { Liveness, PlanResource, RefusalResource } from "./resources.ts";
import type { StitchSpec } from "./spec.ts";
import type { StepError, StitchRecord } from "./stitch.ts";

/** What a plan is made from: read once, so that the plan is a pure function of it. */
export type Observed = {
  readonly nowMs: number;
  readonly deadAfterMs: number;
  /** The nodes the command names; for a placement, every node. */
  readonly nodes: readonly NodeRecord[];
  /** Full ids the command may mean: of a bare id, one for each node that has it; of a group, its members. */
  readonly stitches: readonly string[];
  /** For a create or a clone: how many stitches of the group each node has. */
  readonly ofGroup: ReadonlyMap<string, number>;
  /** For a clone: what it copies; null where the target does not exist, or is ambiguous. */
  readonly source: Pick<StitchRecord, "group" | "spec"> | null;
  /** For a clone, or a create without `id`: the first number of the component's counter that is this command's. */
  readonly firstNumber: number;
};

/** What a command would become. */
export type Plan = {
  readonly tasks: readonly Task[];
  readonly placements: PlanResource["placements"];
  readonly refusals: readonly RefusalResource[];
  readonly warnings: PlanResource["warnings"];
  readonly feasible: boolean;
};

const feasible = (tasks: Task[], more: Partial<Plan> = {}): Plan => ({
  tasks,
  placements: [],
  refusals: [],
  warnings: [],
  feasible: true,
  ...more,
});

/**
 * Breaks a command into tasks for individual nodes.
 * @throws RequestError `not_found`, `ambiguous_stitch`, `stitch_exists`. What cannot be placed is no error here: the plan
 *   says `feasible: false` and why.
 */
export function planCommand(command: Command, observed: Observed): Plan {
  switch (command.command) {
    case "node.ping":
      return planForNode(command.target, { action: "ping", stitch: null }, "node", command.waitForNode, observed);
    case "node.cordon":
    case "node.uncordon": {
      const action = command.command === "node.cordon" ? "cordon" : "uncordon";
      return planForNode(command.target, { action, stitch: null }, "master", true, observed);
    }
    case "stitch.create":
      return planCreate(command, observed);
    case "stitch.clone":
      return planClone(command, observed);
    case "group.start":
    case "group.stop":
    case "group.remove":
      return planForGroup(command, observed);
    default:
      return planForStitch(command, observed);
  }
}

function nodeNamed(id: string, observed: Observed): NodeRecord {
  const node = observed.nodes.find((each) => each.id === id);
  if (node === undefined) throw new RequestError("not_found", `There is no node "${id}"; GET /v1/nodes lists them.`);
  return node;
}

const livenessIn = (observed: Observed, node: NodeRecord): Liveness =>
  livenessOf(node, observed.nowMs, observed.deadAfterMs);

/** Why a task for this node cannot be dispatched now; null where it can. */
function refusalFor(node: NodeRecord, waitForNode: boolean, observed: Observed): StepError | null {
  if (waitForNode) return null;
  const liveness = livenessIn(observed, node);
  const hint = 'start its worker again, or send the command with "waitForNode": true';
  if (liveness === "dead") return { code: "node_dead", message: `${node.id} is dead; ${hint}` };
  if (liveness === "left") return { code: "node_left", message: `${node.id} has left; ${hint}` };
  return null;
}

const oneTask = (id: string, node: string, runs: Task["runs"], steps: Step[], refused: StepError | null): Task => ({
  id,
  node,
  runs,
  attempt: 1,
  wave: 0,
  steps,
  refused,
});

function planForNode(id: string, step: Step, runs: Task["runs"], waitForNode: boolean, observed: Observed): Plan {
  const node = nodeNamed(id, observed);
  return feasible([oneTask("t0", node.id, runs, [step], refusalFor(node, waitForNode, observed))]);
}

/** The one stitch that a command means. @throws RequestError `not_found`, `ambiguous_stitch`. */
function stitchNamed(target: string, observed: Observed): string {
  const [only, ...others] = observed.stitches;
  if (only === undefined)
    throw new RequestError("not_found", `There is no stitch "${target}"; GET /v1/stitches lists them.`);
  if (others.length > 0)
    throw new RequestError(
      "ambiguous_stitch",
      `Several nodes have a stitch "${target}"; name one of them by its full id.`,
      { candidates: [only, ...others].sort() },
    );
  return only;
}

function planForStitch(command: StitchCommand, observed: Observed): Plan {
  const only = stitchNamed(command.target, observed);
  const action = command.command.slice("stitch.".length) as "start" | "stop" | "restart" | "remove";
  const node = nodeNamed(parseStitchRef(only)?.node ?? "", observed);
  const step: Step = { action, stitch: only, timeoutMs: command.timeoutMs };
  return feasible([oneTask("t0", node.id, "node", [step], refusalFor(node, command.waitForNode, observed))]);
}

/** One task for each node that has members, whatever their number. */
function planForGroup(command: GroupCommand, observed: Observed): Plan {
  const { target, timeoutMs, waitForNode } = command;
  if (observed.stitches.length === 0)
    throw new RequestError(
      "not_found",
      `There is no stitch in the group "${target}"; GET /v1/groups lists the groups.`,
    );
  const action = command.command.slice("group.".length) as "start" | "stop" | "remove";
  const byNode = Map.groupBy(observed.stitches, (id) => parseStitchRef(id)?.node ?? "");
  const nodes = new Map(observed.nodes.map((node) => [node.id, node]));
  const tasks = [...byNode].map(([id, stitches], index) => {
    const node = nodes.get(id);
    const refused: StepError | null =
      node === undefined
        ? { code: "node_dead", message: `the node ${id} has been forgotten` }
        : refusalFor(node, waitForNode, observed);
    const steps = stitches.map((stitch): Step => ({ action, stitch, timeoutMs }));
    return oneTask(`t${index}`, id, "node", steps, refused);
  });
  return feasible(tasks);
}

function planCreate(command: CreateCommand, observed: Observed): Plan {
  const [taken] = observed.stitches;
  if (taken !== undefined)
    throw new RequestError("stitch_exists", `There is a stitch "${taken}"; remove it first, or choose another id.`, {
      candidates: observed.stitches,
    });
  const spec: StitchSpec = { ...command.spec, reschedule: command.spec.reschedule ?? command.node === undefined };
  return planNew({ ...command, spec, group: command.target }, observed);
}

/** One more of its group, with the spec it has and data of its own. */
function planClone(command: CloneCommand, observed: Observed): Plan {
  stitchNamed(command.target, observed);
  const { source } = observed;
  // Between finding it and reading it, it was removed.
  if (source === null) throw new RequestError("not_found", `The stitch "${command.target}" has just been removed.`);
  const { waitForNode, timeoutMs, toNode: node } = command;
  const { group, spec } = source;
  return planNew(
    {
      group,
      spec,
      node,
      waitForNode,
      timeoutMs,
      id: undefined,
      count: 1,
      placement: { strategy: "spread" },
      start: true,
    },
    observed,
  );
}

type NewStitches = Pick<
  CreateCommand,
  "spec" | "count" | "node" | "id" | "placement" | "start" | "timeoutMs" | "waitForNode"
> & {
  readonly group: string;
};

function planNew(asked: NewStitches, observed: Observed): Plan {
  const { group, spec, node: named } = asked;
  if (named !== undefined) nodeNamed(named, observed);
  const candidates = observed.nodes
    .filter((node) => named === undefined || node.id === named)
    .map((node) => candidateOf(node, livenessIn(observed, node), observed.ofGroup.get(node.id) ?? 0))
    // A node that was asked for by name and is away may be waited for: then it is placed on as if it were here.
    .map((node) => (named !== undefined && asked.waitForNode ? { ...node, liveness: "alive" as const } : node));
  const placement = place(candidates, spec, asked.placement, asked.count);
  if (placement.placed === null)
    return { tasks: [], placements: [], refusals: placement.refusals, warnings: [], feasible: false };

  const component = parseFullGroup(group)?.component ?? "stitch";
  const byNode = new Map<string, Step[]>();
  const placements = placement.placed.map(({ node, reason }, index) => {
    const stitch = fullId(node, asked.id ?? generatedStitchId(component, observed.firstNumber + index));
    const step: Step = {
      action: "create",
      stitch,
      group,
      spec,
      start: asked.start,
      timeoutMs: asked.timeoutMs,
    };
    const steps = byNode.get(node);
    if (steps === undefined) byNode.set(node, [step]);
    else steps.push(step);
    return { stitch, node, reason: named === undefined ? reason : "named in the command" };
  });
  const tasks = [...byNode].map(([node, steps], index) => oneTask(`t${index}`, node, "node", steps, null));
  return feasible(tasks, { placements, refusals: placement.refusals });
}

/**
 * What two plans of one command must share to be the same plan: who does what to which stitch with which spec. Generated
 * ids count by their component alone: the counter may have moved on.
 */
export function planFingerprint(command: Command, plan: Plan): string {
  const generated =
    command.command === "stitch.clone" || (command.command === "stitch.create" && command.id === undefined);
  const tasks = plan.tasks
    .map((task) => ({
      node: task.node,
      refused: task.refused?.code ?? null,
      steps: task.steps.map((step) => (generated ? { ...step, stitch: "*" } : step)),
    }))
    .sort((a, b) => (a.node < b.node ? -1 : 1));
  return canonicalJson([command.command, command.target, tasks]);
}
