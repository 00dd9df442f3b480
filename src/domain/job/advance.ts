import { eligibilityChain } from "./chains.ts";
import { type FoldedJob, type FoldedStep, hasEnded } from "./fold.ts";
import type {
  Chain,
  FinalStatus,
  JobRecord,
  JobState,
  Link,
  Orchestration,
  Replacement,
  StitchStep,
  Task,
} from "./job.ts";
import type { Health, StepError } from "../stitch/stitch.ts";

/** How soon a Master looks again at a stitch that is not green yet, and at a node that is being drained. */
const LOOK_MS = 500;
const DRAIN_LOOK_MS = 2000;
/**
 * How long a node has to claim a cleanup task: from when the task is sent, or from the deadline if that is later. The task
 * may be sent late, because there was no Master before.
 */
const CLEANUP_MS = 60_000;

/** What a Master has read for one advance. */
export type JobObservation = {
  readonly nowMs: number;
  /** By full id, of the stitches that `awaited` names; null if the stitch is not there, or another one has the id by now. */
  readonly health: ReadonlyMap<string, Health | null>;
  /** What a drain found on its node. null: nothing was read, because nothing was asked for (see `asksForDrain`). */
  readonly drain: DrainObservation | null;
  /** How many of the stitches that must be well before anything begins are well; null: nobody has looked. */
  readonly well: number | null;
};

export type DrainObservation = {
  /** A later command has made the node eligible again. */
  readonly uncordoned: boolean;
  /** Full ids of the stitches on the node that are at work. */
  readonly running: readonly string[];
  /** The node itself says that no stitch is at work and that it takes no new ones; or the node is gone. */
  readonly confirmed: boolean;
  /** The chains that move the stitches that can be moved now. */
  readonly moves: readonly Chain[];
  /** The chains that stop the stitches that are left. */
  readonly stops: readonly Chain[];
};

export type Advanced = {
  /** The record to save; the same object that was given if there is nothing to do. */
  readonly record: JobRecord;
  /** Tasks to dispatch once it is saved. */
  readonly tasks: readonly Task[];
  /** Tasks that are given up: no node may claim them any more. */
  readonly givenUp: readonly string[];
  /** When to look again even if no outcome came; null if an outcome will tell when to look. */
  readonly wakeAtMs: number | null;
};

const isOpen = ({ phase }: Chain): boolean => phase !== "ended";
const isUnderWay = ({ phase }: Chain): boolean => phase === "running" || phase === "undoing";

/** The steps of the stitches whose health the next advance must know. */
export function awaited({ chains }: Orchestration): StitchStep[] {
  return chains.flatMap(({ phase, at, ref, links }) => {
    const link = links[at];
    return phase === "running" && ref !== null && link?.green === true && link.step.stitch !== null ? [link.step] : [];
  });
}

/**
 * Is this a drain that must look at its node to know what comes next, if anything? Once the drain forces, it also looks
 * while moves are under way: a move that takes long must not delay a stop.
 */
export function asksForDrain({ forceAtMs, ended, chains }: Orchestration, nowMs: number): boolean {
  if (forceAtMs === null || ended !== null) return false;
  const isMarked = chains[0]?.phase === "ended";
  return (isMarked && nowMs >= forceAtMs) || !chains.some(isUnderWay);
}

/**
 * Brings a command of many steps forward as far as it goes: reads which steps have ended, decides for every chain what comes
 * next, begins the next wave when the last has ended, and ends the job when nothing is left. Pure: the same state gives the
 * same answer, so that any Master may do it at any time, and again after a crash.
 */
