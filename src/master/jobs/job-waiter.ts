import { hasEnded, nodesInDoubt } from "../../domain/job/fold.ts";
import type { JobState } from "../../domain/job/job.ts";
import type { JobResource } from "../../contract/job.ts";
import type { StitchSpec } from "../../domain/stitch/spec.ts";
import type { StepOutcome } from "../../domain/stitch/stitch.ts";
import type { HintWatch } from "../../redis/hint-watchers.ts";
import type { JobHints } from "../../redis/job/job-hints.ts";
import { readHint } from "../../redis/job/outcomes.ts";
import type { JobService, AdvancedJob } from "./job-service.ts";
import { jobView } from "./job-view.ts";
import type { SpecStore } from "../state/spec-store.ts";

/** How often a waiting caller looks at the job, even without a hint. */
const LOOK_MS = 1000;

/** Waits for jobs to end. */
export class JobWaiter {
  readonly #jobService: JobService;
  readonly #hints: JobHints;
  readonly #specs: SpecStore;
  readonly #nowMs: () => number;

  constructor(jobService: JobService, hints: JobHints, specs: SpecStore, nowMs: () => number) {
    this.#jobService = jobService;
    this.#specs = specs;
    this.#hints = hints;
    this.#nowMs = nowMs;
  }

  /** The job when it has ended, or when the time is up. @throws RequestError `not_found`. */
  async job(id: string, waitMs: number): Promise<JobResource> {
    const watch = waitMs > 0 ? this.#hints.watch(id) : null;
    try {
      return await this.view(await this.wait(id, waitMs, watch), null);
    } finally {
      watch?.stop();
    }
  }

  /** A job with the spec that its command came with. @param known that spec, if the caller has it. */
  async view({ state, folded }: Pick<AdvancedJob, "state" | "folded">, known: StitchSpec | null): Promise<JobResource> {
    const { asked } = state.record;
    if (asked === null || known !== null) return jobView(state, folded, known);
    const { specHash } = asked;
    return jobView(state, folded, (await this.#specs.read([specHash])).get(specHash) ?? null);
  }

  /** Waits for the end of a job. Hints make it fast; a look each second makes it reliable. */
  async wait(id: string, waitMs: number, watch: HintWatch | null): Promise<AdvancedJob> {
    const untilMs = this.#nowMs() + waitMs;
    const left = () => untilMs - this.#nowMs();
    for (;;) {
      watch?.forget();
      const advanced = await this.#jobService.advanceKnown(id);
      if (advanced.state.marks.closed !== null || watch === null || left() <= 0) return advanced;
      const { tasks } = advanced.folded;
      // In a job of many steps, each ended task may start the next one. Other jobs end only when all tasks have ended.
      const open = advanced.state.record.orchestration === null ? tasks.filter(({ status }) => !hasEnded(status)) : [];
      await this.#hinted(watch, Math.max(1, open.length), Math.min(LOOK_MS, left()));
    }
  }

  /** Resolves when hints have reported the end of `tasks` tasks, or at a hint without content, or after `ms`. */
  async #hinted(watch: HintWatch, tasks: number, ms: number): Promise<void> {
    const untilMs = this.#nowMs() + ms;
    for (let ended = 0; ended < tasks; ) {
      const payloads = await watch.next(Math.max(0, untilMs - this.#nowMs()));
      if (payloads.length === 0 || payloads.includes("")) return;
      ended += payloads.length;
    }
  }

  /**
   * Closes a job that this process has just accepted, from the outcomes that came with hints, so that nothing is read again.
   * @returns null if the hints do not report everything before the first look: then the job must be read.
   */
  async endByHints(accepted: JobState, waitMs: number, watch: HintWatch): Promise<AdvancedJob | null> {
    const untilMs = this.#nowMs() + Math.min(LOOK_MS, waitMs);
    const written = new Map<string, number>();
    const told: string[] = [];
    const steps = new Map<string, StepOutcome>();
    // A task that was refused is never sent, so nobody tells of its end.
    const sent = accepted.record.tasks.filter(({ refused }) => refused === null).length;
    let ended = 0;
    for (;;) {
      const payloads = await watch.next(Math.max(0, untilMs - this.#nowMs()));
      const hints = payloads.map(readHint);
      if (hints.length === 0) return null;
      for (const hint of hints) {
        if (hint === null) return null;
        written.set(hint.runner, hint.written);
        told.push(...hint.told);
        for (const [index, outcome] of hint.steps) steps.set(index, outcome);
      }
      // Each task sends one hint, when it has ended.
      ended += hints.length;
      if (ended < sent) continue;
      const state = { ...accepted, outcomes: { claims: [], steps, stale: new Set<string>() } };
      // Some hints have only a task's last outcomes, or only say that the task has ended.
      if (nodesInDoubt(state).length > 0) return null;
      const total = [...written.values()].reduce((sum, each) => sum + each, 0);
      const advanced = await this.#jobService.judge({ ...state, written: total }, told);
      return advanced === "changed" || advanced === "gone" ? null : advanced;
    }
  }
}
