import * as z from "zod";
import { advance, asksForDrain, awaited, type JobObservation } from "../../domain/job/advance.ts";
import { COMMANDS } from "../../domain/commands/command.ts";
import { isCommandName } from "../../domain/commands/command-names.ts";
import { foldJob, nodesInDoubt, type FoldedJob, type Runner } from "../../domain/job/fold.ts";
import type { ClusterEvent } from "../../domain/event.ts";
import { RequestError } from "../../domain/errors.ts";
import { maySave, StaleLeader } from "../../domain/election.ts";
import type { Right } from "../../domain/master-mode.ts";
import { splitFullId } from "../../domain/names/ids.ts";
import { assignmentEndsIn } from "../../domain/job/assignment.ts";
import { progressOf } from "../../domain/job/progress.ts";
import { means } from "../../domain/planning/meant.ts";
import { type JobRecord, type JobState, type Orchestration, type Task } from "../../domain/job/job.ts";
import { isPresent, livenessOf, type NodeRecord } from "../../domain/node/node.ts";
import { seeDrain } from "../../domain/planning/drain.ts";
import { tasksToSendAgain } from "../../domain/job/send-again.ts";
import type { Health } from "../../domain/stitch/stitch.ts";
import type { Dispatcher } from "../../queue/dispatcher.ts";
import { endAssignments } from "../../redis/stitch/assignments.ts";
import { giveUpDrafts, releaseScopes } from "../../redis/job/busy.ts";
import { isRedisUnavailable } from "../../redis/connection/connection.ts";
import { emitEvents } from "../../redis/events.ts";
import {
  dropOpenJob,
  jobAgeMs,
  listJob,
  lookAgainIn,
  openJobPointer,
  takeBackOpenJob,
  takeOpenJobs,
  unlistJob,
} from "../../redis/job/job-index.ts";
import { followUp, letJobGo, loadJob } from "../../redis/job/job-record.ts";
import { closeJob, raiseAttempts, saveJob } from "../../redis/job/decisions.ts";
import { readNodes } from "../../redis/node/node-record.ts";
import { readStitches } from "../../redis/stitch/stitch-records.ts";
import { type OnUnreadable, passingOver, UnreadableRecord } from "../../redis/unreadable.ts";
import type { LateWork } from "./late-work.ts";
import { takeOver, type TakeOverOptions } from "./take-over.ts";
import type { Swept } from "../ports.ts";
import type { Observer } from "../state/observer.ts";

/** When to look again at a dispatch that nobody has claimed: by then a live node has long claimed it. */
export const FIRST_LOOK_MS = 2000;

const NEXT_LOOK_MS = 5000;

/** Most jobs in one sweep, so that a sweep is bounded and several Masters share a backlog. */
const ROUND = 200;

/** A pointer without a record is from a failed request. It is dropped after this: sooner would refuse a slow acceptor. */
const ORPHAN_POINTER_MS = 600_000;

/** The age at which a job that cannot be read is given up. */
const UNREADABLE_MS = 86_400_000;

/** A closed job still in the index: the Master that closed it will drop it, or has died. After this time, it has died. */
const CLOSER_GRACE_MS = 3000;

/** Most times to repeat a verdict because more was written meanwhile. Each outcome is written once, so this ends by itself. */
const MAX_ROUNDS = 100;

/** `wakeAtMs`: when to look at a job of many steps again, even without a hint. */
export type AdvancedJob = { readonly state: JobState; readonly folded: FoldedJob; readonly wakeAtMs: number | null };

/** `runners`: what was known of the job's nodes. */
type Found = AdvancedJob & { readonly runners: ReadonlyMap<string, Runner> };

export type JobServiceOptions = TakeOverOptions & {
  readonly dispatcher: Dispatcher;
  readonly observer: Observer;
  readonly deadAfterMs: number;
  readonly jobRetentionMs: number;
  /** This process's clock. It only measures the time since this process itself saw something. */
  readonly nowMs: () => number;
  /** Called for nodes and stitches whose records cannot be read: other parts of a job go on. */
  readonly onUnreadable: OnUnreadable;
  /** Takes what goes on after a job was closed. */
  readonly late: LateWork;
};

