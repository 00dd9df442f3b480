/** The Masters that can be chosen, the default one first. */
export const MASTER_MODES = ["leaderless"] as const;
export type ChosenMaster = (typeof MASTER_MODES)[number];
