import { type Starting, stepChain } from "../job/chains.ts";
import type { DrainObservation } from "../job/advance.ts";
import type { Chain, JobRecord } from "../job/job.ts";
import { isPresent, type NodeRecord } from "../node/node.ts";
import { livenessIn, type Observed, type KnownStitch, refusalFor, type Shown, stitchesOn } from "./observed.ts";
import { moveIn, movesInWaves, capacityIn } from "./moves.ts";
import { eachOnce, refusalText } from "../placement/placement.ts";
import type { Plan, PlanWarning } from "./planned.ts";
import type { StitchState } from "../stitch/stitch.ts";

/**
 * How often a drain tries to move a stitch, and to stop it. After that, a stitch that did not move waits until the drain
 * forces, and one that did not stop waits for the deadline.
 */
const TRIES = 3;

const AT_WORK: ReadonlySet<StitchState> = new Set(["starting", "running", "stopping", "backoff"]);

type Moves = {
  readonly moves: { of: KnownStitch; to: string; reason: string }[];
  /** Why no other node can take the stitches that stay. */
  refusals: Plan["refusals"];
  readonly stay: PlanWarning[];
};

/** A stitch that is arriving belongs to the job that moves it, until its move is confirmed or taken back. */
export const hasArrived = ({ record }: Shown): boolean => record.movedFrom === null;

/** What a drain finds on its node. @param tried the chains of the drain so far. */
export function seeDrain(
  { target, revision }: Pick<JobRecord, "target" | "revision">,
  tried: readonly Chain[],
  starting: Starting,
  observed: Observed,
): DrainObservation {
  const { timeoutMs } = starting;
  const node = observed.nodes.find(({ id }) => id === target);
  const times = (stitch: string, action: string) =>
    tried.filter((chain) => chain.stitch === stitch && chain.links[0]?.step.action === action).length;
  // A node that has died still shows the stitches that were moved away from it, until it is back and learns of the moves.
  const moved = new Set(
    tried.flatMap(({ status, stitch, undo }) => (status === "succeeded" && undo !== null ? stitch : [])),
  );
  const { all, known } = stitchesOn(observed);
  const isAtWork = ({ id, record }: Shown) => AT_WORK.has(record.state) && !moved.has(id);
  const atWork = all.filter(isAtWork);
  const arrived = atWork.filter(hasArrived);
  const again = known
    .filter((each) => isAtWork(each) && hasArrived(each))
    .filter(({ id }) => times(id, "create") < TRIES);
  // A node that is away stops nothing. When it is back, it may start what it had.
  const isAway = node === undefined || refusalFor(node, false, observed) !== null;
  const left = isAway ? [] : arrived.filter(({ id }) => times(id, "stop") < TRIES);
  return {
    uncordoned: node?.eligibility === "eligible" || (node !== undefined && node.uncordonedBy > revision),
    running: atWork.map(({ id }) => id),
    confirmed: node === undefined || saysItIsEmpty(node, observed),
    moves: movesInWaves(planMoves(again, observed, true).moves, 0, starting),
    stops: left.map(({ id }) => stepChain({ action: "stop", stitch: id, timeoutMs }, 0, false)),
  };
}

/**
 * Does the node itself say that it takes nothing new, and that nothing is at work there? A task that was planned before the
 * drain may still reach a node that has not heard of the drain. A node that is gone takes nothing either.
 */
function saysItIsEmpty(node: NodeRecord, observed: Observed): boolean {
  if (!isPresent(livenessIn(observed, node))) return true;
  const { eligibility, states } = node.status;
  return eligibility !== "eligible" && [...AT_WORK].every((state) => (states[state] ?? 0) === 0);
}

export function planMoves(stitches: readonly KnownStitch[], observed: Observed, isInTime: boolean): Moves {
  const capacity = capacityIn(observed);
  const planned: Moves = { moves: [], refusals: [], stay: [] };
  for (const of of stitches) {
    const stays = (message: string) =>
      planned.stay.push({
        code: "cannot_move",
        message: `${message}; it is stopped when the drain forces`,
        stitch: of.id,
      });
    if (!isInTime) {
      stays("there is no time to move it");
      continue;
    }
    if (of.assigned.spec.reschedule === false) {
      stays("it was placed on this node by name");
      continue;
    }
    const home = moveIn(capacity, of, observed);
    if (home.node !== null) {
      planned.moves.push({ of, to: home.node, reason: home.reason });
      continue;
    }
    planned.refusals = eachOnce([...planned.refusals, ...home.refusals]);
    stays(`no other node can take it (${refusalText(home.refusals)})`);
  }
  return planned;
}
