import { advance } from "../../domain/job/advance.ts";
import { canonicalJson } from "../../domain/json/canonical-json.ts";
import { type Command, commandOptions, definitionOf } from "../../domain/commands/command.ts";
import type { CommandName } from "../../domain/commands/command-names.ts";
import { RequestError } from "../../domain/errors.ts";
import type { ClusterEvent } from "../../domain/event.ts";
import {
  type Aftermath,
  type FollowUp,
  planAgain,
  planSteps,
  recordedAs,
  retryOf,
  rollbackOf,
  stepsIn,
  whereTheyLive,
} from "../../domain/commands/follow-up.ts";
import { foldJob } from "../../domain/job/fold.ts";
import { jobIdFromBytes } from "../../domain/names/ids.ts";
import type { JobRecord, JobState } from "../../domain/job/job.ts";
import type { Observed } from "../../domain/planning/observed.ts";
import { deadlineOf, planCommand, planFingerprint } from "../../domain/commands/plan.ts";
import { leastDurationMs, type Plan } from "../../domain/planning/planned.ts";
import { checkPlanSize } from "../../domain/planning/plan-size.ts";
import { refusalText } from "../../domain/placement/placement.ts";
import type { PlanResource } from "../../contract/plan.ts";
import type { JobResource } from "../../contract/job.ts";
import { giveUpDrafts, releaseDrafts, releaseScopes, takeScopes } from "../../redis/job/busy.ts";
import { isCluster } from "../../redis/connection/connection.ts";
import { storeSpec } from "../../redis/stitch/specs.ts";
import { emitEvents } from "../../redis/events.ts";
import type { HintWatch } from "../../redis/hint-watchers.ts";
import type { JobHints } from "../../redis/job/job-hints.ts";
import { dropOpenJob, indexOpenJob, takeBackOpenJob } from "../../redis/job/job-index.ts";
import { followUp } from "../../redis/job/job-record.ts";
import { createJob, timesVoided } from "../../redis/job/drafts.ts";
import { drawRevision } from "../../redis/revision.ts";
import { passingOver } from "../../redis/unreadable.ts";
import { hex, sha256, sha256Hex } from "../digest.ts";
import { FIRST_LOOK_MS, type JobService, type JobServiceOptions, type AdvancedJob } from "../jobs/job-service.ts";
import type { JobWaiter } from "../jobs/job-waiter.ts";
import { iso } from "../../contract/time.ts";
import type { Submission, Submitted } from "../ports.ts";
import type { Observer } from "../state/observe.ts";

/** A job that took what it works on and has no record after so long is one whose Master died, or was held up: it is given up. */
const UNACCEPTED_MS = 10_000;
/** Drafts of one command, where each was held up for so long that others gave it up. */
const MOST_DRAFTS = 3;
/** Plans of one command, where each time more is to be taken than the last had asked for. */
const MOST_PLANS = 10;
/** Jobs that were in the way and have ended, dropped one after the other. */
const MOST_HOLDERS = 100;

export type CommandServiceOptions = JobServiceOptions & {
  /** Of this Master. */
  readonly id: string;
  readonly hints: JobHints;
  readonly jobService: JobService;
  readonly waiter: JobWaiter;
  readonly observer: Observer;
  readonly randomBytes: (count: number) => Uint8Array;
};

type Recorded = Pick<JobRecord, "command" | "target" | "options" | "asked" | "waitForNode"> & {
  readonly deadlineMs: number;
};

/** A job that is to be: what it was asked for by, and how its plan is made once everything it depends on is read. */
type Draft = {
  readonly id: string;
  readonly bodyHash: string;
  /** What it is recorded as, once its plan is made. */
  readonly recordedAs: (plan: Plan, observed: Observed) => Recorded;
  readonly reason: string | null;
  readonly by: string | null;
  readonly waitMs: number;
  /** Can the same job be asked for again? Then another request may make it meanwhile. */
  readonly repeatable: boolean;
  readonly follows: Pick<JobRecord, "retryOf" | "rollbackOf">;
  /** @param held what it works on is this job's by now: what is read holds. */
  readonly observe: (observer: Observer, held: boolean) => Promise<Observed>;
  readonly plan: (observed: Observed) => Promise<Plan>;
};

/** What was read, and the revision that was drawn with it. */
type Reading = { readonly observed: Observed; readonly revision: number };

const FOLLOWS_NONE = { retryOf: null, rollbackOf: null };

/** Takes commands in: plans them, records the job and dispatches its first tasks. */
export class CommandService {
  readonly #o: CommandServiceOptions;

