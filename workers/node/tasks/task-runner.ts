import {
  type Dispatch,
  dispatchId,
  type MasterStep,
  type Step,
  type StitchStep,
  type Task,
} from "../../../src/domain/job/job.ts";
import { canonicalJson } from "../../../src/domain/json/canonical-json.ts";
import { splitFullId } from "../../../src/domain/names/ids.ts";
import { formatRevision, type Revision } from "../../../src/domain/names/revision.ts";
import type { StepError, StepOutcome } from "../../../src/domain/stitch/stitch.ts";
import { errorText } from "../../../src/error-text.ts";
import type { Orders } from "../../../src/master/ports.ts";
import { isRedisUnavailable } from "../../../src/redis/connection/connection.ts";
import { WorkerLeaves } from "../stitches/hosted-stitch.ts";
import type { Publisher } from "../stitches/publisher.ts";
import type { Specs } from "../stitches/specs.ts";
import type { StitchHost } from "../stitches/stitch-host.ts";
import type { TaskJournal } from "./task-journal.ts";

/**
 * Steps of one task that run at once, if no step starts anything. Stitches that end together share one
 * search for the processes that they left behind. Steps that start stitches all run at once, and wait
 * for each other at the node's `StartThrottle`.
 */
const STOPS_AT_ONCE = 500;
/**
 * Outcomes are written when this many have come, or when one comes
 * this long after the last write, so that clients see progress.
 */
const BATCH = 200;
const BATCH_MS = 500;

export type TaskRunnerOptions = {
  readonly orders: Pick<Orders, "claim" | "tell" | "assigned">;
  readonly host: StitchHost;
  readonly publisher: Publisher;
  readonly journal: Pick<TaskJournal, "take" | "find">;
  readonly specs: Pick<Specs, "bring">;
  readonly incarnation: () => number;
  /** Does this worker hold the lease, as far as it knows without asking Redis? */
  readonly holdsId: () => boolean;
  /** Asks Redis whether the node may take new stitches. */
  readonly learnEligibility: () => Promise<void>;
  /** Resolves after the worker's next heartbeat, whether it succeeded or failed. @throws if there will be none. */
  readonly nextBeat: () => Promise<void>;
  readonly nowMs: () => number;
  readonly say: (message: string) => void;
  /** Called for assignments that cannot be read. */
  readonly onError: (error: unknown) => void;
};

/** A task that this node has claimed. */
type Claimed = {
  readonly incarnation: number;
  /** Why a step must not be carried out; null if it may. */
  readonly refusalOf: (step: Step) => StepError | null;
};

const NOTHING_ASSIGNED: Awaited<ReturnType<Orders["assigned"]>> = new Map();
const NOT_ASSIGNED: StepError = {
  code: "spec_unknown",
  message: "no Master has assigned it to this node; nothing was created. Give the command again",
};

/** Does the step wait for its stitch to come up? */
const starts = (step: Step): boolean =>
  step.action === "create" ? step.start : step.action === "start" || step.action === "restart";

type CreateStep = Extract<Step, { action: "create" }>;

const bareId = ({ stitch }: CreateStep): string => splitFullId(stitch).stitch;

const isStitchStep = (step: Step): step is StitchStep => step.stitch !== null;

/**
 * Carries out tasks: claims a task, runs its steps, writes the outcomes. Rejects if Redis fails or the worker leaves; the
 * task may be run again then. A task that starts stitches goes to the journal as soon as it is claimed: any number of
 * starts that hang must not hold up other tasks of the node.
 */
