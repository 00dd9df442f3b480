import { foldJob, nodesInDoubt, type FoldedJob, type Runner } from "../domain/fold.ts";
import type { ClusterEvent } from "../domain/event.ts";
import { RequestError } from "../domain/errors.ts";
import type { Dispatch, JobRecord, JobState, Task } from "../domain/job.ts";
import { livenessOf } from "../domain/node.ts";
import type { Eligibility } from "../domain/resources.ts";
import type { StepOutcome } from "../domain/stitch.ts";
import type { Dispatcher } from "../queue/dispatcher.ts";
import type { RedisClient } from "../redis/client.ts";
import { emitEvents } from "../redis/events.ts";
import {
  claim,
  closeJob,
  dropOpenJob,
  listJob,
  loadJob,
  lookAgainAt,
  recordOutcomes,
  takeDueJobs,
} from "../redis/job-record.ts";
import { type Keys, MASTER_RUNNER } from "../redis/keys.ts";
import { orderEligibility, readNodes } from "../redis/node-record.ts";
import type { Tended } from "./master.ts";

/** A dispatch that nobody has claimed is looked at again after this: by then a live node has long taken it. */
export const FIRST_LOOK_MS = 2000;
const NEXT_LOOK_MS = 5000;
/** Jobs looked after in one round, so that a round is bounded and several Masters share a backlog. */
const ROUND = 200;
/** A pointer without a record is a request that failed on its way; dropped after this. Sooner could race a slow acceptor. */
const ORPHAN_POINTER_MS = 600_000;
/** A closed job still in the index: its closer is about to drop it, or died; by now it died. */
const CLOSER_GRACE_MS = 3000;
/** Times a verdict is made anew because more was written meanwhile. Each outcome is written once, so this ends by itself. */
const MAX_ROUNDS = 100;

export type Settled = { readonly state: JobState; readonly folded: FoldedJob };

export type JobDeskOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly dispatcher: Dispatcher;
  readonly deadAfterMs: number;
  readonly jobRetentionMs: number;
  /** This process's clock; only ages of what it has itself seen are measured by it. */
  readonly nowMs: () => number;
  /** Told of what failed after the job itself was done with; a sweep makes up for it. */
  readonly onLate: (error: unknown) => void;
};

/** Looks after jobs that were accepted: dispatches their tasks, folds what came back, and closes them. Everything is safe to repeat. */
export class JobDesk {
  readonly #o: JobDeskOptions;
  /** Pointers without a record → when this Master first saw that. */
  readonly #orphans = new Map<string, number>();

  constructor(options: JobDeskOptions) {
    this.#o = options;
  }

