import { whyUnknown } from "../job/assignment.ts";
import { moveChain, type Starting } from "../job/chains.ts";
import { fullId, splitFullId } from "../names/ids.ts";
import type { Chain } from "../job/job.ts";
import { livenessIn, type Observed, type KnownStitch } from "./observed.ts";
import { candidateOf } from "../placement/placement.ts";
import { dataStays, type Plan, type PlanWarning } from "./planned.ts";
import { Capacity } from "../placement/capacity.ts";

/** How many moves run at the same time: a node must not start hundreds of processes while it serves. */
export const MOVES_AT_ONCE = 10;

export const capacityIn = (observed: Observed): Capacity =>
  new Capacity(
    observed.nodes.map((node) => candidateOf(node, livenessIn(observed, node), 0)),
    observed.ofGroup,
  );

/** The warning that a stitch is not moved, because no Master has assigned it. @param then what happens to it instead. */
export const staysUnknown = (id: string, then: string): PlanWarning => ({
  code: "spec_unknown",
  message: `it is not moved, and ${then}: ${whyUnknown(id)}`,
  stitch: id,
});

const NO_NODES: ReadonlySet<string> = new Set();

/** The nodes that a stitch cannot move to: its own node, and nodes where another stitch has its id. */
export const takenBy = (id: string, observed: Observed): ReadonlySet<string> =>
  observed.homes.get(splitFullId(id).stitch) ?? NO_NODES;

/** Moves a stitch within `capacity`, if there is a node for it. */
export function moveIn(capacity: Capacity, { id, assigned }: KnownStitch, observed: Observed) {
  const { node } = splitFullId(id);
  capacity.leave(node, assigned);
  const home = capacity.homeFor(assigned, new Set([node, ...takenBy(id, observed)]));
  capacity.enter(home.node ?? node, assigned);
  return home;
}

/** The chains of the moves, in waves of `MOVES_AT_ONCE`. */
export const movesInWaves = (
  moves: readonly { readonly of: KnownStitch; readonly to: string }[],
  firstWave: number,
  starting: Starting,
): Chain[] =>
  moves.map(({ of, to }, index) => moveChain(of, to, firstWave + Math.floor(index / MOVES_AT_ONCE), starting));

export const scopeOf = ({ id, group }: { readonly id: string; readonly group: string }): string =>
  `${group}.${id.replace(":", ".")}`;

/** The placements and warnings that a plan of moves shows. */
export function shown(
  moves: readonly { readonly of: KnownStitch; readonly to: string; readonly reason: string }[],
  observed: Observed,
): Pick<Plan, "placements" | "warnings"> {
  return {
    placements: moves.map(({ of, to, reason }) => ({
      stitch: fullId(to, splitFullId(of.id).stitch),
      node: to,
      reason,
    })),
    warnings: moves.flatMap(({ of }) => (observed.withData.has(of.id) ? [dataStays(of.id)] : [])),
  };
}
