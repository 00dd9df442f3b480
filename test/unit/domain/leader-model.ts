// A small model of leaders for an exhaustive search: two Masters, one job with one task at a time, one node. What decides is the
// code of production (src/domain/election.ts); what Lua does follows the scripts in src/redis, and leader-replay.test.ts compares
// the two.
import {
  compareOrder,
  currentElection,
  decidesUntilMs,
  type Election,
  elect,
  type JobElection,
  type Lease,
  mayApply,
  maySave,
  mayTakeOver,
} from "../../../src/domain/election.ts";

export const LEASE_MS = 1000;
/** In the model, time goes in steps of this length. A Master decides for less than two of them after a renewal. */
const TICK_MS = 500;

/** How production can be broken: the search must find each. `attemptNotRaised`: neither at a take-over nor after a stale claim. */
export type Flaw =
  | "none"
  | "electionBeforeClaim"
  | "payloadNotCompared"
  | "attemptNotRaised"
  | "replicationIdNotCompared";

export type Bounds = { readonly elections: number; readonly saves: number; readonly attempts: number };

/** `task`: the number of the task, which is its id. `payload`: what it is to do. */
type Entry = { readonly task: number; readonly attempt: number; readonly payload: string; readonly election: string };
export type Job = {
  readonly election: JobElection;
  readonly task: number;
  readonly attempt: number;
  readonly payload: string;
  /** The attempts of the task that were claimed, and those that were not applied afterwards. */
  readonly claimed: readonly number[];
  readonly stale: readonly number[];
};
export type Master = {
  readonly election: Election | null;
  readonly untilMs: number;
  /** What it has read and is about to act on: it may be paused for any time in between. */
  readonly read: Job | null;
  readonly toSend: Entry | null;
};
export type State = {
  /** Redis's clock, and the steady clock of the Masters. */
  readonly nowMs: number;
  readonly steadyMs: number;
  readonly hasJumped: boolean;
  readonly replicationId: string;
  /** The server of a Redis Cluster that has the job has failed over. */
  readonly hasLostJob: boolean;
  readonly epoch: number;
  readonly lease: Lease | null;
  /** What a failover that loses the last write brings back. */
  readonly leaseBefore: Lease | null;
  readonly job: Job;
  readonly jobBefore: Job;
  readonly elections: number;
  readonly saves: number;
  readonly masters: readonly [Master, Master];
  /** By `<task>.<attempt>`: an id that was used is never taken again, also after the entry is gone. */
  readonly queue: readonly (readonly [id: string, entry: Entry])[];
  readonly node: {
    readonly entry: Entry;
    /** What it has found to be current; undefined: it has not looked. */
    readonly seen: string | null | undefined;
    readonly hasClaimed: boolean;
    /** For the properties: the election and the content of the record when the claim was answered. */
    readonly atClaim: { readonly election: string | null; readonly payload: string } | null;
  } | null;
  readonly applied: readonly string[];
};
export type Step = { readonly action: string; readonly next: State };

const NOBODY: Master = { election: null, untilMs: 0, read: null, toSend: null };
const FIRST_JOB: Job = {
  election: { epoch: 0, n: 0, id: null },
  task: 0,
  attempt: 1,
  payload: "p0",
  claimed: [],
  stale: [],
};

export const FIRST: State = {
  nowMs: 10_000,
  steadyMs: 0,
  hasJumped: false,
  replicationId: "r0",
  hasLostJob: false,
  epoch: 0,
  lease: null,
  leaseBefore: null,
  job: FIRST_JOB,
  jobBefore: FIRST_JOB,
  elections: 0,
  saves: 0,
  masters: [NOBODY, NOBODY],
  queue: [],
  node: null,
  applied: [],
};

/**
 * Names a state, so that states from which the same can happen have one name: times by how much of them is left, epochs by their
 * order, either Master in the place of the other, and nothing that nobody can look at any more.
 */