export function advance(state: JobState, folded: FoldedJob, seen: JobObservation): Advanced {
  const { record } = state;
  const orchestration = record.orchestration;
  if (orchestration === null || orchestration.ended !== null) return { record, tasks: [], givenUp: [], wakeAtMs: null };
  const steps = stepsByRef(folded);
  const over = overBy(state);
  const waiting = orchestration.chains.map((chain) => follow(chain, steps, over, seen));
  const { replacement } = orchestration;
  const isReplaced = replacement === null || (seen.well !== null && seen.well >= replacement.atLeast);
  if (!isReplaced && over === null && seen.nowMs < replacement.byMs)
    return { record, tasks: [], givenUp: [], wakeAtMs: Math.min(seen.nowMs + LOOK_MS, replacement.byMs) };
  const why = over ?? (isReplaced ? null : notWell(replacement, seen)) ?? stoppedBy(waiting, orchestration, seen);
  let chains =
    why === null ? waiting : waiting.map((chain) => (chain.phase === "waiting" ? endedBy(chain, why) : chain));
  let wakeAtMs = chains.some(({ greenByMs, phase }) => greenByMs !== null && phase === "running")
    ? seen.nowMs + LOOK_MS
    : null;
  // Once its node is marked, a drain looks at the node before each wave: the node may have been uncordoned.
  const mustLook = orchestration.forceAtMs !== null && seen.drain === null && chains[0]?.phase === "ended";
  if (!mustLook) chains = beginWave(chains);
  else if (!chains.some(isUnderWay) && chains.some(isOpen)) wakeAtMs = seen.nowMs;
  let ended: FinalStatus | null = null;
  if (orchestration.forceAtMs !== null && chains.some(isUnderWay)) {
    chains = [...chains, ...stopsBeside(orchestration.forceAtMs, chains, over, seen)];
    const lookAtMs = seen.nowMs < orchestration.forceAtMs ? orchestration.forceAtMs : seen.nowMs + DRAIN_LOOK_MS;
    wakeAtMs = Math.min(wakeAtMs ?? lookAtMs, lookAtMs);
  }
  if (!chains.some(isOpen)) {
    const next = orchestration.forceAtMs === null ? null : drainOn(orchestration.forceAtMs, chains, over, seen);
    if (next === null) ended = verdictOf(chains, over);
    else {
      chains = beginWave([...chains, ...next.chains]);
      ({ ended } = next);
      wakeAtMs = next.wakeAtMs;
    }
  }
  return send(record, { ...orchestration, chains, ended, replacement: null }, steps, seen.nowMs, wakeAtMs);
}

/** Makes tasks from the links that must be sent: one task for each node and kind, for any number of links. */
function send(
  record: JobRecord,
  next: Orchestration,
  steps: ReadonlyMap<string, FoldedStep>,
  nowMs: number,
  wakeAtMs: number | null,
): Advanced {
  const before = record.orchestration;
  const tasks = new Map<string, { link: Link; chains: Chain[] }>();
  for (const chain of next.chains) {
    const link = linkToSend(chain);
    if (link === null) continue;
    const key = [link.node, link.runs, link.cleanup].join();
    const task = tasks.get(key);
    if (task === undefined) tasks.set(key, { link, chains: [chain] });
    else task.chains.push(chain);
  }
  const refs = new Map<Chain, string>();
  const made = [...tasks.values()].map(({ link, chains }, index): Task => {
    const id = `t${record.tasks.length + index}`;
    for (const [step, chain] of chains.entries()) refs.set(chain, `${id}.${step}`);
    return {
      id,
      node: link.node,
      runs: link.runs,
      attempt: 1,
      wave: next.version,
      steps: chains.flatMap((chain) => linkToSend(chain)?.step ?? []),
      refused: null,
      ...(link.cleanup ? { cleanup: true } : {}),
      ...(link.cleanup && link.runs === "node" ? { untilMs: Math.max(record.deadlineAtMs, nowMs) + CLEANUP_MS } : {}),
    };
  });
  const same =
    made.length === 0 &&
    next.ended === before?.ended &&
    next.chains.length === before.chains.length &&
    next.chains.every((chain, index) => chain === before.chains[index]);
  if (same) return { record, tasks: [], givenUp: [], wakeAtMs };
  const chains = next.chains.map((chain) => {
    const ref = refs.get(chain);
    return ref === undefined ? chain : { ...chain, ref };
  });
  const givenUp = tasksGivenUp(before?.chains ?? [], chains, steps);
  return {
    record: {
      ...record,
      tasks: [...record.tasks.map((task) => refuse(task, givenUp)), ...made],
      orchestration: { ...next, chains, version: next.version + 1 },
    },
    tasks: made,
    givenUp: [...givenUp.keys()],
    wakeAtMs,
  };
}

