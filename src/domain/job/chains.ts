import { fullId, splitFullId } from "../names/ids.ts";
import type { Chain, Link, StitchStep } from "./job.ts";
import { wellBeforeReplacingMs } from "./min-healthy.ts";
import type { Assigned } from "./assignment.ts";
import type { StitchRecord } from "../stitch/stitch.ts";

const chainOf = (stitch: string | null, wave: number, links: Link[], undo: Link | null = null): Chain => ({
  stitch,
  wave,
  links,
  undo,
  phase: "waiting",
  at: 0,
  ref: null,
  greenByMs: null,
  status: null,
  error: null,
});

const onNode = (step: StitchStep, { green = false, cleanup = false } = {}): Link => ({
  node: splitFullId(step.stitch).node,
  runs: "node",
  step,
  green,
  cleanup,
});

/** A chain of one step of one stitch. `green`: the step has ended only when the stitch is green. */
export const stepChain = (step: StitchStep, wave: number, green: boolean): Chain =>
  chainOf(step.stitch, wave, [onNode(step, { green })]);

/** Marks a node as draining, or as cordoned when the drain is over. */
export const eligibilityChain = (node: string, action: "cordon" | "drain", wave: number): Chain =>
  chainOf(null, wave, [
    { node, runs: "master", step: { action, stitch: null }, green: false, cleanup: action === "cordon" },
  ]);

/** What a command says about the starts it makes. */
export type Starting = { readonly timeoutMs: number; readonly minHealthyMs?: number | undefined };

/** Should the stitch run now, by its record? */
export const shouldRun = ({ desired, finished }: Pick<StitchRecord, "desired" | "finished">): boolean =>
  desired === "running" && !finished;

/** A stitch to be moved: its full id, its record as its node shows it, and its assignment by Masters. */
type ToMove = {
  readonly id: string;
  readonly record: Pick<StitchRecord, "desired" | "finished">;
  readonly assigned: Assigned;
};

/**
 * Moves a stitch: the new one is started and must be green before the old one is stopped. When the old one is gone, the new
 * one takes its place. If the new one does not come up in time, it is removed again and the old one stays.
 */
export function moveChain(
  { id: from, record, assigned }: ToMove,
  to: string,
  wave: number,
  { timeoutMs, minHealthyMs: askedMs }: Starting,
): Chain {
  const { group, specHash, spec, placement, born } = assigned;
  const stitch = fullId(to, splitFullId(from).stitch);
  const start = shouldRun(record);
  const minHealthyMs = wellBeforeReplacingMs(spec, askedMs);
  return chainOf(
    from,
    wave,
    [
      onNode(
        { action: "create", stitch, group, specHash, start, timeoutMs, minHealthyMs, placement, movedFrom: from, born },
        { green: start },
      ),
      onNode({ action: "remove", stitch: from, timeoutMs, movedTo: stitch, born }),
      onNode({ action: "settle", stitch, timeoutMs, born }, { cleanup: true }),
    ],
    onNode({ action: "remove", stitch, timeoutMs, arrivingFrom: from, born }, { cleanup: true }),
  );
}