export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  /** By `dispatchId`. */
  readonly #underWay = new Map<string, { readonly dispatch: Dispatch; readonly running: Promise<void> }>();
  /** The tasks, with the incarnation, whose claim has found its election current, until they have ended. */
  readonly #begun = new Set<string>();

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
  }

  /**
   * Takes a task from the queue. Resolves when the queue need not keep the task any longer. A task that is delivered again meanwhile
   * is not run twice: its second claim could find another leader, and mark the task as not applied.
   */
  async run(dispatch: Dispatch): Promise<void> {
    const id = dispatchId(dispatch.job, dispatch.task);
    const underWay = this.#options.journal.find(id) ?? this.#underWay.get(id)?.dispatch;
    // After a failover of Redis that lost a save, another task may have this id. It is delivered again when the first has ended.
    if (underWay !== undefined && canonicalJson(underWay.task) !== canonicalJson(dispatch.task))
      throw new Error(`another task under the id ${id} is still at work`);
    if (this.#options.journal.find(id) !== undefined) return;
    const running = this.#underWay.get(id)?.running ?? this.#run(dispatch).finally(() => this.#underWay.delete(id));
    this.#underWay.set(id, { dispatch, running });
    await running;
  }

  /** Resolves when no task that the queue keeps is in progress any more. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#underWay.values()].map(({ running }) => running));
  }

  async #run(dispatch: Dispatch): Promise<void> {
    const claimed = await this.#claim(dispatch);
    if (claimed === null) return;
    const work = () => this.#carryOut(dispatch, claimed);
    if (!dispatch.task.steps.some(starts)) await work();
    else await this.#options.journal.take(dispatch, work, () => this.runAgain(dispatch));
  }

  /** Claims a task that is in the journal, and carries it out to its end. */
  async runAgain(dispatch: Dispatch): Promise<void> {
    const claimed = await this.#claim(dispatch);
    if (claimed !== null) await this.#carryOut(dispatch, claimed);
  }

  /** @returns null if the task is not for this node to carry out (any more). @throws if Redis does not answer. */
  async #claim({ job, revision, task, election }: Dispatch): Promise<Claimed | null> {
    if (!this.#options.holdsId())
      throw new Error("no heartbeat within the lease: the task waits until the node is registered");
    const incarnation = this.#options.incarnation();
    const begun = `${dispatchId(job, task)}@${incarnation}@${election}`;
    const creates = task.steps.filter((step) => step.action === "create");
    // The claim fails if the job is cancelled, expired, closed or never recorded, or if this is not the current attempt.
    // Readers of the job see that without this node.
    const [claimed, assigned] = await Promise.all([
      // What was begun is finished: compared again, it would be marked as if nothing had been applied.
      this.#options.orders.claim(job, task, incarnation, this.#begun.has(begun) ? null : (election ?? null)),
      creates.length === 0
        ? NOTHING_ASSIGNED
        : this.#options.orders.assigned(creates.map(bareId), this.#options.onError),
      // The heartbeat that brings the eligibility may come after the task.
      creates.length === 0 ? null : this.#options.learnEligibility(),
    ]);
    if (claimed !== "ok") {
      this.#begun.delete(begun);
      return null;
    }
    if (election !== undefined) this.#begun.add(begun);
    // Anyone who may write to this node's queue may write a forged task.
    const placed = formatRevision({ revision, wave: task.wave });
    const strangersIn = (found: typeof assigned) =>
      new Set(
        creates.filter((step) => {
          const kept = found.get(bareId(step)) ?? [];
          return !kept.some((each) => each.placed === placed && each.specHash === step.specHash && !each.isOver);
        }),
      );
    let strangers = strangersIn(assigned);
    if (strangers.size > 0) {
      // Redis may have the task but not yet the assignment that was sent before it.
      await this.#options.nextBeat();
      strangers = strangersIn(await this.#options.orders.assigned(creates.map(bareId), this.#options.onError));
    }
    const known = creates.filter((step) => !strangers.has(step)).map(({ specHash }) => specHash);
    const notLetIn = await this.#options.specs.bring(known);
    const refusalOf = (step: Step): StepError | null => {
      if (step.action !== "create") return null;
      return strangers.has(step) ? NOT_ASSIGNED : (notLetIn.get(step.specHash) ?? null);
    };
    return { incarnation, refusalOf };
  }

  async #carryOut({ job, revision, task, election }: Dispatch, { incarnation, refusalOf }: Claimed): Promise<void> {
    let isOurs = true;
    let unwritten = new Map<number, StepOutcome>();
    let sinceMs = this.#options.nowMs();
    // One write at a time: the last batch must not overtake an earlier one.
    let writing: Promise<void> = Promise.resolve();
    const write = (ended: boolean) => {
      const batch = unwritten;
      unwritten = new Map();
      sinceMs = this.#options.nowMs();
      writing = writing.then(async () => {
        if (isOurs) isOurs = await this.#write({ job, task, election: election ?? null }, incarnation, batch, ended);
      });
      // `writing` is awaited at the end, so a failure before that is not lost.
      writing.catch(() => undefined);
    };
    const atOnce = task.steps.some(starts) ? task.steps.length : STOPS_AT_ONCE;
    const left = task.steps.entries();
    const work = async () => {
      for (const [index, step] of left) {
        // Wait for the outcome first: it belongs to the batch that is open when the step ends.
        const outcome = await this.#step(step, { revision, wave: task.wave }, refusalOf(step));
        unwritten.set(index, outcome);
        if (unwritten.size >= BATCH || this.#options.nowMs() - sinceMs >= BATCH_MS) write(false);
      }
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, task.steps.length) }, work));
    write(true);
    await writing;
    this.#begun.delete(`${dispatchId(job, task)}@${incarnation}@${election}`);
    if (!isOurs) this.#options.say(`${task.id} of ${job} was taken up again since: what came of it here is dropped`);
  }

  /**
   * Writes outcomes, and tries until Redis takes them: a finished task
   * need not be delivered again to report them. @returns as `Orders.tell`.
   */
  async #write(
    { job, task, election }: { readonly job: string; readonly task: Task; readonly election: string | null },
    incarnation: number,
    outcomes: ReadonlyMap<number, StepOutcome>,
    ended: boolean,
  ): Promise<boolean> {
    for (;;) {
      while (!(await this.#mayTell(task))) await this.#options.nextBeat();
      try {
        return await this.#options.orders.tell(job, task, incarnation, outcomes, ended, election);
      } catch (error) {
        if (!isRedisUnavailable(error)) throw error;
        await this.#options.nextBeat();
      }
    }
  }

  /**
   * The records of a finished job's stitches must be in Redis before its outcomes. And a worker that has lost its id must
   * not write outcomes: its stitches were ended only because of that, and the task belongs to another worker.
   */
  async #mayTell(task: Task): Promise<boolean> {
    const isPublished = !task.steps.some(isStitchStep) || (await this.#options.publisher.flush());
    return isPublished && this.#options.holdsId();
  }

  /** @param refused why the step must not be carried out, unless it was carried out before; null if it may. */
  async #step(step: Step, revision: Revision, refused: StepError | null): Promise<StepOutcome> {
    const startedAtMs = this.#options.nowMs();
    const ended = (output: unknown, error: StepError | null): StepOutcome => ({
      status: error === null ? "succeeded" : "failed",
      changed: false,
      startedAtMs,
      finishedAtMs: this.#options.nowMs(),
      output,
      error,
    });
    try {
      if (isStitchStep(step)) {
        // A step that was carried out before has its outcome, even if its spec is not accepted now.
        if (refused !== null && !this.#options.host.hasApplied(step, revision)) return ended(null, refused);
        return await this.#options.host.apply(step, revision);
      }
      if (step.action !== "ping") {
        const { action } = step satisfies MasterStep;
        throw new Error(`a node was given a step that is a Master's: ${action}`);
      }
      return ended({ incarnation: this.#options.incarnation() }, null);
    } catch (error) {
      if (error instanceof WorkerLeaves) throw error;
      return ended(null, { code: "internal", message: errorText(error) });
    }
  }
}