const refuse = (task: Task, givenUp: ReadonlyMap<string, StepError | null>): Task => {
  const error = givenUp.get(task.id);
  return error == null ? task : { ...task, refused: error };
};

/**
 * The tasks whose steps ended without an outcome from their node, after which a chain went on or ended. The value is the
 * reason if nobody had claimed the task, else null. If a node claimed the task later, it would undo what was decided
 * meanwhile, or run on in a job that has ended.
 */
function tasksGivenUp(
  before: readonly Chain[],
  after: readonly Chain[],
  steps: ReadonlyMap<string, FoldedStep>,
): Map<string, StepError | null> {
  const givenUp = new Map<string, StepError | null>();
  for (const [index, { ref, phase }] of before.entries()) {
    const isFollowed = after[index]?.ref === ref && after[index]?.phase === phase;
    if (ref === null || isFollowed) continue;
    const step = steps.get(ref);
    if (step === undefined || step.outcome !== null) continue;
    givenUp.set(ref.slice(0, ref.indexOf(".")), step.status === "unknown" ? null : step.error);
  }
  return givenUp;
}

function stepsByRef(folded: FoldedJob): Map<string, FoldedStep> {
  const steps = new Map<string, FoldedStep>();
  for (const { task, steps: each } of folded.tasks)
    for (const [index, step] of each.entries()) steps.set(`${task.id}.${index}`, step);
  return steps;
}

type Over = { readonly status: "cancelled" | "expired"; readonly error: StepError };
/** Why waiting chains are not begun. */
type NotBegun = Pick<Over, "error"> & { readonly status: Over["status"] | "failed" };

function notWell({ group, atLeast }: Replacement, { well }: JobObservation): NotBegun {
  const message = `${well ?? 0} of the ${atLeast} stitches that ${group} needs have been well for long enough; nothing was stopped`;
  return { status: "failed", error: { code: "unhealthy", message } };
}

/** What ends the job early; null if nothing does. */
function overBy({ marks, record, nowMs }: JobState): Over | null {
  if (marks.cancelledAtMs !== null)
    return { status: "cancelled", error: { code: "cancelled", message: "the job was cancelled" } };
  if (nowMs >= record.deadlineAtMs)
    return { status: "expired", error: { code: "expired", message: "the job's deadline has passed" } };
  return null;
}

/** Why waiting chains are not begun, if the reason is something that the job itself has done or found; else null. */
function stoppedBy(
  chains: readonly Chain[],
  { allOrStop, forceAtMs }: Orchestration,
  seen: JobObservation,
): Over | null {
  const cancelled = (message: string): Over => ({ status: "cancelled", error: { code: "cancelled", message } });
  // A drain goes on only if its node could be marked, whatever happens to single stitches.
  const decisive = forceAtMs === null ? chains : chains.slice(0, 1);
  const failure = decisive.find(({ status }) => status !== null && status !== "succeeded");
  if ((allOrStop || forceAtMs !== null) && failure !== undefined)
    return cancelled(`${failure.stitch ?? "it"} failed: ${failure.error?.message ?? "for no known reason"}`);
  if (seen.drain?.uncordoned === true) return cancelled("a newer command lets the node take stitches again");
  const forces = forceAtMs !== null && seen.nowMs >= forceAtMs && chains[0]?.status === "succeeded";
  return forces ? cancelled("the drain forces; it is stopped instead") : null;
}

const endedBy = (chain: Chain, { status, error }: NotBegun): Chain => ({ ...chain, phase: "ended", status, error });

