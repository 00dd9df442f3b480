import * as z from "zod";
import { RequestError } from "../errors.ts";
import type { FoldedTask } from "./fold.ts";
import { fullGroupName } from "../names/group.ts";
import { splitFullId } from "../names/ids.ts";
import type { JobRecord, Task } from "./job.ts";
import { placementOptions } from "../stitch/placement-options.ts";
import { formatRevision, revisionText } from "../names/revision.ts";
import { type KnownSpec, specHash } from "../stitch/spec.ts";

/**
 * What a Master has given a node to run under a stitch's id. Copies and moves of the stitch use this, never the record that
 * the node writes. `born`: as in `StitchRecord`. `placed`: the revision of the create on this node.
 */
export const assignment = z.object({
  specHash,
  group: fullGroupName,
  placement: placementOptions,
  born: revisionText,
  placed: revisionText,
});
export type Assignment = z.output<typeof assignment>;

/**
 * An assignment as it is stored. `isOver`: the create did not happen, or its stitch was removed or has moved away. Then the
 * assignment serves only to bring back the removed stitch.
 */
export type KeptAssignment = Assignment & { readonly isOver: boolean };

/** Which assignments the end of a job ends: that of a create, or all before a removal (of the stitch with this `born`). */
export type AssignmentEnd =
  | { readonly stitch: string; readonly created: string }
  | { readonly stitch: string; readonly removed: string; readonly born: string | null };

/** An assignment with its spec, as the store has it. */
export type Assigned = Assignment & Pick<KnownSpec, "spec">;

/** What the tasks of a job assign: by node, and by the stitch's bare id. */
export function assignmentsIn(
  { revision }: Pick<JobRecord, "revision">,
  tasks: readonly Task[],
): Map<string, Map<string, Assignment>> {
  const byNode = new Map<string, Map<string, Assignment>>();
  for (const { node, steps, wave } of tasks)
    for (const step of steps) {
      if (step.action !== "create") continue;
      const placed = formatRevision({ revision, wave });
      const { group, placement = { strategy: "spread" }, born = placed } = step;
      const ofNode = byNode.get(node) ?? new Map<string, Assignment>();
      byNode.set(node, ofNode);
      ofNode.set(splitFullId(step.stitch).stitch, { specHash: step.specHash, group, placement, born, placed });
    }
  return byNode;
}

/** The assignments that the end of a job ends, by node. A step with an unknown outcome ends nothing. */
export function assignmentEndsIn(
  { revision }: Pick<JobRecord, "revision">,
  tasks: readonly FoldedTask[],
): Map<string, AssignmentEnd[]> {
  const byNode = new Map<string, AssignmentEnd[]>();
  for (const { task, steps } of tasks)
    for (const { step, status, outcome } of steps) {
      if (step.stitch === null) continue;
      const { stitch } = splitFullId(step.stitch);
      const own = formatRevision({ revision, wave: task.wave });
      const ends: AssignmentEnd[] = byNode.get(task.node) ?? [];
      byNode.set(task.node, ends);
      const hasChanged = outcome?.changed === true;
      if (step.action === "create" && !hasChanged && status !== "succeeded" && status !== "unknown")
        ends.push({ stitch, created: own });
      // A removal that had nothing to remove says nothing about what is there.
      if (step.action === "remove" && hasChanged) ends.push({ stitch, removed: own, born: step.born ?? null });
    }
  return byNode;
}

/** Why a stitch that only its node shows is not copied or moved (the node's word is not enough), and what to do next. */
export const whyUnknown = (stitch: string): string =>
  `no Master has assigned ${stitch}, by what Redis holds, or its spec is not stored any more. Where Redis came back empty or ` +
  `older, "stitch adopt ${splitFullId(stitch).node}" has Masters go by what the node says`;

/** @throws RequestError `spec_unknown` */
export function assignedTo(stitch: string, assigned: ReadonlyMap<string, Assigned>): Assigned {
  const found = assigned.get(stitch);
  if (found === undefined) throw specUnknown(stitch);
  return found;
}

export const specUnknown = (stitch: string): RequestError =>
  new RequestError("spec_unknown", `What "${stitch}" runs is not known: ${whyUnknown(stitch)}. Nothing was changed.`);
