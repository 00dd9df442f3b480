import type { CloneCommand, CreateCommand } from "./command.ts";
import { RequestError } from "./errors.ts";
import { fullId } from "./ids.ts";
import type { Step } from "./job.ts";
import { candidatesFor, nodeNamed, type Observed, stitchNamed } from "./observed.ts";
import { place } from "./placement.ts";
import { infeasible, newIds, oneTask, type Plan, planOf } from "./planned.ts";
import type { StitchSpec } from "./spec.ts";

export function planCreate(command: CreateCommand, observed: Observed): Plan {
  const [taken] = observed.stitches;
  if (taken !== undefined)
    throw new RequestError("stitch_exists", `There is a stitch "${taken}"; remove it first, or choose another id.`, {
      candidates: observed.stitches,
    });
  const spec: StitchSpec = { ...command.spec, reschedule: command.spec.reschedule ?? command.node === undefined };
  return planNew({ ...command, spec, group: command.target }, observed);
}

/** One more of its group, with the spec it has and data of its own. */
export function planClone(command: CloneCommand, observed: Observed): Plan {
  const source = observed.records.get(stitchNamed(command.target, observed));
  // Between finding it and reading it, it was removed.
  if (source === undefined)
    throw new RequestError("not_found", `The stitch "${command.target}" has just been removed.`);
  const { waitForNode, timeoutMs, toNode: node } = command;
  const { group, spec, placement } = source;
  return planNew(
    { group, spec, node, waitForNode, timeoutMs, id: undefined, count: 1, placement, start: true },
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
  const { group, spec, placement, start, timeoutMs, node: named } = asked;
  if (named !== undefined) nodeNamed(named, observed);
  const candidates = candidatesFor(observed, group)
    .filter(({ id }) => named === undefined || id === named)
    // A node that was asked for by name and is away may be waited for: then it is placed on as if it were here.
    .map((node) => (named !== undefined && asked.waitForNode ? { ...node, liveness: "alive" as const } : node));
  const { placed, refusals } = place(candidates, spec, placement, asked.count);
  if (placed === null) return infeasible(refusals);

  const nodes = placed.map(({ node }) => node);
  const ids = asked.id === undefined ? newIds(group, nodes, observed) : [fullId(nodes[0] ?? "", asked.id)];
  const steps = ids.map((stitch): Step => ({ action: "create", stitch, group, spec, start, timeoutMs, placement }));
  const byNode = Map.groupBy(steps, (_, index) => nodes[index] ?? "");
  const tasks = [...byNode].map(([node, each], index) => oneTask(`t${index}`, node, "node", each, null));
  const placements = placed.map(({ node, reason }, index) => ({
    stitch: ids[index] ?? "",
    node,
    reason: named === undefined ? reason : "named in the command",
  }));
  return planOf(tasks, { placements, refusals });
}
