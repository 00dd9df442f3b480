import type { Chain, JobRecord, Orchestration } from "./job.ts";

export type Progress = { readonly wave: number; readonly waves: number; readonly message: string };

/** What has been done to a stitch, for people. */
export const PAST: Readonly<Record<string, string>> = {
  ping: "answered",
  cordon: "cordoned",
  uncordon: "uncordoned",
  drain: "marked",
  create: "created",
  start: "started",
  stop: "stopped",
  restart: "restarted",
  remove: "removed",
  settle: "moved",
};

/** How far a command of many steps has come: its waves, and of its stitches those that are done. */
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
  const begun = new Set(chains.filter(({ phase }) => phase !== "waiting").map(({ wave }) => wave));
  return Math.max(1, begun.size);
}

function pastOf([first]: readonly Chain[]): string {
  if (first === undefined) return "done";
  const last = first.links.at(-1);
  return PAST[last?.step.action ?? ""] ?? "done";
}
