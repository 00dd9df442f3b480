/** The Masters that can be chosen, the default one first. */
export const MASTER_MODES = ["leaderless", "preferred"] as const;
export type MasterMode = (typeof MASTER_MODES)[number];

/** Which Master a process runs: the same in every process of a cluster. */
export type ChosenMaster = {
  readonly mode: MasterMode;
  /** In the mode `preferred`, the id of the Master that is preferred; else null. */
  readonly preferred: string | null;
};