/** The link that must be sent now; null if a link is under way, or none is left. */
function linkToSend(chain: Chain): Link | null {
  if (chain.ref !== null) return null;
  if (chain.phase === "running") return chain.links[chain.at] ?? null;
  return chain.phase === "undoing" ? chain.undo : null;
}

/** Moves a chain on when the link under way has ended. */
function follow(chain: Chain, steps: ReadonlyMap<string, FoldedStep>, over: Over | null, seen: JobObservation): Chain {
  if ((chain.phase !== "running" && chain.phase !== "undoing") || chain.ref === null) return chain;
  const step = steps.get(chain.ref);
  if (step === undefined || !hasEnded(step.status)) return chain;
  const link = chain.phase === "undoing" ? chain.undo : chain.links[chain.at];
  if (link == null) return chain;
  if (step.status !== "succeeded") return failed(chain, link, step);
  if (chain.phase === "undoing") return { ...chain, phase: "ended" };
  if (link.green && !isGreen(chain, link, seen)) return waitForGreen(chain, link, over, seen);
  const at = chain.at + 1;
  if (at === chain.links.length) return { ...chain, phase: "ended", status: "succeeded", greenByMs: null };
  const next: Chain = { ...chain, at, ref: null, greenByMs: null };
  // When the job is over, a chain that has begun is taken back, or finished if only cleanup is left.
  return over !== null && chain.links[at]?.cleanup !== true ? takeBack(chain, over.status, over.error) : next;
}

const isGreen = (chain: Chain, link: Link, seen: JobObservation): boolean =>
  link.step.stitch === null || chain.phase !== "running" || seen.health.get(link.step.stitch) === "green";

function waitForGreen(chain: Chain, link: Link, over: Over | null, seen: JobObservation): Chain {
  if (over !== null) return takeBack(chain, over.status, over.error);
  const byMs = chain.greenByMs ?? seen.nowMs + ("timeoutMs" in link.step ? link.step.timeoutMs : 0);
  if (seen.nowMs < byMs) return chain.greenByMs === null ? { ...chain, greenByMs: byMs } : chain;
  return takeBack(chain, "failed", {
    code: "unhealthy",
    message: `${link.step.stitch ?? "it"} came up, and was not green in time`,
  });
}

function failed(chain: Chain, link: Link, step: FoldedStep): Chain {
  const error = step.error ?? { code: "internal", message: "it failed without a reason" };
  // A node that is gone removes nothing, and neither does a node that does not claim the cleanup step. Then a Master writes
  // a tombstone for the stitch.
  const isUnheard = isGone(error) || (link.cleanup && step.outcome === null);
  if (link.step.action === "remove" && link.runs === "node" && isUnheard)
    return byMaster(chain, step.status === "unknown");
  if (chain.phase === "undoing") return { ...chain, phase: "ended" };
  const status = step.status === "pending" || step.status === "running" ? "failed" : step.status;
  // A Master has looked: the stitch did not move where it should, so the one that has arrived there must not stay.
  const isRefused = link.step.action === "remove" && status === "superseded";
  return link.cleanup && !isRefused ? { ...chain, phase: "ended", status, error } : takeBack(chain, status, error);
}

const isGone = ({ code }: StepError): boolean => code === "node_dead" || code === "node_left";

/** @param begun the step may have been done. Then nothing may be taken back any more, and the chain goes on to its end. */
function byMaster(chain: Chain, begun: boolean): Chain {
  const taken = (link: Link): Link => ({ ...link, runs: "master", cleanup: link.cleanup || begun });
  if (chain.phase === "undoing") return { ...chain, ref: null, undo: chain.undo === null ? null : taken(chain.undo) };
  return { ...chain, ref: null, links: chain.links.map((link, index) => (index === chain.at ? taken(link) : link)) };
}

function takeBack(chain: Chain, status: NonNullable<Chain["status"]>, error: StepError): Chain {
  const ended = { ...chain, status, error, greenByMs: null };
  return chain.undo === null ? { ...ended, phase: "ended" } : { ...ended, phase: "undoing", ref: null };
}