export function nameOf(state: State): string {
  const { nowMs, steadyMs, masters, lease, leaseBefore, job, jobBefore, epoch, queue, node, replicationId } = state;
  const canFailOver = replicationId === "r0";
  const former = canFailOver || !state.hasLostJob ? jobBefore : job;
  const epochs = [epoch, lease, leaseBefore, job, former, ...masters]
    .map((each) => (typeof each === "number" ? each : epochOf(each)))
    .toSorted((a, b) => a - b);
  const rank = (each: number) => epochs.indexOf(each);
  const orderOf = (each: JobElection | Election | null | undefined) => each && [rank(each.epoch), each.n, each.id];
  const nameOfLease = (each: Lease | null) =>
    each && [orderOf(each.election), Math.max(0, each.untilMs - nowMs), each.replicationId];
  const nameOfJob = (each: Job) => [
    orderOf(each.election),
    each.task,
    each.attempt,
    each.payload,
    each.claimed,
    each.stale,
  ];
  const nameOfEntry = (each: Entry | null) => each && [each.task, each.attempt, each.payload, each.election];
  const nameOfMaster = ({ election, untilMs, read, toSend }: Master) =>
    JSON.stringify([orderOf(election), Math.max(0, untilMs - steadyMs), read === job, nameOfEntry(toSend)]);
  const oldest = Math.min(job.task, former.task);
  return JSON.stringify([
    [state.hasJumped, replicationId, state.hasLostJob, rank(epoch), state.elections, state.saves],
    [nameOfLease(lease), canFailOver ? nameOfLease(leaseBefore) : null, nameOfJob(job), nameOfJob(former)],
    masters.map(nameOfMaster).sort(),
    queue.filter(([, { task }]) => task >= oldest).map(([, entry]) => nameOfEntry(entry)),
    node && [nameOfEntry(node.entry), node.seen, node.hasClaimed, node.atClaim],
    state.applied.filter((each) => Number(each.split(" ")[0]) >= oldest),
  ]);
}

function epochOf(of: Lease | Job | Master | null): number {
  if (of === null) return 0;
  return of.election?.epoch ?? 0;
}

/** A property that does not hold in a state. */
export class Broken extends Error {
  override readonly name = "Broken";
}

const current = (state: State, flaw: Flaw): Election | null =>
  flaw === "replicationIdNotCompared"
    ? (state.lease?.election ?? null)
    : currentElection(state.lease, state.replicationId);

/** Everything that may happen next. */
export function* steps(state: State, bounds: Bounds, flaw: Flaw): Generator<Step> {
  // A tick changes nothing once every time has run out.
  const isWaiting =
    (state.lease?.untilMs ?? 0) > state.nowMs || state.masters.some(({ untilMs }) => untilMs > state.steadyMs);
  if (isWaiting)
    yield {
      action: "tick",
      next: { ...state, nowMs: state.nowMs + TICK_MS, steadyMs: state.steadyMs + TICK_MS },
    };
  // Redis's clock is set forward: the lease seems to have run out, and the leader does not know.
  if (!state.hasJumped)
    yield { action: "jump", next: { ...state, nowMs: state.nowMs + 10 * LEASE_MS, hasJumped: true } };
  if (state.replicationId === "r0")
    for (const losesLease of [false, true])
      for (const losesJob of [false, true])
        yield {
          action: `failover ${losesLease} ${losesJob}`,
          next: {
            ...state,
            replicationId: "r1",
            lease: losesLease ? state.leaseBefore : state.lease,
            job: losesJob ? state.jobBefore : state.job,
          },
        };
  if (!state.hasLostJob && state.jobBefore !== state.job)
    yield { action: "job's failover", next: { ...state, hasLostJob: true, job: state.jobBefore } };
  for (const index of [0, 1] as const) yield* ofMaster(state, index, bounds, flaw);
  yield* ofNode(state, flaw);
}

