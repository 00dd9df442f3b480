import * as z from "zod";
import type { StitchStep } from "./job.ts";
import { compareRevisions, parseRevision, type Revision, revisionText } from "./revision.ts";
import type { RemovedRecord, StitchRecord } from "./stitch.ts";

/** What a Master has decided about a stitch of a node that cannot be asked: it is removed, or has moved. */
export const tombstone = z.object({
  revision: revisionText,
  movedTo: z.string().nullable(),
  /** It speaks only of a stitch that has come from this full id and has not settled; null where it speaks of any. */
  arrivingFrom: z.string().nullable().default(null),
  /** It speaks only of the stitch that was born so, not of another that has its id since; null where it speaks of any. */
  born: revisionText.nullable().default(null),
});
export type Tombstone = z.output<typeof tombstone>;

/** Does a tombstone speak of this stitch, and has nothing newer been applied to it? Then its node will bury it. */
export const buries = (
  { revision, arrivingFrom, born }: Tombstone,
  record: Pick<StitchRecord, "revision" | "movedFrom" | "born">,
): boolean =>
  (arrivingFrom === null || record.movedFrom === arrivingFrom) &&
  (born === null || record.born === born) &&
  compareRevisions(parseRevision(revision), parseRevision(record.revision)) > 0;

/** All that Redis knows of a full id: the stitch there, what is left of the last one that was removed, what a Master decided. */
export type Traces = {
  readonly record: Pick<StitchRecord, "revision" | "movedFrom" | "born"> | null;
  readonly removed: Pick<RemovedRecord, "born" | "movedTo" | "takenBack"> | null;
  readonly tombstone: Tombstone | null;
};

/**
 * Of a stitch that is not there: the full id it has moved to; null where it is gone for good; undefined where nothing says
 * what became of it. What its node says counts before what a Master decided.
 */
function goneTo(born: string, { removed, tombstone: word }: Traces): string | null | undefined {
  if (removed?.born === born) return removed.takenBack === true ? null : removed.movedTo;
  if (word !== null && word.arrivingFrom === null && (word.born ?? born) === born) return word.movedTo;
  return undefined;
}

/**
 * May a stitch that has arrived settle, with nobody there to tell it? `source`: what there is of the full id it comes from.
 * "not yet": that one is still there. "unclear": it is gone, and nothing says that it went here. Then it was removed while
 * it moved: to settle would let it live on.
 */
export function maySettle(
  arrived: { readonly id: string; readonly born: string },
  source: Traces,
): "settles" | "not yet" | "unclear" {
  const { record, tombstone: word } = source;
  if (record?.born === arrived.born)
    return word !== null && buries(word, record) && word.movedTo === arrived.id ? "settles" : "not yet";
  return goneTo(arrived.born, source) === arrived.id ? "settles" : "unclear";
}

/**
 * What a Master is to do about a removal that the stitch's node cannot be asked for: leave word; or nothing, because it has
 * been done ("done", also by an earlier try), or because the stitch is another by now, or was removed for good ("superseded").
 */
export function removalOf(
  { born, movedTo, arrivingFrom }: Extract<StitchStep, { action: "remove" }>,
  traces: Traces,
): "leave word" | "done" | "superseded" {
  const { record } = traces;
  if (born === undefined || record?.born === born) return "leave word";
  // One that arrives may be on the node's disk alone.
  const gone = arrivingFrom === undefined ? goneTo(born, traces) : undefined;
  if (gone !== undefined) return gone === (movedTo ?? null) ? "done" : "superseded";
  return record === null ? "leave word" : "superseded";
}

/**
 * Must the word for an absent node be newer than the step it carries out? What leaves for good, or for another node, may have
 * taken newer commands, also such as its node has not told of: with an older word it would be started again beside the one
 * that lives elsewhere by then. One that arrives may be sent here again by a later wave of the same job, which a newer word
 * would bury: so only where it has taken a newer command.
 */
export function needsNewerWord(
  { arrivingFrom }: Extract<StitchStep, { action: "remove" }>,
  own: Revision,
  { record }: Traces,
): boolean {
  return arrivingFrom === undefined || (record !== null && compareRevisions(own, parseRevision(record.revision)) <= 0);
}
