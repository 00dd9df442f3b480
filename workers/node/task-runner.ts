import type { Dispatch, Step, StitchStep } from "../../src/domain/job.ts";
import type { StepOutcome } from "../../src/domain/stitch.ts";
import type { RedisClient } from "../../src/redis/client.ts";
import { claim, recordOutcomes } from "../../src/redis/job-record.ts";
import type { Keys } from "../../src/redis/keys.ts";
import type { Publisher } from "./publisher.ts";
import type { StitchHost } from "./stitch-host.ts";

export type TaskRunnerOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly node: string;
  readonly host: StitchHost;
  readonly publisher: Publisher;
  readonly incarnation: () => number;
  /** Is the lease this worker's, as far as it can tell without asking? */
  readonly holdsId: () => boolean;
  readonly nowMs: () => number;
};

const isStitchStep = (step: Step): step is StitchStep => step.stitch !== null;

/** Carries out tasks: claims, runs the steps, writes the outcomes. Rejects where Redis fails, and may then be run again. */
export class TaskRunner {
  readonly #o: TaskRunnerOptions;

  constructor(options: TaskRunnerOptions) {
    this.#o = options;
  }

  async run({ job, revision, task }: Dispatch): Promise<void> {
    const { redis, keys, node } = this.#o;
    if (!this.#o.holdsId())
      throw new Error("no heartbeat within the lease: the task waits until the node is registered");
    // Cancelled, expired, closed, not the current attempt, or never recorded: whoever reads the job sees that without us.
    if ((await claim(redis, keys, job, node, task, this.#o.incarnation())) !== "ok") return;
    const outcomes = new Map<number, StepOutcome>();
    await Promise.all(
      task.steps.map(async (step, index) => {
        outcomes.set(index, await this.#step(step, revision, task.wave));
      }),
    );
    // What a finished job speaks of must be there to be read.
    if (task.steps.some(isStitchStep)) await this.#o.publisher.flush();
    await recordOutcomes(redis, keys, job, node, task.id, outcomes, true);
  }

  async #step(step: Step, revision: number, wave: number): Promise<StepOutcome> {
    const startedAtMs = this.#o.nowMs();
    try {
      if (isStitchStep(step)) return await this.#o.host.apply(step, { revision, wave });
      return {
        status: "succeeded",
        changed: false,
        startedAtMs,
        finishedAtMs: this.#o.nowMs(),
        output: { incarnation: this.#o.incarnation() },
        error: null,
      };
    } catch (error) {
      return {
        status: "failed",
        changed: false,
        startedAtMs,
        finishedAtMs: this.#o.nowMs(),
        output: null,
        error: { code: "internal", message: error instanceof Error ? error.message : String(error) },
      };
    }
  }
}
