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
  /** Full ids the command may mean: of a bare id, one for each node that has it; of a group, its members. */
  readonly stitches: readonly string[];
  /** Where the stitch is that the command names by its full id, and that has moved from there. */
  readonly movedTo: string | null;
  /** By full id, where the plan depends on them: what is restarted, counted, copied or moved. */
  readonly records: ReadonlyMap<string, StitchRecord>;
  /** By full id, of those that are copied, moved or created again: what Masters have assigned; none where that is not known. */
  readonly assigned: ReadonlyMap<string, Assigned>;
  /** For a placement: full group → node → how many of the group it has. */
  readonly ofGroup: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** For a move: bare id → the nodes that have such a stitch. */
  readonly homes: ReadonlyMap<string, ReadonlySet<string>>;
  /** Full ids of stitches known to keep something in their data folder. */
  readonly withData: ReadonlySet<string>;
  /** What the group's last create asked for; null where nobody remembers, or what that runs is not known. */
  readonly template: Template | null;
  /** A spec that comes with the command, or is made by it: it goes to the store with the job. */
  readonly toStore: StoredSpec | null;
  /** For new stitches without `id`: the first number of the component's counter that is this command's. */
  readonly firstNumber: number;
};

/** What a new stitch of a group is made like. */
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

/** Why a task for this node cannot be dispatched now; null where it can. */
export function refusalFor(node: NodeRecord, waitForNode: boolean, observed: Observed): StepError | null {
  if (waitForNode) return null;
  const liveness = livenessIn(observed, node);
  const hint = 'start its worker again, or send the command with "waitForNode": true';
  if (liveness === "dead") return { code: "node_dead", message: `${node.id} is dead; ${hint}` };
  if (liveness === "left") return { code: "node_left", message: `${node.id} has left; ${hint}` };
  return null;
}

/** @param movedTo where it is now, if that is known. */
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

/** The same, and what Masters have assigned of it. */
export type KnownStitch = Shown & { readonly assigned: Assigned };

/** The stitches that were read: those of which it is known what they are, and the others, which are not moved. */
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
