import type { ClusterEvent } from "../../domain/event.ts";
import { assignmentsIn } from "../../domain/job/assignment.ts";
import { type Dispatch, dispatchId, type JobRecord, type Task } from "../../domain/job/job.ts";
import type { Right } from "../../domain/master-mode.ts";
import type { StepOutcome } from "../../domain/stitch/stitch.ts";
import type { Dispatcher } from "../../queue/dispatcher.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { isRedisUnavailable } from "../../redis/connection/connection.ts";
import { emitEvents } from "../../redis/events.ts";
import { claim, recordOutcomes } from "../../redis/job/outcomes.ts";
import { ledBy } from "../../redis/job/task-digest.ts";
import { type Keys, MASTER_RUNNER } from "../../redis/keys.ts";
import { redisTimeMs } from "../../redis/node/node-record.ts";
import { assignStitches } from "../../redis/stitch/assignments.ts";
import { rememberTemplate } from "../../redis/stitch/group-template.ts";
import type { OnUnreadable } from "../../redis/unreadable.ts";
import { carryOutStep } from "./master-steps.ts";
import { templatesIn } from "./templates.ts";

/** The incarnation in the claims of every Master: if one Master does not finish a task, any other carries it out again. */
const MASTER_INCARNATION = 1;
/** A bound on what one process remembers. */
const MOST_BEGUN = 1000;

export type TaskSenderOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly dispatcher: Dispatcher;
  /** Under what this Master may decide now; null if it may not. */
  readonly deciding: () => Right | null;
  /** This process's clock. */
  readonly nowMs: () => number;
  readonly onUnreadable: OnUnreadable;
};

/** Sends the tasks of accepted jobs to their nodes, and carries out those that only a Master may. Everything is safe to repeat. */
export class TaskSender {
  readonly #options: TaskSenderOptions;
  /** Tasks that this Master is carrying out itself, by `dispatchId`. */
  readonly #running = new Map<string, Promise<void>>();
  /** Tasks that it has begun and not finished, because Redis failed. */
  readonly #begun = new Set<string>();

  constructor(options: TaskSenderOptions) {
    this.#options = options;
  }

  /**
   * Dispatches tasks: sends them to their nodes' queues, or carries them out here if only a Master may.
   * @param atOnce do not wait in between: a single Redis keeps the order of commands sent together.
   */
  async send(record: JobRecord, tasks: readonly Task[], right: Right, atOnce = false): Promise<void> {
    // A leader that was paused since it saved the job may be none any more.
    if (right.election !== null && this.#options.deciding()?.election?.id !== right.election.id) return;
    const election = right.election === null ? {} : { election: right.election.id };
    const toNodes = tasks.filter((task) => task.runs === "node" && task.refused === null);
    const { id: job, revision, deadlineAtMs } = record;
    const here = tasks.filter((task) => task.runs === "master" && task.refused === null);
    const { redis, keys } = this.#options;
    // Before the tasks: a node does not carry out a create that is not assigned to it.
    const assigning = Promise.all(
      [...assignmentsIn(record, toNodes)].map(([node, assigned]) => assignStitches(redis, keys, node, assigned)),
    );
    if (!atOnce) await assigning;
    await Promise.all([
      assigning,
      ...[...templatesIn(record, tasks)].map(([group, template]) =>
        rememberTemplate(redis, keys, group, record.revision, template),
      ),
      this.#options.dispatcher.dispatch(
        toNodes.map((task): Dispatch => ({ job, revision, deadlineAtMs, task, ...election })),
      ),
      ...here.map((task) => this.#carryOutOnce(record, task, right)),
    ]);
  }

  /**
   * Carries out a task, unless this process is at it: of two at once, one could find its election current and apply the task, and the
   * other mark the same claim as stale.
   */
  async #carryOutOnce(record: JobRecord, task: Task, right: Right): Promise<void> {
    const id = dispatchId(record.id, task);
    const running =
      this.#running.get(id) ?? this.#carryOut(record, task, right).finally(() => this.#running.delete(id));
    this.#running.set(id, running);
    await running;
  }

  /**
   * Carries out a task that writes what only Masters may write, such as a node's orders. It is claimed and recorded like any
   * task, so that it is done again after a crash.
   */
  async #carryOut(record: JobRecord, task: Task, right: Right): Promise<void> {
    const { redis, keys, nowMs } = this.#options;
    const id = dispatchId(record.id, task);
    // What was begun after a claim is finished under that claim: compared again, it would be marked as if nothing had been applied.
    const election = this.#begun.has(id) ? null : (right.election?.id ?? null);
    const [claimed, redisNowMs] = await Promise.all([
      ledBy(task, election)
        .then((led) => claim(redis, keys, record.id, MASTER_RUNNER, task, MASTER_INCARNATION, led))
        .catch(laterAgain),
      redisTimeMs(redis, keys.job(record.id)),
    ]);
    if (claimed !== "ok") {
      if (claimed !== "later") this.#begun.delete(id);
      return;
    }
    if (this.#begun.size >= MOST_BEGUN) this.#begun.clear();
    this.#begun.add(id);
    // Redis's time, continued with this process's clock.
    const aheadMs = redisNowMs - nowMs();
    const outcomes = new Map<number, StepOutcome>();
    const events: ClusterEvent[] = [];
    for (const [index, step] of task.steps.entries()) {
      const startedAtMs = nowMs() + aheadMs;
      const { event, output, ...done } = await carryOutStep({ ...this.#options, right }, { job: record, task, step });
      outcomes.set(index, { ...done, startedAtMs, finishedAtMs: nowMs() + aheadMs, output });
      if (event !== null) events.push(event);
    }
    await recordOutcomes(redis, keys, record.id, MASTER_RUNNER, task, MASTER_INCARNATION, outcomes, true);
    this.#begun.delete(id);
    await emitEvents(redis, keys, events);
  }
}

/** A claim that fails is made again by the next look at the job. */
function laterAgain(error: unknown): "later" {
  if (!isRedisUnavailable(error)) throw error;
  return "later";
}
