import { canonicalJson } from "./canonical-json.ts";
import type { Command, GroupCommand, StitchCommand } from "./command.ts";
import { RequestError } from "./errors.ts";
import { parseStitchRef } from "./ids.ts";
import type { Step, Task } from "./job.ts";
import { nodeNamed, type Observed, refusalFor, stitchNamed } from "./observed.ts";
import { planDrain } from "./drain.ts";
import { planMove } from "./moves.ts";
import { planClone, planCreate } from "./new-stitches.ts";
import { planRebalance } from "./commands/group-rebalance.ts";
import { planRestart } from "./commands/group-restart.ts";
import { planScale } from "./commands/group-scale.ts";
import { planStopOldVersions } from "./commands/group-stop-old-versions.ts";
import { oneTask, type Plan, planOf } from "./planned.ts";
import type { StepError } from "./stitch.ts";

/**
 * Breaks a command into tasks for individual nodes, or into the waves they come in.
 * @throws RequestError `not_found`, `ambiguous_stitch`, `stitch_exists`, `no_template`. What cannot be placed is no error
 *   here: the plan says `feasible: false` and why.
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
    case "node.drain":
      return planDrain(command, observed);
    case "stitch.create":
      return planCreate(command, observed);
    case "stitch.clone":
      return planClone(command, observed);
    case "stitch.move":
      return planMove(command, observed);
    case "group.start":
    case "group.stop":
    case "group.remove":
      return planForGroup(command, GROUP_ACTION[command.command], observed);
    case "group.stopOldVersions":
      return planStopOldVersions(command, observed);
    case "group.restart":
      return planRestart(command, observed);
    case "group.scale":
      return planScale(command, observed);
    case "group.rebalance":
      return planRebalance(command, observed);
    default:
      return planForStitch(command, observed);
  }
}

const GROUP_ACTION = { "group.start": "start", "group.stop": "stop", "group.remove": "remove" } as const;
const STITCH_ACTION = {
  "stitch.start": "start",
  "stitch.stop": "stop",
  "stitch.restart": "restart",
  "stitch.remove": "remove",
} as const;

function planForNode(id: string, step: Step, runs: Task["runs"], waitForNode: boolean, observed: Observed): Plan {
  const node = nodeNamed(id, observed);
  return planOf([oneTask("t0", node.id, runs, [step], refusalFor(node, waitForNode, observed))]);
}

function planForStitch(command: StitchCommand, observed: Observed): Plan {
  const only = stitchNamed(command.target, observed);
  const node = nodeNamed(parseStitchRef(only)?.node ?? "", observed);
  const step: Step = { action: STITCH_ACTION[command.command], stitch: only, timeoutMs: command.timeoutMs };
  return planOf([oneTask("t0", node.id, "node", [step], refusalFor(node, command.waitForNode, observed))]);
}

/** One task for each node that has members, whatever their number. */
function planForGroup(
  { target, timeoutMs, waitForNode }: GroupCommand,
  action: "start" | "stop" | "remove",
  observed: Observed,
): Plan {
  if (observed.stitches.length === 0)
    throw new RequestError(
      "not_found",
      `There is no stitch in the group "${target}"; GET /v1/groups lists the groups.`,
    );
  const byNode = Map.groupBy(observed.stitches, (id) => parseStitchRef(id)?.node ?? "");
  const nodes = new Map(observed.nodes.map((node) => [node.id, node]));
  const tasks = [...byNode].map(([id, stitches], index) => {
    const node = nodes.get(id);
    const refused: StepError | null =
      node === undefined
        ? { code: "node_dead", message: `the node ${id} has been forgotten, or its record cannot be read` }
        : refusalFor(node, waitForNode, observed);
    const steps = stitches.map((stitch): Step => ({ action, stitch, timeoutMs }));
    return oneTask(`t${index}`, id, "node", steps, refused);
  });
  return planOf(tasks);
}

/**
 * What two plans of one command must share to be the same plan: who does what to which stitch with which spec. Generated
 * ids count by their component alone: the counter may have moved on.
 */
export function planFingerprint(command: Command, plan: Plan): string {
  const generated =
    command.command === "stitch.clone" ||
    command.command === "group.scale" ||
    (command.command === "stitch.create" && command.id === undefined);
  const anonymous = (step: Step) => (generated && step.action === "create" ? { ...step, stitch: "*" } : step);
  const tasks = plan.tasks
    .map((task) => ({ node: task.node, refused: task.refused?.code ?? null, steps: task.steps.map(anonymous) }))
    .sort((a, b) => (a.node < b.node ? -1 : 1));
  const chains = (plan.orchestration?.chains ?? []).map(({ wave, links }) => ({
    wave,
    links: links.map(({ node, step }) => ({ node, step: anonymous(step) })),
  }));
  return canonicalJson([command.command, command.target, tasks, chains]);
}