/**
 * Looks after accepted jobs: has their tasks sent, folds the outcomes, and closes the jobs. Everything is safe to repeat.
 */
export class JobService {
  readonly #options: JobServiceOptions;
  /** Job id of a pointer without a record → when this Master first saw it. */
  readonly #orphans = new Map<string, number>();

  constructor(options: JobServiceOptions) {
    this.#options = options;
  }

  /** As `advance`. @throws RequestError `not_found` if there is no such job. */
  async advanceKnown(id: string): Promise<AdvancedJob> {
    const advanced = await this.advance(id);
    if (advanced === null)
      throw new RequestError("not_found", `There is no job "${id}"; finished jobs are kept for a while only.`);
    return advanced;
  }

  /**
   * Advances a job as far as possible now, and closes it if nothing more can happen in it. A later look repeats what cannot
   * be written at this moment. @returns the job after that; null if there is no such job.
   */
  async advance(id: string): Promise<Found | null> {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const state = await loadJob(this.#options.redis, this.#options.keys, id, this.#options.onUnreadable);
      if (state === null) return null;
      const runners = await this.#runnersOf(state);
      const folded = foldJob(state, runners);
      const asItIs = { state, folded, runners, wakeAtMs: null };
      const taken = await takeOver(this.#options, state, folded).catch(notNow);
      if (taken === "not now") return asItIs;
      if (taken === "taken") continue;
      const wakeAtMs = await this.#forward(state, folded).catch(notNow);
      if (wakeAtMs === "not now") return asItIs;
      if (wakeAtMs === "saved") continue;
      const advanced = await this.#end(state, folded, []).catch(notNow);
      if (advanced === "not now") return { ...asItIs, wakeAtMs };
      if (advanced === "gone") return null;
      if (advanced !== "changed") return { ...advanced, runners, wakeAtMs };
    }
    throw new Error(`job ${id} changed ${MAX_ROUNDS} times while it was read`);
  }

  /**
   * A job as it is, for a list: an open job is left to those who look after it. But one in which nothing more can happen is closed, so
   * that it is shown as ended.
   * @returns null if there is no such job.
   */
  async look(id: string): Promise<AdvancedJob | null> {
    const state = await loadJob(this.#options.redis, this.#options.keys, id, this.#options.onUnreadable);
    if (state === null) return null;
    const folded = foldJob(state, await this.#runnersOf(state));
    const isAsShown = state.marks.closed !== null || folded.verdict === null;
    return isAsShown ? { state, folded, wakeAtMs: null } : this.advance(id);
  }

  /** Closes a job from the outcomes in hints, if nothing more can happen in it (see `closeJob`). */
  async judge(state: JobState, told: readonly string[]): Promise<AdvancedJob | "changed" | "gone"> {
    const advanced = await this.#end(state, foldJob(state, await this.#runnersOf(state)), told).catch(notNow);
    // The caller that waits for the end then reads the job until it has ended.
    return advanced === "not now" ? "changed" : advanced;
  }

  /** Closes a job if nothing more can happen in it. Does nothing if more was written meanwhile. */
  async #end(state: JobState, folded: FoldedJob, told: readonly string[]): Promise<AdvancedJob | "changed" | "gone"> {
    const { redis, keys, jobRetentionMs } = this.#options;
    if (state.marks.closed !== null || folded.verdict === null) return { state, folded, wakeAtMs: null };
    const reply = await closeJob(redis, keys, state.record.id, state.written, folded.verdict, jobRetentionMs, told);
    if (reply.kind === "unknown") return "gone";
    if (reply.kind === "changed") return "changed";
    // Closed is final: a waiting caller need not wait for the event and the index too.
    if (reply.kind === "closed") this.#options.late.add(this.#announceEnd(state, folded, reply.mark.status));
    return { state: { ...state, marks: { ...state.marks, closed: reply.mark } }, folded, wakeAtMs: null };
  }

  /**
   * Advances a job of many steps as far as possible now, and saves it unless another Master has saved it.
   * @returns "saved" if the job must be read again; otherwise when to look again, or null.
   */
  async #forward(state: JobState, folded: FoldedJob): Promise<"saved" | number | null> {
    const { redis, keys, onLate } = this.#options;
    const { record, marks, nowMs } = state;
    const { orchestration } = record;
    if (orchestration === null || orchestration.ended !== null || marks.closed !== null) return null;
    const right = this.#options.deciding();
    if (right === null) return null;
    const { record: next, tasks, givenUp, wakeAtMs } = advance(state, folded, await this.#see(state, orchestration));
    if (next === record) {
      if (wakeAtMs !== null) await lookAgainIn(redis, keys, record.id, Math.max(wakeAtMs - nowMs, 1));
      return wakeAtMs;
    }
    if ((await saveJob(redis, keys, state, next, givenUp, right.election)) !== "ok") return "saved";
    // The job is saved: a sweep repairs what fails from here on.
    await Promise.all([
      this.#options.sender.send(next, tasks, right),
      emitEvents(redis, keys, [progressed(next)]),
    ]).catch(onLate);
    return "saved";
  }

  /** Reads what the next advance depends on, apart from the job itself. */
  async #see({ record, nowMs }: JobState, orchestration: Orchestration): Promise<JobObservation> {
    const { redis, keys, observer, onUnreadable } = this.#options;
    const steps = awaited(orchestration);
    const ids = steps.map(({ stitch }) => stitch);
    const on = ids.map((id) => splitFullId(id).node);
    const [records, nodes] = await Promise.all([
      readStitches(redis, keys, ids, onUnreadable),
      readNodes(redis, keys, on, onUnreadable),
    ]);
    const { replacement } = orchestration;
    const well = replacement === null ? null : await observer.forJob(record.id).well(replacement);
    const isHere = (node: NodeRecord | null | undefined) => isPresent(livenessOf(node, this.#options.deadAfterMs));
    const health = new Map(
      steps.map((step, index): [string, Health | null] => {
        const there = records[index];
        const isIt = there != null && means(step, record.revision, there.born) && isHere(nodes[index]);
        // A stitch that ran to its end, as its restart policy allows, will never get better: it counts as green.
        return [step.stitch, !isIt ? null : there.finished ? "green" : there.health];
      }),
    );
    if (!asksForDrain(orchestration, nowMs)) return { nowMs, health, drain: null, well };
    const starting = startingOptions.parse(record.options);
    const observed = await observer.drain(record.target);
    return { nowMs, health, drain: seeDrain(record, orchestration.chains, starting, observed), well };
  }

  /** Writes event and index in one pipelined round trip. If the Master dies before it, the next sweep does this. */
  async #announceEnd(state: JobState, folded: FoldedJob, status: string): Promise<void> {
    const { redis, keys } = this.#options;
    const { record } = state;
    const { id: job, command, target } = record;
    await this.#withdraw(job, neverTakenUp(state, folded));
    const own = status === "succeeded" && isCommandName(command) ? COMMANDS[command].succeeded?.(target) : undefined;
    const succeeded: ClusterEvent[] = own === undefined ? [] : [{ ...own, job }];
    await Promise.all([
      emitEvents(redis, keys, [...succeeded, { type: "job.ended", job, data: { command, target, status } }]),
      // Before the job leaves the index: if this Master dies, the next sweep finds the job there.
      this.#endAssignments(state, folded).then(() => dropOpenJob(redis, keys, job)),
      ...(record.orchestration === null ? [] : [releaseScopes(redis, keys, job)]),
      // The Master that accepted this job may have died before it noted this job in the first one.
      ...(record.retryOf === null ? [] : [followUp(redis, keys, record.retryOf, "retriedBy", job)]),
      ...(record.rollbackOf === null ? [] : [followUp(redis, keys, record.rollbackOf, "rolledBackBy", job)]),
    ]);
  }

  /** Ends the assignments of stitches that no longer exist, so that they are not copied. */
  async #endAssignments({ record }: JobState, { tasks }: FoldedJob): Promise<void> {
    const { redis, keys } = this.#options;
    const ends = [...assignmentEndsIn(record, tasks)].filter(([, each]) => each.length > 0);
    await Promise.all(ends.map(([node, each]) => endAssignments(redis, keys, node, each)));
  }

  /** Removes tasks from the queues of absent nodes, where they would pile up. An error with one queue must not delay a job. */
  async #withdraw(job: string, tasks: readonly Task[]): Promise<void> {
    if (tasks.length === 0) return;
    await this.#options.dispatcher.withdraw(job, tasks).catch((error: unknown) => {
      if (isRedisUnavailable(error)) throw error;
      this.#options.onLate(error);
    });
  }

  async #runnersOf(state: JobState): Promise<Map<string, Runner>> {
    const doubtful = nodesInDoubt(state);
    const runners = new Map<string, Runner>();
    if (doubtful.length === 0) return runners;
    const unreadable = new Set<string>();
    const nodes = await readNodes(this.#options.redis, this.#options.keys, doubtful, (error) => {
      unreadable.add(error.id);
      this.#options.onUnreadable(error);
    });
    for (const [index, id] of doubtful.entries()) {
      // Its liveness is unknown: the deadline ends what this node has not claimed.
      if (unreadable.has(id)) continue;
      const node = nodes[index];
      // A forgotten node will not carry out its tasks either.
      if (node == null) runners.set(id, { liveness: "dead", incarnation: 0, startedAtMs: 0 });
      else
        runners.set(id, {
          liveness: livenessOf(node, this.#options.deadAfterMs),
          incarnation: node.incarnation,
          startedAtMs: node.startedAtMs,
        });
    }
    return runners;
  }

  /** One sweep over the open jobs that are due: finishes dispatches, expires and closes jobs, and sets the next look. */
  async sweep(): Promise<Swept> {
    const { redis, keys, nowMs } = this.#options;
    const due = await takeOpenJobs(redis, keys, ROUND, NEXT_LOOK_MS);
    // Another Master may have dropped the pointer; then this Master never sees it again.
    for (const [id, seenAtMs] of this.#orphans)
      if (nowMs() - seenAtMs > 2 * ORPHAN_POINTER_MS) this.#orphans.delete(id);
    const each = await Promise.all(
      due.map((id) =>
        this.#lookAfter(id).catch(async (error: unknown) => {
          passingOver(this.#options.onUnreadable)(error);
          // The unreadable record may be another one that this job needs.
          if (error instanceof UnreadableRecord && error.id === id) await this.#giveUpUnreadable(id);
          return null;
        }),
      ),
    );
    const dispatched = each.filter((done) => done !== null);
    return {
      looked: due.length,
      dispatched: dispatched.reduce((sum, { tasks }) => sum + tasks, 0),
      closed: dispatched.filter(({ closed }) => closed).length,
    };
  }

  async #lookAfter(id: string): Promise<{ tasks: number; closed: boolean }> {
    const { redis, keys, nowMs } = this.#options;
    const found = await this.advance(id);
    if (found === null) {
      const seenAtMs = this.#orphans.get(id) ?? nowMs();
      this.#orphans.set(id, seenAtMs);
      if (nowMs() - seenAtMs > ORPHAN_POINTER_MS) {
        this.#orphans.delete(id);
        // Read before the drafts are voided: a request that begins a draft after that writes the pointer again.
        const pointer = await openJobPointer(redis, keys, id);
        if (await giveUpDrafts(redis, keys, id)) await takeBackOpenJob(redis, keys, id, pointer);
      }
      return { tasks: 0, closed: false };
    }
    this.#orphans.delete(id);
    const { state, folded, runners, wakeAtMs } = found;
    // The Master that accepted the job may have died between writing the record and the list.
    await listJob(redis, keys, state.record);
    const { closed } = state.marks;
    if (closed !== null) {
      if (state.nowMs - closed.atMs > CLOSER_GRACE_MS) await this.#announceEnd(state, folded, closed.status);
      return { tasks: 0, closed: true };
    }
    const sent = folded.tasks.filter(({ ahead }) => ahead !== true);
    const right = this.#options.deciding();
    if (right === null || !maySave(state.election, right.election?.id ?? null)) return { tasks: 0, closed: false };
    const { asTheyAre, asNextAttempt } = tasksToSendAgain(state, folded, runners);
    const here = sent
      .filter(({ task, status }) => task.runs === "master" && (status === "pending" || status === "running"))
      .map(({ task }) => task)
      .filter((task) => !asNextAttempt.includes(task));
    const raised = await this.#raise(state, asNextAttempt, right);
    const tasks = [...asTheyAre, ...raised, ...here];
    await this.#options.sender.send(state.record, tasks, right);
    const isWaiting = sent.some(({ status }) => status === "pending");
    const deadlineAtMs = isWaiting ? state.record.deadlineAtMs : Number.POSITIVE_INFINITY;
    const dueInMs = Math.min(deadlineAtMs, wakeAtMs ?? Number.POSITIVE_INFINITY) - state.nowMs;
    await lookAgainIn(redis, keys, id, Math.min(NEXT_LOOK_MS, Math.max(dueInMs, 1)));
    return { tasks: tasks.length, closed: false };
  }

  /**
   * Gives up a job whose record nobody can read: the job cannot end, and it holds its scopes. Not at once: a later version
   * of a Master may be able to read it.
   */
  async #giveUpUnreadable(id: string): Promise<void> {
    const { redis, keys, jobRetentionMs } = this.#options;
    if ((await jobAgeMs(redis, keys, id)) < UNREADABLE_MS) return;
    await Promise.all([
      releaseScopes(redis, keys, id),
      letJobGo(redis, keys, id, jobRetentionMs),
      unlistJob(redis, keys, id),
    ]);
    await dropOpenJob(redis, keys, id);
  }

  /** @returns the tasks with their next attempt; none if anything has changed: then the next look decides again. */
  async #raise(state: JobState, tasks: readonly Task[], { election }: Right): Promise<Task[]> {
    if (tasks.length === 0) return [];
    const reply = await raiseAttempts(this.#options.redis, this.#options.keys, state, tasks, election).catch(notNow);
    return reply === "ok" ? tasks.map((task) => ({ ...task, attempt: task.attempt + 1 })) : [];
  }
}

/** Tasks that were sent to their nodes and ended before the nodes claimed them. */
function neverTakenUp({ outcomes: { claims } }: JobState, { tasks }: FoldedJob): Task[] {
  const claimed = new Set(claims.map(({ task }) => task));
  return tasks
    .filter(({ task, ahead }) => ahead !== true && task.runs === "node")
    .filter(({ task, steps }) => !claimed.has(task.id) && steps.every(({ outcome }) => outcome === null))
    .map(({ task }) => task);
}

/** For writes that are part of a look at a job: the next look repeats them, and this look returns the job as it is. */
function notNow(error: unknown): "not now" {
  if (!isRedisUnavailable(error) && !(error instanceof StaleLeader)) throw error;
  return "not now";
}

const startingOptions = z.object({ timeoutMs: z.number(), minHealthyMs: z.number().optional() });

const progressed = (record: JobRecord): ClusterEvent => ({
  type: "job.progressed",
  job: record.id,
  data: { command: record.command, target: record.target, ...progressOf(record) },
});