  constructor(options: CommandServiceOptions) {
    this.#o = options;
  }

  async submit(submission: Submission): Promise<Submitted> {
    const { command, by, waitMs } = submission;
    if (command.dryRun) {
      const observed = await this.#observe(this.#o.observer, command, false);
      const plan = planCommand(command, observed);
      checkPlanSize(plan);
      return { kind: "plan", plan: await this.#planView(command, plan, observed) };
    }
    const { dryRun: _, ...asked } = command;
    const repeatable = submission.idempotencyKey !== null;
    // Without a key nobody can come with the same id again, so there is nothing to compare.
    const bodyHash = repeatable ? await sha256Hex(canonicalJson(asked)) : "";
    return this.#take({
      id: await this.#jobIdFor(submission),
      bodyHash,
      recordedAs: (plan, observed) => recordedOf(command, plan, observed),
      reason: command.reason ?? null,
      by,
      waitMs,
      repeatable,
      follows: FOLLOWS_NONE,
      observe: this.#observing(command),
      plan: (observed) => this.#planOrRefuse(command, observed),
    });
  }

  /** Repeats what did not succeed of a finished job, as a new one. Safe to repeat: there is one retry of a job. */
  async retry(id: string): Promise<JobResource> {
    const { state, folded } = await this.#finished(id, "retried");
    return this.#follow(state, retryOf(state, folded), "retriedBy", state.record.reason);
  }

  /**
   * Takes back what a finished job has changed, as a new one. Safe to repeat: there is one rollback of a job.
   * @param reason why; that of the job says why it was done, not why it is taken back.
   */
  async rollback(id: string, reason: string | null): Promise<JobResource> {
    const { state, folded } = await this.#finished(id, "taken back");
    return this.#follow(state, rollbackOf(state, folded), "rolledBackBy", reason);
  }

  async #finished(id: string, what: string) {
    const advanced = await this.#o.jobService.advanceKnown(id);
    if (advanced.state.marks.closed === null)
      throw new RequestError("group_busy", `The job is still at work; it can be ${what} when it has ended.`, {
        jobId: id,
      });
    return advanced;
  }

  async #follow(
    { record }: JobState,
    next: FollowUp,
    as: "retriedBy" | "rolledBackBy",
    reason: string | null,
  ): Promise<JobResource> {
    const { redis, keys } = this.#o;
    // The same id whoever asks, so that asking twice makes one job.
    const id = jobIdFromBytes(await sha256(JSON.stringify([keys.cluster, as, record.id])));
    const follows =
      as === "retriedBy" ? { ...FOLLOWS_NONE, retryOf: record.id } : { ...FOLLOWS_NONE, rollbackOf: record.id };
    const common = {
      id,
      bodyHash: "",
      reason,
      by: record.by,
      waitMs: 0,
      repeatable: true,
      follows,
    };
    const submitted =
      (await this.#replay(id, "", 0)) ??
      (await this.#take({ ...common, ...this.#drafted(record, await this.#asTheyLive(record, next)) }));
    await followUp(redis, keys, record.id, as, id);
    return submitted.job;
  }

  async #asTheyLive({ revision }: JobRecord, next: FollowUp): Promise<FollowUp> {
    return whereTheyLive(next, await this.#o.observer.movedSince(revision, stepsIn(next)));
  }

  #drafted(record: JobRecord, next: FollowUp): Pick<Draft, "recordedAs" | "observe" | "plan"> {
    if (next.kind === "command") {
      const { command } = next;
      return {
        recordedAs: (plan, observed) => recordedOf(command, plan, observed),
        observe: this.#observing(command),
        plan: async (observed) =>
          feasibleOnly(command.command, command.target, planAgain(next, record.revision, observed)),
      };
    }
    let aftermath: Aftermath | null = null;
    return {
      recordedAs: (plan) => ({
        ...recordedAs(next, record, plan, aftermath),
        waitForNode: record.waitForNode,
        deadlineMs: record.deadlineAtMs - record.createdAtMs,
      }),
      observe: async (observer) => {
        aftermath = await observer.aftermath(next.steps);
        return aftermath;
      },
      plan: async () => {
        if (aftermath === null) throw new Error("planned before anything was read");
        return feasibleOnly(next.name, record.target, planSteps(next, record, aftermath));
      },
    };
  }

  async #take(draft: Draft): Promise<Extract<Submitted, { kind: "job" }>> {
    for (let drafts = 0; drafts < MOST_DRAFTS; drafts++) {
      // Without a key, an id that was given up is done with: tasks may have gone out under it.
      const taken = await this.#takeOnce(drafts === 0 || draft.repeatable ? draft : { ...draft, id: this.#randomId() });
      if (taken !== null) return taken;
    }
    throw new RequestError("group_busy", "This was held up too long, time after time; try again in a moment.");
  }

  /** @returns null where it took so long that another Master has given it up. */
  async #takeOnce(draft: Draft): Promise<Extract<Submitted, { kind: "job" }> | null> {
    const { id, bodyHash, waitMs, repeatable } = draft;
    let voids = 0;
    if (repeatable) {
      const [known, before] = await Promise.all([
        this.#replay(id, bodyHash, waitMs),
        timesVoided(this.#o.redis, this.#o.keys, id),
      ]);
      if (known !== null) return known;
      voids = before;
    }
    const watch = waitMs > 0 ? this.#o.hints.watch(id) : null;
    try {
      return await this.#accept(draft, voids, watch);
    } catch (error) {
      // The same request may have been accepted meanwhile through another API: then its effect is why this plan failed.
      const known = repeatable && error instanceof RequestError ? await this.#replay(id, bodyHash, waitMs) : null;
      if (known !== null) return known;
      throw error;
    } finally {
      watch?.stop();
    }
  }

  /** @param voids as `createJob` wants it. @returns null where the draft has been voided. */
  async #accept(
    draft: Draft,
    voids: number,
    watch: HintWatch | null,
  ): Promise<Extract<Submitted, { kind: "job" }> | null> {
    const { redis, keys } = this.#o;
    const { id, bodyHash, waitMs, repeatable } = draft;
    // Another request with the same id may hold the same scopes: each gives back its own alone.
    const nonce = hex(this.#o.randomBytes(8));
    const askedAtMs = this.#o.nowMs();
    // The pointer first, then the record: see redis/job/job-index.ts. The two reads share its round trip.
    const pointing = indexOpenJob(redis, keys, id, FIRST_LOOK_MS);
    const looking = Promise.all([this.#look(draft, false), pointing]);
    const planning = looking.then(([first]) => this.#planAndTake(draft, nonce, first));
    // Who can come again may have the pointer by now; what is left all the same is dropped by the sweep.
    const giveBack = () =>
      Promise.all([
        releaseDrafts(redis, keys, id, [nonce]),
        repeatable ? pointing.then((own) => takeBackOpenJob(redis, keys, id, own)) : dropOpenJob(redis, keys, id),
      ]);
    const { plan, seen } = await planning.catch(async (error: unknown) => {
      await giveBack();
      throw error;
    });
    const state = this.#firstState(draft, plan, seen);
    const { record } = state;
    // Once accepted, whatever fails is made up for by a sweep, so it must not turn the answer into an error.
    const dispatch = () =>
      Promise.all([
        this.#o.jobService.dispatch(record, record.tasks, !isCluster(redis)),
        emitEvents(redis, keys, [accepted(record)]),
      ]).catch(this.#o.onLate);
    // What was told before this, the job's subscription among it, is not of this job's tasks.
    watch?.forget();
    // What the record names must be there before it. One Redis takes what is sent together in its order.
    const storing = seen.observed.toStore === null ? null : storeSpec(redis, keys, seen.observed.toStore);
    if (isCluster(redis)) await storing;
    const creating = createJob(redis, keys, record, bodyHash, voids);
    // Nobody else can make a job with this id, so on one Redis both go out in one round trip: the record is written first.
    // Where it is void, what was dispatched is refused at the claim.
    const atOnce = !repeatable && !isCluster(redis);
    const [created] = await Promise.all([creating, storing, atOnce ? dispatch() : null]);
    if (created === "void") {
      await giveBack();
      return null;
    }
    if (created === "known") {
      // It may be this very record, which the connection sent twice: what is held goes at the end of the job, not before.
      if ((await this.#o.jobService.advance(id))?.state.marks.closed != null) await releaseScopes(redis, keys, id);
      return this.#replay(id, bodyHash, waitMs);
    }
    if (!atOnce) await dispatch();
    const here = record.tasks.some((task) => task.refused !== null || task.runs === "master");
    const several = record.orchestration !== null;
    const spec = record.asked === null ? null : (seen.observed.toStore?.spec ?? null);
    const jobOf = async (advanced: Pick<AdvancedJob, "state" | "folded">) => {
      const job = await this.#o.waiter.view(advanced, spec);
      return { kind: "job", job, replayed: false } as const;
    };
    if (watch === null && !here && !several) return jobOf({ state, folded: foldJob(state, new Map()) });
    const advanced =
      (here || several || watch === null ? null : await this.#o.waiter.endByHints(state, waitMs, watch)) ??
      (await this.#o.waiter.wait(id, waitMs - (this.#o.nowMs() - askedAtMs), watch));
    return jobOf(advanced);
  }

  /** The job as it is accepted: of a command of many steps, with the first wave begun. */
  #firstState({ id, bodyHash, ...draft }: Draft, plan: Plan, { observed, revision }: Reading): JobState {
    const { nowMs } = observed;
    const { deadlineMs, ...recorded } = draft.recordedAs(plan, observed);
    const record: JobRecord = {
      id,
      ...recorded,
      reason: draft.reason,
      by: draft.by,
      master: this.#o.id,
      revision,
      createdAtMs: nowMs,
      deadlineAtMs: nowMs + deadlineMs,
      tasks: [...plan.tasks],
      orchestration: plan.orchestration === null ? null : { ...plan.orchestration, version: 0, ended: null },
      ...draft.follows,
    };
    const state: JobState = {
      record,
      bodyHash,
      marks: { cancelledAtMs: null, closed: null },
      attempts: new Map(),
      outcomes: { claims: [], steps: new Map() },
      nowMs,
      written: 0,
    };
    const seen = { nowMs, health: new Map(), drain: null, well: null };
    const first = advance(state, foldJob(state, new Map()), seen).record;
    const { orchestration } = first;
    // What is saved compares with version 1 first, also where nothing has begun yet.
    return { ...state, record: { ...first, orchestration: orchestration && { ...orchestration, version: 1 } } };
  }

  /** What the plan is made from, and the revision of what is decided by that. */
  async #look({ id, observe }: Draft, held: boolean): Promise<Reading> {
    const { redis, keys, observer } = this.#o;
    const [observed, revision] = await Promise.all([observe(observer.forJob(id), held), drawRevision(redis, keys)]);
    return { observed, revision };
  }

  /**
   * Plans it, and takes what a command of many steps works on. What that was planned from may have been changed until then by
   * a job that has ended since, so it is read and planned again: two that scale a group to 5 must not make 9 of it.
   */
  async #planAndTake(draft: Draft, nonce: string, first: Reading): Promise<{ plan: Plan; seen: Reading }> {
    const held = new Set<string>();
    let seen = first;
    let plan = await draft.plan(seen.observed);
    for (let round = 0; ; round++) {
      const more = plan.scopes.filter((scope) => !held.has(scope));
      if (more.length === 0) return { plan, seen };
      if (round === MOST_PLANS)
        throw new RequestError("group_busy", "What this works on keeps changing; try again in a moment.");
      await this.#takeScopes(draft.id, nonce, more);
      for (const scope of more) held.add(scope);
      seen = await this.#look(draft, true);
      plan = await draft.plan(seen.observed);
    }
  }

  /** @throws RequestError `group_busy` where another job of many steps works on some of it. */
  async #takeScopes(id: string, nonce: string, scopes: readonly string[]): Promise<void> {
    const { redis, keys, jobService } = this.#o;
    for (let round = 0; round < MOST_HOLDERS; round++) {
      const holder = await takeScopes(redis, keys, id, nonce, scopes);
      if (holder === null) return;
      let isThere = true;
      const found = await jobService.advance(holder.job).then((job) => {
        isThere = job !== null;
        return job;
      }, passingOver(this.#o.onUnreadable));
      // One whose record cannot be read is no reason to work beside it.
      if (!isThere && holder.heldMs >= UNACCEPTED_MS) {
        await giveUpDrafts(redis, keys, holder.job);
        continue;
      }
      const isOpen = found === null || found.state.marks.closed === null;
      if (isOpen)
        throw new RequestError(
          "group_busy",
          `Another job works on this: ${holder.job}${found === null ? "" : ` (${found.state.record.command} ${found.state.record.target})`}. Wait for its end, or cancel it.`,
          { jobId: holder.job },
        );
      // It has ended, and whoever ended it died before it gave this back.
      await releaseScopes(redis, keys, holder.job);
    }
    throw new Error(`${MOST_HOLDERS} jobs that have ended still held what this one works on`);
  }

  /** The job that was first made with this id; null where there is none. @throws `idempotency_conflict` for another body. */
  async #replay(id: string, bodyHash: string, waitMs: number): Promise<Extract<Submitted, { kind: "job" }> | null> {
    const found = await this.#o.jobService.advance(id);
    if (found === null) return null;
    if (found.state.bodyHash !== bodyHash)
      throw new RequestError(
        "idempotency_conflict",
        `This Idempotency-Key was used for another ${found.state.record.command}; use a new key for a new command.`,
        { jobId: id },
      );
    return { kind: "job", job: await this.#o.waiter.job(id, waitMs), replayed: true };
  }

  async #jobIdFor({ idempotencyKey, scope }: Submission): Promise<string> {
    if (idempotencyKey === null) return this.#randomId();
    return jobIdFromBytes(await sha256(JSON.stringify([this.#o.keys.cluster, scope, idempotencyKey])));
  }

  #randomId(): string {
    return jobIdFromBytes(this.#o.randomBytes(17));
  }

  /** Numbers for new stitches are drawn for the plan that is carried out alone. */
  #observing(command: Command): Draft["observe"] {
    const { drawsOnceHeld } = definitionOf(command);
    return (observer, held) => this.#observe(observer, command, held || drawsOnceHeld !== true);
  }

  async #observe(observer: Observer, command: Command, draw: boolean): Promise<Observed> {
    const observed = await definitionOf(command).observe(command, observer, draw);
    // A plan that is shown, and the command that applies it, must not differ by a load that has changed meanwhile.
    if (!command.dryRun && command.planToken === undefined) return observed;
    return { ...observed, nodes: observed.nodes.map((node) => ({ ...node, load: null })) };
  }

  async #planOrRefuse(command: Command, observed: Observed): Promise<Plan> {
    const plan = feasibleOnly(command.command, command.target, planCommand(command, observed));
    if (command.planToken !== undefined && command.planToken !== (await this.#planToken(command, plan)))
      throw new RequestError("plan_stale", "The cluster has changed since that plan was made; here is the new one.", {
        plan: await this.#planView(command, plan, observed),
      });
    return plan;
  }

  async #planToken(command: Command, plan: Plan): Promise<string> {
    return (await sha256Hex(planFingerprint(command, plan))).slice(0, 32);
  }

  async #planView(command: Command, plan: Plan, observed: Observed): Promise<PlanResource> {
    const refused = plan.tasks.flatMap((task) =>
      task.refused === null ? [] : [{ code: task.refused.code, message: task.refused.message }],
    );
    return {
      command: command.command,
      target: command.target,
      feasible: plan.feasible,
      tasks: [...plan.tasks.map(({ node, steps }) => ({ node, steps: steps.map(planned) })), ...inWaves(plan)],
      placements: plan.placements,
      refusals: plan.refusals,
      warnings: [...refused, ...plan.warnings],
      planToken: plan.feasible ? await this.#planToken(command, plan) : null,
      leastDurationMs: leastDurationMs(plan),
      asOf: iso(observed.nowMs),
    };
  }
}

type PlannedTask = PlanResource["tasks"][number];

const planned = ({ action, stitch }: PlannedTask["steps"][number]) => ({ action, stitch });

/** The steps of the chains: wave after wave, and in each by their nodes. */
function inWaves({ orchestration }: Plan): PlannedTask[] {
  const tasks = new Map<string, { node: string; steps: PlannedTask["steps"][number][] }>();
  for (const { wave, links } of orchestration?.chains ?? []) {
    for (const [index, { node, step }] of links.entries()) {
      const key = [wave, index, node].join();
      const task = tasks.get(key) ?? { node, steps: [] };
      tasks.set(key, task);
      task.steps.push(planned(step));
    }
  }
  return [...tasks.values()];
}

function recordedOf(command: Command, plan: Plan, { toStore }: Observed): Recorded {
  const { spec: _, ...options } = commandOptions(command);
  const asked =
    command.command !== "stitch.create" || toStore === null
      ? null
      : { specHash: toStore.specHash, reschedule: command.spec.reschedule ?? null };
  const { command: name, target, waitForNode } = command;
  return { command: name, target, options, asked, waitForNode, deadlineMs: deadlineOf(command, plan) };
}

const accepted = (record: JobRecord): ClusterEvent => ({
  type: "job.accepted",
  job: record.id,
  data: { command: record.command, target: record.target, reason: record.reason },
});

/** @throws RequestError `placement_failed`, `too_large` */
function feasibleOnly(command: CommandName, target: string, plan: Plan): Plan {
  checkPlanSize(plan);
  if (plan.feasible) return plan;
  throw new RequestError(
    "placement_failed",
    `No room for ${command} ${target} (${refusalText(plan.refusals)}). Nothing was changed.`,
    { refusals: plan.refusals },
  );
}
