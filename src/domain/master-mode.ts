/** The Masters that come with CrossStitch, the default one first. */
export const NAMED_MODES = ["leaderless", "preferred"] as const;
/** How the Masters of a cluster work. `own`: a module of the user (`STITCH_MASTER=<path>`). */
export const MASTER_MODES = [...NAMED_MODES, "own"] as const;
export type MasterMode = (typeof MASTER_MODES)[number];

/** Which Master a process runs: the same in every process of a cluster. */
export type ChosenMaster = {
  readonly mode: MasterMode;
  /** In the mode `preferred`, the id of the Master that is preferred; else null. */
  readonly preferred: string | null;
};

/** The settings of a process with this Master, as they are typed. */
export function settingOf({ mode, preferred }: { readonly mode: string; readonly preferred: string | null }): string {
  if (mode === "own") return "STITCH_MASTER=<path of a module>";
  return `STITCH_MASTER=${mode}${preferred ? ` STITCH_MASTER_PREFERRED=${preferred}` : ""}`;
}
