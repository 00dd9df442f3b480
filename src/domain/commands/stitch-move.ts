import * as z from "zod";
import { assignedTo } from "../job/assignment.ts";
import { RequestError } from "../errors.ts";
import { nodeId, splitFullId, stitchRef } from "../names/ids.ts";
import type { Chain, JobRecord, StitchStep } from "../job/job.ts";
import { moveIn, movesInWaves, capacityIn, scopeOf, takenBy } from "../planning/moves.ts";
import { nodeNamed, type Observed, type KnownStitch, refusalFor, stitchNamed } from "../planning/observed.ts";
import { dataStays, infeasible, oneTask, type Plan, planInWaves, planOf } from "../planning/planned.ts";
import { longEnvelope, timeoutMs } from "./body.ts";
import { define } from "./definition.ts";
import { type Next, notReversible, planAnew, stepsOf } from "./next.ts";

const schema = z.strictObject({
  command: z.literal("stitch.move"),
  target: stitchRef,
  toNode: nodeId.optional(),
  timeoutMs,
  ...longEnvelope,
});
type MoveCommand = z.output<typeof schema>;

/** Starts a stitch on another node, then stops it where it is. */
export const stitchMove = define({
  schema,
  scopes: async ({ target }, look) => {
    const of = await look.placeOf(target);
    return of === null ? [] : [scopeOf(of)];
  },
  observe: ({ target, toNode }, look) => look.stitchToMove(target, toNode),
  plan: planMove,
  retry: (job) => {
    const moved = movedBy(job.record);
    return planAnew("stitch.move", job, { target: moved.stitch }, { only: [moved] });
  },
  rollback: (job): Next => {
    const [chain] = job.record.orchestration?.chains ?? [];
    if (chain === undefined || !hasMoved(chain) || chain.stitch === null)
      throw notReversible("the stitch is where it was");
    const moved = movedBy(job.record);
    const back = { target: moved.stitch, toNode: splitFullId(chain.stitch).node };
    return planAnew("stitch.move", job, back, { only: [moved] });
  },
});

function planMove(command: MoveCommand, observed: Observed): Plan {
  const { target, toNode, timeoutMs, waitForNode } = command;
  const id = stitchNamed(target, observed);
  const record = observed.records.get(id);
  if (record === undefined) throw new RequestError("not_found", `The stitch "${target}" has just been removed.`);
  const { node } = splitFullId(id);
  const of: KnownStitch = { id, record, assigned: assignedTo(id, observed.assigned) };
  const { stitch } = splitFullId(id);
  const scopes = [scopeOf({ id, group: of.assigned.group })];
  if (toNode === node) return planInWaves([], scopes, {});
  const refused = refusalFor(nodeNamed(node, observed), waitForNode, observed);
  if (refused !== null)
    return planOf([
      oneTask("t0", node, "node", [{ action: "remove", stitch: id, timeoutMs, born: record.born }], refused),
    ]);
  if (toNode !== undefined) {
    nodeNamed(toNode, observed);
    if (takenBy(id, observed).has(toNode))
      throw new RequestError("stitch_exists", `${toNode} has a stitch "${stitch}" already.`, {
        candidates: [`${toNode}:${stitch}`],
      });
  }
  const among =
    toNode === undefined ? observed : { ...observed, nodes: observed.nodes.filter(({ id: each }) => each === toNode) };
  const home = moveIn(capacityIn(among), of, observed);
  if (home.node === null) return infeasible(home.refusals);
  const reason = toNode === undefined ? home.reason : "named in the command";
  return planInWaves(
    movesInWaves([{ of, to: home.node }], 0, command),
    scopes,
    {},
    {
      placements: [{ stitch: `${home.node}:${stitch}`, node: home.node, reason }],
      warnings: observed.withData.has(id) ? [dataStays(id)] : [],
    },
  );
}

/** The step of a move that names the stitch where the move left it. A move refused because of its node has no chains. */
function movedBy({ orchestration, tasks }: JobRecord): StitchStep {
  const [chain] = orchestration?.chains ?? [];
  const steps = chain === undefined ? tasks.flatMap((task) => task.steps) : stepsOf(chain);
  const action = chain !== undefined && hasMoved(chain) ? "create" : "remove";
  const step = steps.find((each) => each.action === action);
  if (step === undefined || step.stitch === null) throw new Error("a move that has failed names its stitch");
  return step;
}

/** A stitch has moved when the old one is gone, whatever happened to the last link. */
const hasMoved = ({ at, links }: Chain): boolean => at === links.length - 1;
