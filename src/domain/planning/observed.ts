import { RequestError } from "../errors.ts";
import { splitFullId } from "../names/ids.ts";
import { isPresent, type Liveness, livenessOf, type NodeRecord } from "../node/node.ts";
import { type Candidate, candidateOf } from "../placement/placement.ts";
import type { PlacementOptions } from "../stitch/placement-options.ts";
import type { Assigned } from "../job/assignment.ts";
import type { KnownSpec, StoredSpec } from "../stitch/spec.ts";
import type { StepError, StitchRecord } from "../stitch/stitch.ts";

/** What a plan is made from: read once, so that the plan is a pure function of it. */
export type Observed = {
  readonly nowMs: number;
  readonly deadAfterMs: number;
  /** The nodes the command names; for a placement, every node. */
  readonly nodes: readonly NodeRecord[];
  /** Full ids that the command may mean. For a bare id: one for each node that has it. For a group: its members. */
  readonly stitches: readonly string[];
  /** Set if the command names a stitch by its full id and the stitch has moved: its full id now. */
  readonly movedTo: string | null;
  /** By full id, if the plan depends on the record: of stitches that are restarted, counted, copied or moved. */
  readonly records: ReadonlyMap<string, StitchRecord>;
  /** By full id, what Masters assigned to stitches that are copied, moved or created again. No entry if that is not known. */
  readonly assigned: ReadonlyMap<string, Assigned>;
  /** For a placement: full group → node → how many stitches of the group it has. */
  readonly ofGroup: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** For a move: bare id → the nodes that have a stitch with this id. */
  readonly homes: ReadonlyMap<string, ReadonlySet<string>>;
  /** Full ids of stitches known to keep something in their data folder. */
  readonly withData: ReadonlySet<string>;
  /** What the group's last create asked for; null if that is not stored, or its spec is not known. */
  readonly template: Template | null;
  /** A spec that comes with the command, or that the command makes. It goes to the store with the job. */
  readonly toStore: StoredSpec | null;
  /** For new stitches without `id`: the first number from the component's counter that belongs to this command. */
  readonly firstNumber: number;
};

/** The spec and the placement of a new stitch of a group. */
export type Template = KnownSpec & { readonly placement: PlacementOptions };

/** @throws RequestError `not_found` */
export function nodeNamed(id: string, observed: Observed): NodeRecord {
  const node = observed.nodes.find((each) => each.id === id);
  if (node === undefined) throw new RequestError("not_found", `There is no node "${id}"; GET /v1/nodes lists them.`);
  return node;
}

export const livenessIn = (observed: Observed, node: NodeRecord): Liveness => livenessOf(node, observed.deadAfterMs);

/** Which stitches are green, on nodes that are present. */
export function greenIn(observed: Observed): (id: string) => boolean {
  const here = new Set(observed.nodes.filter((node) => isPresent(livenessIn(observed, node))).map(({ id }) => id));
  return (id) => here.has(splitFullId(id).node) && observed.records.get(id)?.health === "green";
}

/** Why a task for this node cannot be dispatched now; null if it can. */
export function refusalFor(node: NodeRecord, waitForNode: boolean, observed: Observed): StepError | null {
  if (waitForNode) return null;
  const liveness = livenessIn(observed, node);
  const hint = 'start its worker again, or send the command with "waitForNode": true';
  if (liveness === "dead") return { code: "node_dead", message: `${node.id} is dead; ${hint}` };
  if (liveness === "left") return { code: "node_left", message: `${node.id} has left; ${hint}` };
  return null;
}

/** @param movedTo the full id that the stitch has now, if that is known. */
export const noStitch = (text: string, movedTo: string | null = null) =>
  movedTo === null
    ? new RequestError("not_found", `There is no stitch "${text}"; GET /v1/stitches lists them.`)
    : new RequestError("not_found", `The stitch "${text}" has moved; it is "${movedTo}" now.`, { movedTo });

/** The one stitch that a command means. @throws RequestError `not_found`, `ambiguous_stitch`. */
export function stitchNamed(target: string, observed: Observed): string {
  const [only, ...others] = observed.stitches;
  if (only === undefined) throw noStitch(target, observed.movedTo);
  if (others.length > 0)
    throw new RequestError(
      "ambiguous_stitch",
      `Several nodes have a stitch "${target}"; name one of them by its full id.`,
      { candidates: [only, ...others].sort() },
    );
  return only;
}

/** How many stitches of a full group a node has. */
const countOn = ({ ofGroup }: Observed, group: string, node: string): number => ofGroup.get(group)?.get(node) ?? 0;

/** The nodes as placement sees them, for a stitch of the group. */
export const candidatesFor = (observed: Observed, group: string): Candidate[] =>
  observed.nodes.map((node) => candidateOf(node, livenessIn(observed, node), countOn(observed, group, node.id)));

/** A stitch with its full id, as its node shows it. */
export type Shown = { readonly id: string; readonly record: StitchRecord };

/** A stitch as its node shows it, and as Masters have assigned it. */
export type KnownStitch = Shown & { readonly assigned: Assigned };

/** The stitches that were read. `known`: with a known assignment. `unknown`: the others; they are not moved. */
export function stitchesOn({ stitches, records, assigned }: Observed): {
  readonly all: readonly Shown[];
  readonly known: readonly KnownStitch[];
  readonly unknown: readonly Shown[];
} {
  const all = stitches.flatMap((id): Shown[] => {
    const record = records.get(id);
    return record === undefined ? [] : [{ id, record }];
  });
  const known = all.flatMap((each): KnownStitch[] => {
    const found = assigned.get(each.id);
    return found === undefined ? [] : [{ ...each, assigned: found }];
  });
  return { all, known, unknown: all.filter(({ id }) => !assigned.has(id)) };
}
