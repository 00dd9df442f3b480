import { moveChain, type Starting } from "./chains.ts";
import type { MoveCommand } from "./command.ts";
import { RequestError } from "./errors.ts";
import { splitFullId } from "./ids.ts";
import type { Chain } from "./job.ts";
import { livenessIn, nodeNamed, type Observed, refusalFor, stitchNamed } from "./observed.ts";
import { candidateOf } from "./placement.ts";
import { dataStays, infeasible, oneTask, type Plan, planInWaves, planOf } from "./planned.ts";
import { type Homeless, Room } from "./room.ts";
import type { StitchRecord } from "./stitch.ts";

/** Moves under way at once: a node must not start hundreds of processes while it serves. */
export const MOVES_AT_ONCE = 10;

export const roomIn = (observed: Observed): Room =>
  new Room(
    observed.nodes.map((node) => candidateOf(node, livenessIn(observed, node), 0)),
    observed.ofGroup,
  );

/** A stitch with its full id. */
export type Placed = { readonly id: string; readonly record: StitchRecord };

const NO_NODES: ReadonlySet<string> = new Set();

/** The nodes that a stitch cannot move to: where it is, and where another has its id. */
export const takenBy = (id: string, observed: Observed): ReadonlySet<string> =>
  observed.homes.get(splitFullId(id).stitch) ?? NO_NODES;

/** Moves a stitch in the room, if there is a home for it. */
export function moveIn(room: Room, { id, record }: Placed, observed: Observed) {
  const { node } = splitFullId(id);
  const homeless: Homeless = record;
  room.leave(node, homeless);
  const home = room.homeFor(homeless, new Set([node, ...takenBy(id, observed)]));
  room.enter(home.node ?? node, homeless);
  return home;
}

/** The chains of moves, so many at once. */
export const movesInWaves = (
  moves: readonly { readonly of: Placed; readonly to: string }[],
  firstWave: number,
  starting: Starting,
): Chain[] =>
  moves.map(({ of, to }, index) =>
    moveChain(of.id, of.record, to, firstWave + Math.floor(index / MOVES_AT_ONCE), starting),
  );

export const scopeOf = ({ id, record }: Placed): string => `${record.group}.${id.replace(":", ".")}`;

/** Starts it elsewhere, then stops it here. */
export function planMove(command: MoveCommand, observed: Observed): Plan {
  const { target, toNode, timeoutMs, waitForNode } = command;
  const id = stitchNamed(target, observed);
  const record = observed.records.get(id);
  if (record === undefined) throw new RequestError("not_found", `The stitch "${target}" has just been removed.`);
  const { node } = splitFullId(id);
  const of: Placed = { id, record };
  const scopes = [scopeOf(of)];
  if (toNode === node) return planInWaves([], scopes, {});
  const refused = refusalFor(nodeNamed(node, observed), waitForNode, observed);
  if (refused !== null)
    return planOf([
      oneTask("t0", node, "node", [{ action: "remove", stitch: id, timeoutMs, born: record.born }], refused),
    ]);
  if (toNode !== undefined) {
    nodeNamed(toNode, observed);
    if (takenBy(id, observed).has(toNode))
      throw new RequestError("stitch_exists", `${toNode} has a stitch "${record.id}" already.`, {
        candidates: [`${toNode}:${record.id}`],
      });
  }
  const among =
    toNode === undefined ? observed : { ...observed, nodes: observed.nodes.filter(({ id: each }) => each === toNode) };
  const home = moveIn(roomIn(among), of, observed);
  if (home.node === null) return infeasible(home.refusals);
  const reason = toNode === undefined ? home.reason : "named in the command";
  return planInWaves(
    movesInWaves([{ of, to: home.node }], 0, command),
    scopes,
    {},
    {
      placements: [{ stitch: `${home.node}:${record.id}`, node: home.node, reason }],
      warnings: observed.withData.has(id) ? [dataStays(id)] : [],
    },
  );
}

/** The placements and warnings that a plan of moves shows. */
export function shown(
  moves: readonly { readonly of: Placed; readonly to: string; readonly reason: string }[],
  observed: Observed,
): Pick<Plan, "placements" | "warnings"> {
  return {
    placements: moves.map(({ of, to, reason }) => ({ stitch: `${to}:${of.record.id}`, node: to, reason })),
    warnings: moves.flatMap(({ of }) => (observed.withData.has(of.id) ? [dataStays(of.id)] : [])),
  };
}
