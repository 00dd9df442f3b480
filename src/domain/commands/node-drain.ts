import * as z from "zod";
import { eligibilityChain } from "../job/chains.ts";
import { hasArrived, planMoves } from "../planning/drain.ts";
import { nodeId } from "../names/ids.ts";
import { movesInWaves, shown, staysUnknown } from "../planning/moves.ts";
import { nodeNamed, type Observed, refusalFor, stitchesOn } from "../planning/observed.ts";
import { infeasible, type Plan, planInWaves } from "../planning/planned.ts";
import { longEnvelope, timeoutMs } from "./body.ts";
import { define } from "./definition.ts";
import { never, planAnew } from "./next.ts";

/** A drain that forces needs time to stop the stitches that are left. */
const AFTER_FORCE_MS = 60_000;

const schema = z.strictObject({
  command: z.literal("node.drain"),
  target: nodeId,
  forceAfterMs: z.int().min(0).max(86_400_000).default(3_600_000),
  timeoutMs,
  ...longEnvelope,
});
type DrainCommand = z.output<typeof schema>;

/** Marks the node as draining, then moves stitches until the time is up, then stops the stitches that are left. */
export const nodeDrain = define({
  schema,
  scopes: async ({ target }, look) => scopesOn(target, await look.groupsOn(target)),
  observe: ({ target }, look) => look.nodeToEmpty(target),
  plan: planDrain,
  retry: (job) => planAnew("node.drain", job),
  rollback: never("node.uncordon lets the node take stitches again, and group.rebalance spreads them"),
  mayTakeMs: ({ forceAfterMs }) => forceAfterMs + AFTER_FORCE_MS,
  succeeded: (node) => ({ type: "node.drained", node }),
});

const scopesOn = (node: string, groups: readonly string[]): string[] =>
  [...new Set(groups)].map((group) => `${group}.${node}`);

function planDrain(command: DrainCommand, observed: Observed): Plan {
  const { target, forceAfterMs, waitForNode } = command;
  const refused = refusalFor(nodeNamed(target, observed), waitForNode, observed);
  // Nothing on a node that is away can be moved well, or stopped. A mark alone would only look like a drain.
  if (refused !== null) return infeasible([{ node: target, code: "not_alive", message: refused.message }]);
  const { all, known, unknown } = stitchesOn(observed);
  const { moves, refusals, stay } = planMoves(known.filter(hasArrived), observed, forceAfterMs > 0);
  const scopes = scopesOn(
    target,
    all.map(({ record }) => record.group),
  );
  const { placements, warnings } = shown(moves, observed);
  return planInWaves(
    [eligibilityChain(target, "drain", 0), ...movesInWaves(moves, 1, command)],
    scopes,
    { forceAtMs: observed.nowMs + forceAfterMs },
    {
      placements,
      refusals,
      warnings: [...warnings, ...stay, ...unknown.map(({ id }) => staysUnknown(id, "stopped when the drain forces"))],
    },
  );
}
