// The plans of commands that do one thing to each of their stitches, or to a node.
import { RequestError } from "../errors.ts";
import { parseStitchRef } from "../names/ids.ts";
import type { Step, StitchStep, Task } from "../job/job.ts";
import { nodeNamed, type Observed, refusalFor, stitchNamed } from "../planning/observed.ts";
import { oneTask, type Plan, planOf } from "../planning/planned.ts";
import type { StepError } from "../stitch/stitch.ts";

type StitchAction = Exclude<StitchStep["action"], "create" | "settle">;
type NodeCommand = { readonly target: string; readonly timeoutMs: number; readonly waitForNode: boolean };

/** @param runs who carries out the step; a Master does not need the node to be alive. */
export function planForNode(
  { target, waitForNode }: Pick<NodeCommand, "target" | "waitForNode">,
  step: Extract<Step, { stitch: null }>,
  runs: Task["runs"],
  observed: Observed,
): Plan {
  const node = nodeNamed(target, observed);
  return planOf([oneTask("t0", node.id, runs, [step], refusalFor(node, waitForNode || runs === "master", observed))]);
}

export function planForStitch(
  { target, timeoutMs, waitForNode }: NodeCommand,
  action: StitchAction,
  observed: Observed,
): Plan {
  const only = stitchNamed(target, observed);
  const node = nodeNamed(parseStitchRef(only)?.node ?? "", observed);
  const step: Step = { action, stitch: only, timeoutMs };
  return planOf([oneTask("t0", node.id, "node", [step], refusalFor(node, waitForNode, observed))]);
}

/** One task for each node that has members, for any number of members. */
export function planForGroup(
  { target, timeoutMs, waitForNode }: NodeCommand,
  action: StitchAction,
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
