import { fullId } from "../names/ids.ts";
import type { Step } from "../job/job.ts";
import { candidatesFor, nodeNamed, type Observed } from "./observed.ts";
import { place } from "../placement/placement.ts";
import { infeasible, newIds, oneTask, type Plan, planOf } from "./planned.ts";
import type { Template } from "./observed.ts";
import { wellForMs } from "../job/min-healthy.ts";

type NewStitches = Template & {
  readonly group: string;
  readonly count: number;
  /** The node for the stitches; undefined: any node with room. */
  readonly node: string | undefined;
  /** The id of a single stitch; undefined: ids are drawn from the counter of the component. */
  readonly id: string | undefined;
  readonly start: boolean;
  readonly timeoutMs: number;
  readonly waitForNode: boolean;
};

/** Plans new stitches of a group: all of them, or none if there is no room for all. */
export function planNew(asked: NewStitches, observed: Observed): Plan {
  const { group, spec, specHash, placement, start, timeoutMs, node: named } = asked;
  if (named !== undefined) nodeNamed(named, observed);
  const candidates = candidatesFor(observed, group)
    .filter(({ id }) => named === undefined || id === named)
    // The command may wait for a node that it names and that is away: then placement treats the node as alive.
    .map((node) => (named !== undefined && asked.waitForNode ? { ...node, liveness: "alive" as const } : node));
  const { placed, refusals } = place(candidates, spec, placement, asked.count);
  if (placed === null) return infeasible(refusals);

  const nodes = placed.map(({ node }) => node);
  const ids = asked.id === undefined ? newIds(group, nodes, observed) : [fullId(nodes[0] ?? "", asked.id)];
  const made = {
    action: "create",
    group,
    specHash,
    start,
    timeoutMs,
    minHealthyMs: wellForMs(spec),
    placement,
  } as const;
  const steps = ids.map((stitch): Step => ({ ...made, stitch }));
  const byNode = Map.groupBy(steps, (_, index) => nodes[index] ?? "");
  const tasks = [...byNode].map(([node, each], index) => oneTask(`t${index}`, node, "node", each, null));
  const placements = placed.map(({ node, reason }, index) => ({
    stitch: ids[index] ?? "",
    node,
    reason: named === undefined ? reason : "named in the command",
  }));
  return planOf(tasks, { placements, refusals });
}