/** Begins the next wave if no chain of an earlier wave is open. */
function beginWave(chains: readonly Chain[]): Chain[] {
  const open = chains.filter(isOpen).map(({ wave }) => wave);
  const first = open.reduce((least, wave) => Math.min(least, wave), Number.POSITIVE_INFINITY);
  return chains.map((chain) =>
    chain.phase === "waiting" && chain.wave === first ? { ...chain, phase: "running" } : chain,
  );
}

/**
 * What a drain that forces stops while moves are under way: the stitches still at work, except those that are being stopped,
 * or removed by their move. Moves go on: if the new stitch comes up, the old one is removed as usual, although it is stopped.
 */
function stopsBeside(
  forceAtMs: number,
  chains: readonly Chain[],
  over: Over | null,
  { nowMs, drain }: JobObservation,
): Chain[] {
  if (nowMs < forceAtMs || over !== null || drain === null || drain.uncordoned) return [];
  const underWay = chains.filter(isUnderWay);
  const wave = underWay[0]?.wave ?? 0;
  const ending = new Set(
    underWay.flatMap(({ phase, at, stitch, links }) => {
      const action = links[at]?.step.action;
      return phase === "running" && action !== "create" ? stitch : [];
    }),
  );
  return drain.stops.filter(({ stitch }) => !ending.has(stitch)).map((chain) => ({ ...chain, wave, phase: "running" }));
}

/** The verdict, by how the chains ended. A stitch that is back where it was has not moved, whatever was done on the way. */
function verdictOf(chains: readonly Chain[], over: Over | null): FinalStatus {
  const succeeded = chains.filter(({ status }) => status === "succeeded").length;
  if (succeeded === chains.length) return "succeeded";
  if (over !== null) return over.status;
  return succeeded === 0 ? "failed" : "partial";
}

type DrainStep = {
  readonly chains: readonly Chain[];
  readonly ended: FinalStatus | null;
  readonly wakeAtMs: number | null;
};

/**
 * What comes next in a drain whose chains have all ended: moves for stitches that can be moved by now, stops when it is time
 * to force; then the node is cordoned, and the drain ends. null: the chains decide how the job ends.
 */
function drainOn(
  forceAtMs: number,
  chains: readonly Chain[],
  over: Over | null,
  seen: JobObservation,
): DrainStep | null {
  const end = (ended: FinalStatus): DrainStep => ({ chains: [], ended, wakeAtMs: null });
  const later = (inMs: number): DrainStep => ({ chains: [], ended: null, wakeAtMs: seen.nowMs + inMs });
  const [first] = chains;
  const last = chains.at(-1);
  // If the node could not be marked, a newer command has decided about it.
  if (first === undefined || last === undefined || first.status !== "succeeded") return null;
  if (last.links[0]?.step.action === "cordon") return end(over?.status ?? "succeeded");
  const wave = 1 + chains.reduce((most, chain) => Math.max(most, chain.wave), 0);
  const anew = (some: readonly Chain[]): DrainStep => ({
    chains: some.map((chain) => ({ ...chain, wave: wave + chain.wave })),
    ended: null,
    wakeAtMs: null,
  });
  const cordon = anew([eligibilityChain(first.links[0]?.node ?? "", "cordon", 0)]);
  if (over !== null) return cordon;
  if (seen.drain === null) return later(0);
  if (seen.drain.uncordoned) return end("cancelled");
  if (seen.drain.running.length === 0) return seen.drain.confirmed ? cordon : later(LOOK_MS);
  if (seen.nowMs >= forceAtMs) return seen.drain.stops.length > 0 ? anew(seen.drain.stops) : later(DRAIN_LOOK_MS);
  if (seen.drain.moves.length > 0) return anew(seen.drain.moves);
  return later(Math.min(DRAIN_LOOK_MS, forceAtMs - seen.nowMs));
}
