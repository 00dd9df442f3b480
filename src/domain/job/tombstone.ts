import * as z from "zod";
import type { StitchStep } from "./job.ts";
import { compareRevisions, parseRevision, type Revision, revisionText } from "../names/revision.ts";
import type { RemovedRecord, StitchRecord } from "../stitch/stitch.ts";

/** What a Master has decided about a stitch of a node that is away: the stitch is removed, or has moved. */
export const tombstone = z.object({
  revision: revisionText,
  movedTo: z.string().nullable(),
  /** The tombstone means only a stitch that is arriving from this full id; null: it means any stitch with the id. */
  arrivingFrom: z.string().nullable().default(null),
  /** The tombstone means only the stitch with this `born`, not another one that got its id since; null: it means any. */
  born: revisionText.nullable().default(null),
});
export type Tombstone = z.output<typeof tombstone>;

/** Does a tombstone mean this stitch, and has nothing newer been applied to it? Then its node removes it. */
export const buries = (
  { revision, arrivingFrom, born }: Tombstone,
  record: Pick<StitchRecord, "revision" | "movedFrom" | "born">,
): boolean =>
  (arrivingFrom === null || record.movedFrom === arrivingFrom) &&
  (born === null || record.born === born) &&
  compareRevisions(parseRevision(revision), parseRevision(record.revision)) > 0;

/** All that Redis knows about a full id: the stitch there, the removed record of the last one, and a Master's tombstone. */
export type Traces = {
  readonly record: Pick<StitchRecord, "revision" | "movedFrom" | "born"> | null;
  readonly removed: Pick<RemovedRecord, "born" | "movedTo" | "takenBack"> | null;
  readonly tombstone: Tombstone | null;
};

/**
 * For a stitch that is not there: the full id it has moved to; null if it is gone for good; undefined if nothing says what
 * happened to it. What its node says counts before what a Master decided.
 */
function goneTo(born: string, { removed, tombstone: left }: Traces): string | null | undefined {
  if (removed?.born === born) return removed.takenBack === true ? null : removed.movedTo;
  if (left !== null && left.arrivingFrom === null && (left.born ?? born) === born) return left.movedTo;
  return undefined;
}

/**
 * May the node of an arriving stitch confirm its move by itself? `source`: all that Redis knows of the full id it comes from.
 * "not yet": the stitch is still there. "unclear": it is gone, and nothing says that it came here. Then it was removed while it
 * moved: a confirmed move would keep the removed stitch running.
 */
export function mayConfirmArrival(
  arrived: { readonly id: string; readonly born: string },
  source: Traces,
): "yes" | "not yet" | "unclear" {
  const { record, tombstone: left } = source;
  if (record?.born === arrived.born)
    return left !== null && buries(left, record) && left.movedTo === arrived.id ? "yes" : "not yet";
  return goneTo(arrived.born, source) === arrived.id ? "yes" : "unclear";
}

/**
 * What a Master does about a removal whose node does not answer.
 * - "write tombstone": the node will remove the stitch when it is back.
 * - "done": the stitch has been removed already, perhaps by an earlier try of this step. Nothing to do.
 * - "superseded": another stitch has the id by now, or this one was removed in another way. Nothing to do.
 */
export function removalOf(
  { born, movedTo, arrivingFrom }: Extract<StitchStep, { action: "remove" }>,
  traces: Traces,
): "write tombstone" | "done" | "superseded" {
  const { record } = traces;
  if (born === undefined || record?.born === born) return "write tombstone";
  // An arriving stitch may exist only on the node's disk.
  const gone = arrivingFrom === undefined ? goneTo(born, traces) : undefined;
  if (gone !== undefined) return gone === (movedTo ?? null) ? "done" : "superseded";
  return record === null ? "write tombstone" : "superseded";
}

/**
 * Does the tombstone for a removal need a newer revision than the removal itself?
 *
 * Yes for a stitch that is removed for good, or moves to another node: its node may have applied newer commands that it has not
 * published yet. An older tombstone would not remove it, and it would run twice.
 *
 * For a stitch that is arriving, only if it has applied a newer command: a later wave of the same job may send it here again,
 * and a newer tombstone would remove that one too.
 */
export function needsNewerTombstone(
  { arrivingFrom }: Extract<StitchStep, { action: "remove" }>,
  own: Revision,
  { record }: Traces,
): boolean {
  return arrivingFrom === undefined || (record !== null && compareRevisions(own, parseRevision(record.revision)) <= 0);
}