  /** Sends the tasks on their way: to their nodes' queues, or carried out here where only a Master may. */
  async dispatch(record: JobRecord, tasks: readonly Task[]): Promise<void> {
    const toNodes = tasks
      .filter((task) => task.runs === "node" && task.refused === null)
      .map(
        (task): Dispatch => ({ job: record.id, revision: record.revision, deadlineAtMs: record.deadlineAtMs, task }),
      );
    const here = tasks.filter((task) => task.runs === "master" && task.refused === null);
    await Promise.all([this.#o.dispatcher.dispatch(toNodes), ...here.map((task) => this.#carryOut(record, task))]);
  }

  /** What only Masters may write: a node's eligibility. Claimed and recorded like any task, so that a crash leaves it to be done again. */
  async #carryOut(record: JobRecord, task: Task): Promise<void> {
    const { redis, keys, nowMs } = this.#o;
    if ((await claim(redis, keys, record.id, MASTER_RUNNER, task, 1)) !== "ok") return;
    const startedAtMs = nowMs();
    const outcomes = new Map<number, StepOutcome>();
    const events: ClusterEvent[] = [];
    for (const [index, step] of task.steps.entries()) {
      const eligibility: Eligibility = step.action === "cordon" ? "cordoned" : "eligible";
      const reply = await orderEligibility(redis, keys, task.node, eligibility, record.revision);
      outcomes.set(index, {
        status: reply === "superseded" ? "superseded" : "succeeded",
        changed: reply === "changed",
        startedAtMs,
        finishedAtMs: nowMs(),
        output: null,
        error:
          reply === "superseded"
            ? { code: "superseded", message: "a newer command has decided about this node" }
            : null,
      });
      if (reply === "changed")
        events.push({
          type: step.action === "cordon" ? "node.cordoned" : "node.uncordoned",
          node: task.node,
          job: record.id,
        });
    }
    await recordOutcomes(redis, keys, record.id, MASTER_RUNNER, task.id, outcomes, true);
    await emitEvents(redis, keys, events);
  }

  /** Reads a job, and ends it where nothing of it can still happen. @throws RequestError `not_found`. */
  async settle(id: string): Promise<Settled> {
    const settled = await this.find(id);
    if (settled === null)
      throw new RequestError("not_found", `There is no job "${id}"; finished jobs are kept for a while only.`);
    return settled;
  }

  /** As `settle`; null where there is no such job. */
  async find(id: string): Promise<Settled | null> {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const state = await loadJob(this.#o.redis, this.#o.keys, id);
      if (state === null) return null;
      const settled = await this.judge(state);
      if (settled === "gone") return null;
      if (settled !== "changed") return settled;
    }
    throw new Error(`job ${id} changed ${MAX_ROUNDS} times while it was read`);
  }

  /** Ends a job where nothing of it can still happen, unless more was written meanwhile: then nothing is done. */
  async judge(state: JobState, told: readonly string[] = []): Promise<Settled | "changed" | "gone"> {
    const { redis, keys, jobRetentionMs } = this.#o;
    const folded = foldJob(state, await this.#runnersOf(state));
    if (state.marks.closed !== null || folded.verdict === null) return { state, folded };
    const reply = await closeJob(redis, keys, state.record.id, state.written, folded.verdict, jobRetentionMs, told);
    if (reply.kind === "unknown") return "gone";
    if (reply.kind === "changed") return "changed";
    // Closed is final: whoever waits need not wait for the event and the index too.
    if (reply.kind === "closed") this.#announceEnd(state.record, reply.mark.status).catch(this.#o.onLate);
    return { state: { ...state, marks: { ...state.marks, closed: reply.mark } }, folded };
  }

  /** Event and index in one pipelined round trip. A Master that dies before it leaves the job to the next sweep. */
  async #announceEnd(record: JobRecord, status: string): Promise<void> {
    const { redis, keys } = this.#o;
    await Promise.all([
      emitEvents(redis, keys, [
        { type: "job.ended", job: record.id, data: { command: record.command, target: record.target, status } },
      ]),
      dropOpenJob(redis, keys, record.id),
    ]);
  }

  async #runnersOf(state: JobState): Promise<Map<string, Runner>> {
    const doubtful = nodesInDoubt(state);
    const runners = new Map<string, Runner>();
    if (doubtful.length === 0) return runners;
    const nodes = await readNodes(this.#o.redis, this.#o.keys, doubtful);
    for (const [index, id] of doubtful.entries()) {
      const node = nodes[index];
      // A node that was forgotten will not do it either.
      if (node == null) runners.set(id, { liveness: "dead", incarnation: 0 });
      else
        runners.set(id, {
          liveness: livenessOf(node, state.nowMs, this.#o.deadAfterMs),
          incarnation: node.incarnation,
        });
    }
    return runners;
  }

  /** One round over the open jobs that are due: finishes dispatches, expires, closes, and says when to look again. */
  async tend(): Promise<Tended> {
    const { redis, keys, nowMs } = this.#o;
    const due = await takeDueJobs(redis, keys, ROUND, NEXT_LOOK_MS);
    // Another Master may have dropped the pointer; then it is never seen here again.
    for (const [id, seenAtMs] of this.#orphans)
      if (nowMs() - seenAtMs > 2 * ORPHAN_POINTER_MS) this.#orphans.delete(id);
    const dispatched = await Promise.all(due.map((id) => this.#lookAfter(id)));
    return {
      looked: due.length,
      dispatched: dispatched.reduce((sum, { tasks }) => sum + tasks, 0),
      closed: dispatched.filter(({ closed }) => closed).length,
    };
  }

  async #lookAfter(id: string): Promise<{ tasks: number; closed: boolean }> {
    const { redis, keys, nowMs } = this.#o;
    const found = await this.find(id);
    if (found === null) {
      const seenAtMs = this.#orphans.get(id) ?? nowMs();
      this.#orphans.set(id, seenAtMs);
      if (nowMs() - seenAtMs > ORPHAN_POINTER_MS) {
        this.#orphans.delete(id);
        await dropOpenJob(redis, keys, id);
      }
      return { tasks: 0, closed: false };
    }
    this.#orphans.delete(id);
    const { state, folded } = found;
    // Whoever accepted it may have died between the record and the list.
    await listJob(redis, keys, state.record);
    const { closed } = state.marks;
    if (closed !== null) {
      if (state.nowMs - closed.atMs > CLOSER_GRACE_MS) await this.#announceEnd(state.record, closed.status);
      return { tasks: 0, closed: true };
    }
    const waiting = folded.tasks.filter((task) => task.status === "pending").map(({ task }) => task);
    const unfinishedHere = folded.tasks
      .filter(({ task, status }) => task.runs === "master" && status === "running")
      .map(({ task }) => task);
    await this.dispatch(state.record, [...waiting, ...unfinishedHere]);
    const deadlineAtMs = waiting.length > 0 ? state.record.deadlineAtMs : Number.POSITIVE_INFINITY;
    await lookAgainAt(redis, keys, id, Math.min(state.nowMs + NEXT_LOOK_MS, Math.max(deadlineAtMs, state.nowMs + 1)));
    return { tasks: waiting.length, closed: false };
  }
}