function* ofMaster(state: State, index: 0 | 1, bounds: Bounds, flaw: Flaw): Generator<Step> {
  const master = state.masters[index];
  const become = (changed: Partial<Master>, rest: Partial<State> = {}): State => ({
    ...state,
    ...rest,
    masters:
      index === 0 ? [{ ...master, ...changed }, state.masters[1]] : [state.masters[0], { ...master, ...changed }],
  });
  const isRenewed = master.election !== null && current(state, flaw)?.id === master.election.id;
  const untilMs = decidesUntilMs(state.steadyMs, LEASE_MS);
  if (
    isRenewed &&
    state.lease !== null &&
    (state.lease.untilMs !== state.nowMs + LEASE_MS || master.untilMs !== untilMs)
  )
    yield {
      action: `renew ${index}`,
      next: become({ untilMs }, { lease: { ...state.lease, untilMs: state.nowMs + LEASE_MS } }),
    };
  if (!isRenewed && state.elections < bounds.elections) {
    const id = `e${state.elections}`;
    const at = {
      nowMs: state.nowMs,
      replicationId: flaw === "replicationIdNotCompared" ? (state.lease?.replicationId ?? "r0") : state.replicationId,
      epoch: state.epoch,
    };
    const lease = elect(state.lease, { id, holder: "", leaseMs: LEASE_MS, above: 0 }, at);
    if (lease !== null)
      yield {
        action: `elect ${index}`,
        next: become(
          { ...NOBODY, election: lease.election, untilMs },
          { lease, leaseBefore: state.lease, epoch: lease.election.epoch, elections: state.elections + 1 },
        ),
      };
  }
  const { election, read, toSend } = master;
  const mayDecide = election !== null && state.steadyMs < master.untilMs;
  if (mayDecide && read !== state.job && toSend === null)
    yield { action: `read ${index}`, next: become({ read: state.job }) };
  // From here on it may have been paused since it asked whether it may decide.
  if (election !== null && toSend !== null) {
    const { task, attempt } = toSend;
    const id = `${task}.${attempt}`;
    const isUsed = state.queue.some(([used]) => used === id);
    const queue = isUsed ? state.queue : [...state.queue, [id, toSend] as const];
    yield { action: `send ${index}`, next: become({ toSend: null }, { queue }) };
  }
  // Compare and set: what is saved is made from what was read.
  if (election === null || read === null || toSend !== null || read !== state.job) return;
  const write = (job: Job, saves = state.saves): State => {
    if (compareOrder(job.election, state.job.election) < 0) throw new Broken("a job was saved under an older election");
    const entry = { task: job.task, attempt: job.attempt, payload: job.payload, election: election.id };
    return become({ read: null, toSend: entry }, { job, jobBefore: state.job, saves });
  };
  const isOwn = maySave(state.job.election, election.id);
  const raised = state.job.attempt + (flaw === "attemptNotRaised" ? 0 : 1);
  if (!isOwn && mayTakeOver(state.job.election, election) && raised <= bounds.attempts)
    yield { action: `take over ${index}`, next: write({ ...state.job, election, attempt: raised }) };
  // The task is over, so the next one is begun. Which one that is, depends on who decides, and when.
  if (isOwn && isDone(state) && state.saves < bounds.saves) {
    const payload = `p${state.saves + 1}`;
    const job = { election, task: state.job.task + 1, attempt: 1, payload, claimed: [], stale: [] };
    yield { action: `save ${index}`, next: write(job, state.saves + 1) };
  }
  const isStale = state.job.stale.includes(state.job.attempt);
  if (isOwn && isStale && flaw !== "attemptNotRaised" && state.job.attempt < bounds.attempts)
    yield { action: `raise ${index}`, next: write({ ...state.job, attempt: state.job.attempt + 1 }) };
}

const isDone = ({ job, applied }: State): boolean => applied.includes(`${job.task} ${job.payload}`);

