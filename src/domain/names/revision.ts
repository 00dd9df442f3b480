import * as z from "zod";

/**
 * Orders everything that is asked of a stitch: the number that each accepted command draws from the cluster's counter, and
 * the wave within a command of many steps. They are compared as a pair. The higher pair wins, on the node and in Redis.
 */
export type Revision = { readonly revision: number; readonly wave: number };

const TEXT = /^(\d{1,15})\.(\d{1,9})$/;

/** A revision as text, such as `1042.0`. */
export const revisionText = z.string().regex(TEXT, "a revision is number.wave");

/** Older than every revision a command can draw. */
export const NO_REVISION: Revision = { revision: 0, wave: 0 };

export const formatRevision = (r: Revision): string => `${r.revision}.${r.wave}`;

/** @throws if `text` was not written by `formatRevision`. */
export function parseRevision(text: string): Revision {
  const match = TEXT.exec(text);
  if (match === null) throw new Error(`not a revision: ${JSON.stringify(text.slice(0, 40))}`);
  return { revision: Number(match[1]), wave: Number(match[2]) };
}

/** Negative if `a` is older than `b`, 0 if they are the same, positive if `a` is newer. */
export function compareRevisions(a: Revision, b: Revision): number {
  return a.revision - b.revision || a.wave - b.wave;
}
