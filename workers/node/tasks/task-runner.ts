import type { Dispatch, MasterStep, Step, StitchStep, Task } from "../../../src/domain/job/job.ts";
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
 * Steps of one task under way at once, where nothing is started. What ends together shares one look for what it has left
 * behind. Starts are all under way at once, and wait for each other at the node's `StartThrottle`.
 */
const STOPS_AT_ONCE = 500;
/** Outcomes are written when so many have come, or so long after the first: whoever watches sees it go on. */
const BATCH = 200;
const BATCH_MS = 500;

export type TaskRunnerOptions = {
  readonly orders: Pick<Orders, "claim" | "tell" | "assigned">;
  readonly host: StitchHost;
  readonly publisher: Publisher;
  readonly journal: TaskJournal;
  readonly specs: Pick<Specs, "bring">;
  readonly incarnation: () => number;
  /** Is the lease this worker's, as far as it can tell without asking? */
  readonly holdsId: () => boolean;
  /** Asks Redis whether new stitches may come here. */
  readonly learnEligibility: () => Promise<void>;
  /** Resolves after the worker's next heartbeat, however that went. @throws where there will be none. */
  readonly nextBeat: () => Promise<void>;
  readonly nowMs: () => number;
  readonly say: (message: string) => void;
  /** Told of assignments that cannot be read. */
  readonly onError: (error: unknown) => void;
};

/** A task that this node has claimed. */
type Claimed = {
  readonly incarnation: number;
  /** Why a step must not be carried out; null where nothing is against it. */
  readonly refusalOf: (step: Step) => StepError | null;
};

const NOTHING_ASSIGNED: Awaited<ReturnType<Orders["assigned"]>> = new Map();
const NOT_ASSIGNED: StepError = {
  code: "spec_unknown",
  message: "no Master has assigned it to this node; nothing was created. Give the command again",
};

/** Does it wait for its stitch to come up? */
const starts = (step: Step): boolean =>
  step.action === "create" ? step.start : step.action === "start" || step.action === "restart";

type CreateStep = Extract<Step, { action: "create" }>;

const bareId = ({ stitch }: CreateStep): string => splitFullId(stitch).stitch;

const isStitchStep = (step: Step): step is StitchStep => step.stitch !== null;

/**
 * Carries out tasks: claims, runs the steps, writes the outcomes. Rejects where Redis fails or the worker leaves, and may
 * then be run again. A task that starts something is left to the journal as soon as it is claimed: of starts that hang, any
 * number must not hold up what the node is asked besides.
 */
export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  readonly #underWay = new Set<Promise<void>>();

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
  }

  /** Takes a task from the queue; resolves when the queue need not keep it any longer. */
  async run(dispatch: Dispatch): Promise<void> {
    const running = this.#run(dispatch);
    this.#underWay.add(running);
    try {
      await running;
    } finally {
      this.#underWay.delete(running);
    }
  }

  /** Resolves when nothing that the queue keeps is under way any more. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#underWay);
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

  /** @returns null where it is not this node's to carry out (any more). @throws where Redis does not answer. */
  async #claim({ job, revision, task }: Dispatch): Promise<Claimed | null> {
    if (!this.#options.holdsId())
      throw new Error("no heartbeat within the lease: the task waits until the node is registered");
    const incarnation = this.#options.incarnation();
    const creates = task.steps.filter((step) => step.action === "create");
    // Cancelled, expired, closed, not the current attempt, or never recorded: whoever reads the job sees that without us.
    const [claimed, assigned] = await Promise.all([
      this.#options.orders.claim(job, task, incarnation),
      creates.length === 0
        ? NOTHING_ASSIGNED
        : this.#options.orders.assigned(creates.map(bareId), this.#options.onError),
      // The heartbeat that tells may come after it.
      creates.length === 0 ? null : this.#options.learnEligibility(),
    ]);
    if (claimed !== "ok") return null;
    // Whoever may write to this node's queue may write a task of his own.
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
      // Where Redis took the task and not yet what was sent before it.
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

  async #carryOut({ job, revision, task }: Dispatch, { incarnation, refusalOf }: Claimed): Promise<void> {
    let isOurs = true;
    let unwritten = new Map<number, StepOutcome>();
    let sinceMs = this.#options.nowMs();
    // One at a time: what is left for the end must not overtake what is on its way.
    let writing: Promise<void> = Promise.resolve();
    const write = (ended: boolean) => {
      const batch = unwritten;
      unwritten = new Map();
      sinceMs = this.#options.nowMs();
      writing = writing.then(async () => {
        if (isOurs) isOurs = await this.#write(job, task, incarnation, batch, ended);
      });
      // Awaited at the end; a failure before that is not forgotten.
      writing.catch(() => undefined);
    };
    const atOnce = task.steps.some(starts) ? task.steps.length : STOPS_AT_ONCE;
    const left = task.steps.entries();
    const work = async () => {
      for (const [index, step] of left) {
        // First the outcome: the batch it belongs to is the one at its end.
        const outcome = await this.#step(step, { revision, wave: task.wave }, refusalOf(step));
        unwritten.set(index, outcome);
        if (unwritten.size >= BATCH || this.#options.nowMs() - sinceMs >= BATCH_MS) write(false);
      }
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, task.steps.length) }, work));
    write(true);
    await writing;
    if (!isOurs) this.#options.say(`${task.id} of ${job} was taken up again since: what came of it here is dropped`);
  }

  /** Tries until Redis takes it: what is done need not be delivered again to be told. @returns as `Orders.tell`. */
  async #write(
    job: string,
    task: Task,
    incarnation: number,
    outcomes: ReadonlyMap<number, StepOutcome>,
    ended: boolean,
  ): Promise<boolean> {
    for (;;) {
      while (!(await this.#mayTell(task))) await this.#options.nextBeat();
      try {
        return await this.#options.orders.tell(job, task, incarnation, outcomes, ended);
      } catch (error) {
        if (!isRedisUnavailable(error)) throw error;
        await this.#options.nextBeat();
      }
    }
  }

  /**
   * What a finished job speaks of must be there to be read. And a worker that has lost its id has no say: its stitches were
   * ended for that alone, and the task is another worker's.
   */
  async #mayTell(task: Task): Promise<boolean> {
    const isPublished = !task.steps.some(isStitchStep) || (await this.#options.publisher.flush());
    return isPublished && this.#options.holdsId();
  }

  /** @param refused why what it is to run is not let in. */
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
        // One that was carried out before has its outcome, whatever has become of its spec.
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
