import * as z from "zod";
import { canonicalJson } from "../json/canonical-json.ts";
import { RequestError } from "../errors.ts";
import { splitFullId } from "../names/ids.ts";
import { livenessIn, type Observed, type KnownStitch, stitchesOn } from "../planning/observed.ts";
import { crowding, eachOnce } from "../placement/placement.ts";
import { movesInWaves, capacityIn, shown, staysUnknown, takenBy } from "../planning/moves.ts";
import { type Plan, planInWaves } from "../planning/planned.ts";
import type { Capacity } from "../placement/capacity.ts";
import { groupName } from "../names/group.ts";
import { longEnvelope, timeoutMs } from "./body.ts";
import { define } from "./definition.ts";
import { never, planAnew } from "./next.ts";

const schema = z.strictObject({
  command: z.literal("group.rebalance"),
  target: groupName,
  maxMoves: z.int().min(0).max(10_000).optional(),
  timeoutMs,
  ...longEnvelope,
});
type RebalanceCommand = z.output<typeof schema>;

/** Moves stitches, each at most once, until placement would find no better node for any of them. */
export const groupRebalance = define({
  schema,
  scopes: ({ target }) => [target],
  observe: ({ target }, look) => look.groupToSpread(target),
  plan: planRebalance,
  retry: (job) => planAnew("group.rebalance", job),
  rollback: never("its moves can be taken back one by one, with stitch.move"),
});

/** Stitches of a node with the same `likeness` find the same new node, so only one of them is tried. */
type Movable = KnownStitch & { readonly likeness: string };
type Move = { readonly of: Movable; readonly to: string; readonly reason: string };

function planRebalance(command: RebalanceCommand, observed: Observed): Plan {
  const { target, maxMoves = Number.POSITIVE_INFINITY } = command;
  if (observed.stitches.length === 0)
    throw new RequestError("not_found", `There is no stitch in the group "${target}"; GET /v1/groups lists them.`);
  const capacity = capacityIn(observed);
  const moves: Move[] = [];
  let refusals: Plan["refusals"] = [];
  for (const members of byGroup(observed).values()) {
    const left = new Set(members);
    while (moves.length < maxMoves) {
      const move = nextMove(capacity, left, observed);
      if ("refusals" in move) {
        refusals = eachOnce([...refusals, ...move.refusals]);
        break;
      }
      left.delete(move.of);
      moves.push(move);
    }
  }
  const { placements, warnings } = shown(moves, observed);
  const unknown = stitchesOn(observed).unknown.map(({ id }) => staysUnknown(id, "stays where it is"));
  const more = { placements, warnings: [...warnings, ...unknown], refusals };
  return planInWaves(movesInWaves(moves, 0, command), [target], {}, more);
}

/** The stitches that may be moved, by full group: those on nodes that take new stitches themselves. The last ids go first. */
function byGroup(observed: Observed): Map<string, Movable[]> {
  const open = new Set(
    observed.nodes
      .filter((node) => node.eligibility === "eligible" && livenessIn(observed, node) === "alive")
      .map(({ id }) => id),
  );
  const movable = stitchesOn(observed)
    .known.map((each): Movable => ({ ...each, likeness: likenessOf(each, observed) }))
    .filter(({ id, assigned: { spec } }) => open.has(splitFullId(id).node) && spec.reschedule !== false)
    .sort((a, b) => (a.id > b.id ? -1 : 1));
  return Map.groupBy(movable, ({ assigned }) => assigned.group);
}

/** Text made of the stitch's node, what it asks of a node, and which nodes have its id. */
function likenessOf({ id, assigned: { spec, placement } }: KnownStitch, observed: Observed): string {
  const module = spec.adaptor === "module" ? spec.module : null;
  const taken = [...takenBy(id, observed)].sort();
  return canonicalJson([splitFullId(id).node, spec.resources, module, placement, taken]);
}

/**
 * The move that helps most: from the most crowded node that would not be chosen again. `capacity` changes with the move. If
 * there is no move: why no other node takes the stitches that have nowhere else to go.
 */
function nextMove(capacity: Capacity, left: ReadonlySet<Movable>, observed: Observed): Move | Pick<Plan, "refusals"> {
  const [any] = left;
  if (any === undefined) return { refusals: [] };
  const { group } = any.assigned;
  const crowded = crowding(capacity.candidates(group));
  const firstOf = new Map<string, { node: string; of: Movable }>();
  for (const of of left) {
    if (!firstOf.has(of.likeness)) firstOf.set(of.likeness, { node: splitFullId(of.id).node, of });
  }
  const sources = [...firstOf.values()].sort(
    (a, b) => compare(crowded(b.node), crowded(a.node)) || (a.node < b.node ? -1 : Number(a.node > b.node)),
  );
  let refusals: Plan["refusals"] = [];
  for (const { node, of } of sources) {
    capacity.leave(node, of.assigned);
    const after = crowding(capacity.candidates(group));
    const asked = { ...of.assigned, placement: { ...of.assigned.placement, strategy: "spread" as const } };
    const home = capacity.homeFor(asked, new Set([node, ...takenBy(of.id, observed)]));
    const better = home.node !== null && compare(after(home.node), after(node)) < 0;
    capacity.enter(better ? home.node : node, of.assigned);
    if (better) return { of, to: home.node, reason: home.reason };
    if (home.node === null) refusals = eachOnce([...refusals, ...home.refusals]);
  }
  return { refusals };
}

const compare = (a: readonly [number, number], b: readonly [number, number]): number => a[0] - b[0] || a[1] - b[1];
