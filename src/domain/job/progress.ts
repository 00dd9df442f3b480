import { type Chain, type JobRecord, type Orchestration, PAST } from "./job.ts";

export type Progress = { readonly wave: number; readonly waves: number; readonly message: string };

/** How far a command of many steps has come: its waves, and how many of its stitches are done. */
export function progressOf({ orchestration }: Pick<JobRecord, "orchestration">): Progress {
  const chains = orchestration?.chains ?? [];
  const stitches = chains.filter(({ stitch }) => stitch !== null);
  const done = stitches.filter(({ status }) => status === "succeeded");
  return {
    wave: orchestration === null ? 1 : waveOf(orchestration),
    waves: new Set(chains.map(({ wave }) => wave)).size || 1,
    message: `${done.length} of ${stitches.length} ${pastOf(stitches)}`,
  };
}

/** Counted from 1. */
function waveOf({ chains }: Orchestration): number {
  const isBegun = ({ phase, ref }: Chain) => phase === "running" || phase === "undoing" || ref !== null;
  const begun = new Set(chains.filter(isBegun).map(({ wave }) => wave));
  return Math.max(1, begun.size);
}

/** The word for what is done to the stitches; "done" if that is not the same for all. */
function pastOf(chains: readonly Chain[]): string {
  const [only, ...others] = new Set(chains.map(({ links }) => links.at(-1)?.step.action));
  return only === undefined || others.length > 0 ? "done" : PAST[only];
}
