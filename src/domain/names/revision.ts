import * as z from "zod";

/**
 * The order of everything asked of a stitch: the number each accepted command draws from the cluster's counter, and the
 * wave within a command of many steps. Compared as a pair; the later one wins, on the node and in Redis alike.
 */
export type Revision = { readonly revision: number; readonly wave: number };

const TEXT = /^(\d{1,15})\.(\d{1,9})$/;

/** Written `1042.0`. */
export const revisionText = z.string().regex(TEXT, "a revision is number.wave");

/** Older than every revision a command can draw. */
export const NO_REVISION: Revision = { revision: 0, wave: 0 };

export const formatRevision = (r: Revision): string => `${r.revision}.${r.wave}`;

/** @throws where `text` was not written by `formatRevision`. */
export function parseRevision(text: string): Revision {
  const match = TEXT.exec(text);
  if (match === null) throw new Error(`not a revision: ${JSON.stringify(text.slice(0, 40))}`);
  return { revision: Number(match[1]), wave: Number(match[2]) };
}

/** Negative where `a` is older than `b`, 0 where they are the same, positive where it is newer. */
export function compareRevisions(a: Revision, b: Revision): number {
  return a.revision - b.revision || a.wave - b.wave;
}