function* ofNode(state: State, flaw: Flaw): Generator<Step> {
  const { node, job, queue } = state;
  if (node === null) {
    // An entry may be delivered again and again, and late.
    for (const [, entry] of queue) {
      const delivered = { entry, seen: undefined, hasClaimed: false, atClaim: null };
      const next = { ...state, node: delivered };
      if (flaw === "electionBeforeClaim") yield { action: "look first", next: looked(next, delivered, flaw) };
      else yield claimed(next, flaw);
    }
    return;
  }
  if (!node.hasClaimed) yield claimed(state, flaw);
  else if (node.seen === undefined) yield { action: "look", next: looked(state, node, flaw) };
  else yield { action: "finish", next: finished(state, node.entry, node.seen, node.atClaim) };

  function claimed(from: State, how: Flaw): Step {
    const delivery = from.node;
    if (delivery === null) throw new Error("nothing was delivered");
    const { entry } = delivery;
    const isCurrent = entry.task === job.task && entry.attempt === job.attempt && !job.stale.includes(entry.attempt);
    if (!isCurrent) return { action: `claim ${entry.task}.${entry.attempt}`, next: { ...from, node: null } };
    if (how !== "payloadNotCompared" && entry.payload !== job.payload) {
      const stale = job.claimed.includes(entry.attempt) ? job.stale : [...job.stale, entry.attempt];
      return { action: `claim ${entry.task}.${entry.attempt}`, next: { ...from, job: { ...job, stale }, node: null } };
    }
    const claims = job.claimed.includes(entry.attempt) ? job.claimed : [...job.claimed, entry.attempt];
    const atClaim = { election: current(from, how)?.id ?? null, payload: job.payload };
    return {
      action: `claim ${entry.task}.${entry.attempt}`,
      next: { ...from, job: { ...job, claimed: claims }, node: { ...delivery, hasClaimed: true, atClaim } },
    };
  }
}

const looked = (state: State, node: NonNullable<State["node"]>, flaw: Flaw): State => ({
  ...state,
  node: { ...node, seen: current(state, flaw)?.id ?? null },
});

function finished(
  state: State,
  entry: Entry,
  seen: string | null,
  atClaim: NonNullable<State["node"]>["atClaim"],
): State {
  const { job } = state;
  if (!mayApply(entry.election, seen === null ? null : { id: seen, holder: "", epoch: 0, n: 0 })) {
    const isItsTask = job.task === entry.task && !job.stale.includes(entry.attempt);
    return { ...state, node: null, job: isItsTask ? { ...job, stale: [...job.stale, entry.attempt] } : job };
  }
  // P10. An equal election that was read after the claim proves that no other one had begun at the claim.
  if (atClaim?.election !== entry.election)
    throw new Broken(`applied under ${entry.election}, although ${atClaim?.election} was current after the claim`);
  if (atClaim.payload !== entry.payload) throw new Broken(`task ${entry.task} was applied with another content`);
  const what = `${entry.task} ${entry.payload}`;
  return { ...state, node: null, applied: state.applied.includes(what) ? state.applied : [...state.applied, what] };
}

/**
 * Fails if a job can never go on: its leader is the current one and has sent its task, the task is not applied, and the node has no
 * entry of it left that it could claim, either to apply it or to tell that it was not applied.
 */
export function checkProgress(state: State, bounds: Bounds, flaw: Flaw): void {
  const { job, queue, node } = state;
  const now = current(state, flaw);
  if (now === null || job.election.id !== now.id || isDone(state) || node !== null) return;
  if (state.masters.some(({ election, toSend }) => election?.id === now.id && toSend !== null)) return;
  if (job.attempt >= bounds.attempts) return;
  const isStale = job.stale.includes(job.attempt);
  // The leader raises the attempt of a task that was not applied because of another one.
  if (isStale && flaw !== "attemptNotRaised") return;
  const canCome = queue.some(([, { task, attempt }]) => task === job.task && attempt === job.attempt);
  if (isStale || !canCome) throw new Broken(`task ${job.task} can never be applied`);
}
