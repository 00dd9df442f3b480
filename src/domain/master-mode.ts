import * as z from "zod";
import type { Election } from "./election.ts";

/** The Masters that come with CrossStitch, the default one first. */
export const NAMED_MODES = ["leaderless", "preferred", "leader"] as const;
/** How the Masters of a cluster work. `own`: a module of the user (`STITCH_MASTER=<path>`). */
export const MASTER_MODES = [...NAMED_MODES, "own"] as const;
export type MasterMode = (typeof MASTER_MODES)[number];

/** Which Master a process runs: the same in every process of a cluster. */
export type ChosenMaster = {
  readonly mode: MasterMode;
  /** In the mode `preferred`, the id of the Master that is preferred; else null. */
  readonly preferred: string | null;
  /** In the mode `leader`, where the leader's lease lives (see `LeaderLease.place`); else null. */
  readonly lease: string | null;
};

/** The lease's place unless another one is set. */
export const LEASE_IN_REDIS = "redis";
/** Most characters of a place: the addresses of the members of an etcd cluster. */
const MOST_CHARACTERS = 1000;
const ETCD_PLACE = /^etcd\+https?:\/\/[A-Za-z0-9.-]+:\d{1,5}(,[A-Za-z0-9.-]+:\d{1,5})*$/;

/** Where the leader's lease may live. */
export const leasePlace = z
  .string()
  .max(MOST_CHARACTERS)
  .refine((text) => text === LEASE_IN_REDIS || ETCD_PLACE.test(text), {
    error: `must be ${LEASE_IN_REDIS}, or the members of an etcd: etcd+http://host:port,host:port or etcd+https://…`,
  });

/**
 * What a Master decides by: the mode of its cluster and, in the mode `leader`, the election that it has won (else null). Redis
 * compares both with its own before it changes anything.
 */
export type Right = ChosenMaster & { readonly election: Election | null };

/** The settings of a process with this Master, as they are typed. */
export function settingOf({
  mode,
  preferred,
  lease,
}: Record<"preferred" | "lease", string | null> & { readonly mode: string }): string {
  if (mode === "own") return "STITCH_MASTER=<path of a module>";
  const place = lease && lease !== LEASE_IN_REDIS ? ` STITCH_LEADER_LEASE=${lease}` : "";
  return `STITCH_MASTER=${mode}${preferred ? ` STITCH_MASTER_PREFERRED=${preferred}` : ""}${place}`;
}
