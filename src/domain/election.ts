import * as z from "zod";

/** 128 random bits as hex. */
const ELECTION_ID = /^[0-9a-f]{32}$/;
export const electionId = z.string().regex(ELECTION_ID);
/** Milliseconds that are taken off the right to decide, beside a tenth of the lease: a timer may be late. */
const MARGIN_MS = 200;

/** Elections are ordered by `(epoch, n)`: the epoch first. */
export type Order = { readonly epoch: number; readonly n: number };

/** One term of a leader: `id` says which one it is, the order whether it is newer than another. */
export type Election = Order & { readonly id: string; readonly holder: string };

/** The lease of the leader, as it is stored. `replicationId`: of the Redis that granted it. Times are Redis's, Unix ms. */
export type Lease = { readonly election: Election; readonly untilMs: number; readonly replicationId: string };

/** Thrown if a Master acts under an election that is no longer the current one: nothing was changed. */
export class StaleLeader extends Error {
  override readonly name = "StaleLeader";
}

/** Negative if `a` is older than `b`, 0 if they are equal, positive if `a` is newer. */
export const compareOrder = (a: Order, b: Order): number => a.epoch - b.epoch || a.n - b.n;

/**
 * Until when a Master may decide, by its own monotonic clock: before the lease can have run out, which begins when Redis or etcd
 * handles the request, so not before the request was sent.
 */
export const decidesUntilMs = (sentMs: number, leaseMs: number): number => sentMs + leaseMs - leaseMs / 10 - MARGIN_MS;

/**
 * The election that counts. A lease that another Redis granted is void: after a failover nobody knows which elections were lost.
 * A lease that has run out still counts, because nobody has been elected since.
 */
export const currentElection = (lease: Lease | null, replicationId: string): Election | null =>
  lease !== null && lease.replicationId === replicationId ? lease.election : null;

/** What a Master asks for when it wants to lead. `above`: its epoch must be higher than this one. */
export type Candidacy = {
  readonly id: string;
  readonly holder: string;
  readonly leaseMs: number;
  readonly above: number;
};

/**
 * Elects a candidate, unless the lease of another one runs. The rule that the script `elect` (redis/leader-lease.ts) follows.
 * @param epoch the last epoch that the cluster has seen.
 * @returns the new lease; null if the lease of another one runs.
 */
export function elect(
  lease: Lease | null,
  { id, holder, leaseMs, above }: Candidacy,
  { nowMs, replicationId, epoch }: { readonly nowMs: number; readonly replicationId: string; readonly epoch: number },
): Lease | null {
  const last = currentElection(lease, replicationId);
  const isAbove = last !== null && last.epoch === epoch && epoch > above;
  if (last !== null && lease !== null && lease.untilMs > nowMs && isAbove) return null;
  const order = isAbove ? { epoch, n: last.n + 1 } : { epoch: Math.max(epoch + 1, above + 1, nowMs), n: 1 };
  return { election: { id, holder, ...order }, untilMs: nowMs + leaseMs, replicationId };
}

/** The election under which a job was last decided; `id` is null if a Master of another mode has taken it over since. */
export type JobElection = Order & { readonly id: string | null };

const FORM = /^(\d{1,16}) (\d{1,16}) ([0-9a-f]{32}|-)$/;

/** How a job's record holds its election: epoch, n, id. */
export const jobElectionText = ({ epoch, n, id }: JobElection): string => `${epoch} ${n} ${id ?? "-"}`;

export const jobElection = z.string().transform((text, context): JobElection => {
  const [, epoch, n, id = "-"] = FORM.exec(text) ?? [];
  if (epoch !== undefined) return { epoch: Number(epoch), n: Number(n), id: id === "-" ? null : id };
  context.issues.push({ code: "custom", message: "must be epoch, n and id of an election", input: text });
  return z.NEVER;
});

/**
 * May a Master with this order take the job over? Not a job of an order as high or higher: it was decided under an election that
 * Redis has lost since. The rule that the script `take_over_job` follows.
 */
export const mayTakeOver = (job: JobElection | null, own: Order): boolean => job === null || compareOrder(job, own) < 0;

/** May a Master under this election (null: of a mode without elections) save the job? The rule of the scripts that save. */
export const maySave = (job: JobElection | null, own: string | null): boolean => (job?.id ?? null) === own;

/** May a runner that has claimed a task apply it? `current`: read after the claim was answered. */
export const mayApply = (task: string, current: Election | null): boolean => task === current?.id;

/** Where the leader's lease lives. All times are durations: each store has a clock of its own. */
export interface LeaderLease {
  /** Its place, as the setting names it: `redis`, or `etcd+http://host:port,…`. */
  readonly place: string;
  /**
   * Tries to be elected. Not safe to repeat under the same id.
   * @throws RequestError `wrong_mode` if the cluster's Masters have another mode, or keep their lease in another place.
   */
  win(candidacy: Candidacy): Promise<Won | Held>;
  /** Renews the lease. @returns false if it is lost. @throws as `win`. Safe to repeat. */
  renew(election: Election, leaseMs: number): Promise<boolean>;
  /** Gives the lease back, so that another one need not wait. Safe to repeat. */
  giveBack(election: Election): Promise<void>;
}

/** `before`: the election that ended with this one, unless its leader gave the lease back; null if there was none. */
export type Won = { readonly election: Election; readonly before: Pick<Election, "id" | "holder"> | null };
/** The lease of another Master runs for `leftMs` more. */
export type Held = { readonly election: null; readonly leftMs: number };
