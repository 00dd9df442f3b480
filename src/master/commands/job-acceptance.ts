import { advance } from "../../domain/job/advance.ts";
import { StaleLeader } from "../../domain/election.ts";
import { RequestError } from "../../domain/errors.ts";
import type { ClusterEvent } from "../../domain/event.ts";
import { foldJob } from "../../domain/job/fold.ts";
import { jobIdFromBytes } from "../../domain/names/ids.ts";
import type { JobRecord, JobState } from "../../domain/job/job.ts";
import type { Right } from "../../domain/master-mode.ts";
import type { Observed } from "../../domain/planning/observed.ts";
import type { Plan } from "../../domain/planning/planned.ts";
import { releaseDrafts, releaseScopes } from "../../redis/job/busy.ts";
import { isCluster } from "../../redis/connection/connection.ts";
import { storeSpec } from "../../redis/stitch/specs.ts";
import { emitEvents } from "../../redis/events.ts";
import type { HintWatch } from "../../redis/hint-watchers.ts";
import type { JobHints } from "../../redis/job/job-hints.ts";
import { dropOpenJob, indexOpenJob, takeBackOpenJob } from "../../redis/job/job-index.ts";
import { askForJob, createJob } from "../../redis/job/drafts.ts";
import { drawRevision } from "../../redis/revision.ts";
import { hex } from "../../domain/json/digest.ts";
import { FIRST_LOOK_MS, type JobService, type JobServiceOptions, type AdvancedJob } from "../jobs/job-service.ts";
import type { JobWaiter } from "../jobs/job-waiter.ts";
import type { Submitted } from "../ports.ts";
import { holdScopes } from "./scopes.ts";
import type { Observer } from "../state/observer.ts";
import type { StitchSpec } from "../../domain/stitch/spec.ts";

/** Most drafts of one command; the next one begins when the last took so long that another Master gave it up. */
const MOST_DRAFTS = 3;
/** Most plans of one command; the next one is made when a plan needs more scopes than the last. */
const MOST_PLANS = 10;

export type JobAcceptanceOptions = JobServiceOptions & {
  /** Under what this Master may plan commands now; null if it may not: in the mode `leader` only the leader may. */
  readonly planning: () => Right | null;
  /** This Master's id. */
  readonly id: string;
  readonly hints: JobHints;
  readonly jobService: JobService;
  readonly waiter: JobWaiter;
  readonly observer: Observer;
  readonly randomBytes: (count: number) => Uint8Array;
};

export type Recorded = Pick<JobRecord, "command" | "target" | "options" | "asked" | "waitForNode"> & {
  readonly deadlineMs: number;
};

/** A job before it is accepted: the request, and how to make the plan once everything that it depends on is read. */
export type Draft = {
  readonly id: string;
  readonly bodyHash: string;
  /** What the job's record says, once the plan is made. */
  readonly recordedAs: (plan: Plan, observed: Observed) => Recorded;
  readonly reason: string | null;
  readonly by: string | null;
  readonly waitMs: number;
  /** In the mode `leader`, the request that asks for the job (see redis/job/asks.ts): it may be withdrawn meanwhile; else null. */
  readonly ask: string | null;
  /** Can another request ask for the same job? Then that request may create the job meanwhile. */
  readonly repeatable: boolean;
  readonly follows: Pick<JobRecord, "retryOf" | "rollbackOf">;
  /** The scopes of its plan as far as they can be known before it; null: they cannot. See `CommandDefinition.scopes`. */
  readonly scopes: ((observer: Observer) => readonly string[] | Promise<readonly string[]>) | null;
  /** @param held true once this job holds its scopes: what is read then stays valid. */
  readonly observe: (observer: Observer, held: boolean) => Promise<Observed>;
  readonly plan: (observed: Observed) => Promise<Plan>;
};

/** What was read, and the revision that was drawn with it. */
type Reading = { readonly observed: Observed; readonly revision: number; readonly right: Right };

/** `voids`: see `createJob`. `giveBack` releases the scopes if the job is not recorded. */
type Planned = {
  readonly plan: Plan;
  readonly seen: Reading;
  readonly voids: number;
  readonly giveBack: () => Promise<unknown>;
};

/** What `askForJob` would return for an id that nobody else can have. */
const NEW = { isKnown: false, voids: 0 };

/** Thrown if the request for a job was withdrawn, or its time is up: nothing was changed. */
export class AskWithdrawn extends Error {
  override readonly name = "AskWithdrawn";
}

export type AcceptedJob = Extract<Submitted, { kind: "job" }>;

export const randomJobId = (randomBytes: JobAcceptanceOptions["randomBytes"]): string =>
  jobIdFromBytes(randomBytes(17));

/** Accepts jobs: plans a draft, takes its scopes, records it and dispatches its first tasks. */
export class JobAcceptance {
  readonly #options: JobAcceptanceOptions;

  constructor(options: JobAcceptanceOptions) {
    this.#options = options;
  }

  /**
   * Plans, records and dispatches a job. Safe to repeat if the draft is `repeatable`: the same job is created once.
   * @throws RequestError as `Draft.plan`; `group_busy`, `idempotency_conflict`, `wrong_mode`. StaleLeader. AskWithdrawn.
   */
  async accept(draft: Draft): Promise<AcceptedJob> {
    for (let drafts = 0; drafts < MOST_DRAFTS; drafts++) {
      // Without a key, an id that was given up is not used again: tasks may have been sent under it.
      const taken = await this.#takeOnce(
        drafts === 0 || draft.repeatable ? draft : { ...draft, id: randomJobId(this.#options.randomBytes) },
      );
      if (taken !== null) return taken;
    }
    throw new RequestError("group_busy", "This was held up too long, time after time; try again in a moment.");
  }

  /** @returns null if the draft took so long that another Master has given it up. */
  async #takeOnce(draft: Draft): Promise<AcceptedJob | null> {
    const { id, bodyHash, waitMs, repeatable } = draft;
    const watch = waitMs > 0 ? this.#options.hints.watch(id) : null;
    try {
      return await this.#acceptOnce(draft, watch);
    } catch (error) {
      // Another API may have accepted the same request meanwhile: then the effect of that job made this plan fail.
      const known = repeatable && error instanceof RequestError ? await this.replay(id, bodyHash, waitMs) : null;
      if (known !== null) return known;
      throw error;
    } finally {
      watch?.stop();
    }
  }

  /** @returns null if the draft has been voided. */
  async #acceptOnce(draft: Draft, watch: HintWatch | null): Promise<AcceptedJob | null> {
    const { redis, keys, jobService, nowMs } = this.#options;
    const { id, bodyHash, waitMs } = draft;
    const askedAtMs = nowMs();
    const planned = await this.#plan(draft);
    if (planned === "known") return this.replay(id, bodyHash, waitMs);
    const { plan, seen, voids, giveBack } = planned;
    const state = firstState(this.#options.id, draft, plan, seen);
    // Earlier hints, such as the one that follows the subscription, are not about this job's tasks.
    watch?.forget();
    const created = await this.#record(draft, state, seen, voids);
    if (created === "void" || created === "withdrawn") {
      await giveBack();
      if (created === "void") return null;
      throw new AskWithdrawn(`nobody asks for the job ${id} any more`);
    }
    if (created === "known") {
      // It may be this very record, which the connection sent twice. So the scopes are released when the job ends, not before.
      if ((await jobService.advance(id))?.state.marks.closed != null) await releaseScopes(redis, keys, id);
      return this.replay(id, bodyHash, waitMs);
    }
    const spec = state.record.asked === null ? null : (seen.observed.toStore?.spec ?? null);
    return this.#answer(state, spec, { waitMs, askedAtMs, watch });
  }

  /** Plans a draft and takes its scopes. @returns "known" if the job exists already, whatever else is wrong by now. */
  async #plan(draft: Draft): Promise<Planned | "known"> {
    const { redis, keys, observer, randomBytes, late, onLate } = this.#options;
    const { id, repeatable } = draft;
    // Before the draft takes anything. Where commands sent together keep their order, what follows shares its round trip.
    const asking = repeatable ? askForJob(redis, keys, id) : Promise.resolve(NEW);
    const scoping = draft.scopes?.(observer.forJob(id)) ?? [];
    if (scoping instanceof Promise || isCluster(redis)) {
      await Promise.allSettled([asking, scoping]);
      if ((await asking).isKnown) return "known";
    }
    const scopes = await scoping;
    // Another request with the same id may hold the same scopes: each releases only its own.
    const nonce = hex(randomBytes(8));
    // The pointer first, then the record: see redis/job/job-index.ts.
    const pointing = indexOpenJob(redis, keys, id, FIRST_LOOK_MS);
    const looking = this.#lookHolding(draft, nonce, scopes);
    // A repeated request may rely on the pointer by now. The sweep drops a pointer that is left over.
    const giveBack = () =>
      Promise.all([
        releaseDrafts(redis, keys, id, [nonce]),
        repeatable ? pointing.then((own) => takeBackOpenJob(redis, keys, id, own)) : dropOpenJob(redis, keys, id),
      ]);
    try {
      // Nothing is left under way: what gives back comes last.
      await Promise.allSettled([asking, pointing, looking]);
      const { isKnown, voids } = await asking;
      if (isKnown) {
        late.add(giveBack());
        return "known";
      }
      await pointing;
      return { ...(await this.#planAndTake(draft, nonce, await looking, scopes)), voids, giveBack };
    } catch (error) {
      await giveBack().catch(onLate);
      throw error;
    }
  }

  /** Writes the record, then dispatches the tasks that can begin. @returns as `createJob`. */
  async #record(
    { bodyHash, repeatable, ask }: Draft,
    { record }: JobState,
    { observed: { toStore }, right }: Reading,
    voids: number,
  ): ReturnType<typeof createJob> {
    const { redis, keys, sender, late, onLate } = this.#options;
    const dispatch = () =>
      Promise.all([
        sender.send(record, record.tasks, right, !isCluster(redis)),
        emitEvents(redis, keys, [accepted(record)]),
      ]);
    // The spec must be stored before the record that names it. A single Redis keeps the order of commands sent together.
    const storing = toStore === null ? null : storeSpec(redis, keys, toStore);
    if (isCluster(redis)) await storing;
    const led = right.election === null || ask === null ? null : { election: right.election, ask };
    const creating = createJob(redis, keys, record, bodyHash, voids, led);
    // No other request can create a job with this id, so on a single Redis both go out in one round trip, the record first.
    // If the draft is void, the claim refuses the dispatched tasks.
    const atOnce = !repeatable && !isCluster(redis);
    // The job is accepted when it is created: a sweep repairs what fails in the dispatch, and the answer does not wait for it.
    if (atOnce) late.add(dispatch());
    const [created] = await Promise.all([creating, storing]);
    if (created === "created" && !atOnce) {
      // A leader decides one request after the other: what an earlier one dispatches must not come after a later one.
      if (right.election === null) late.add(dispatch());
      else await dispatch().catch(onLate);
    }
    return created;
  }

  /** The job after the wait that the client asked for. */
  async #answer(
    state: JobState,
    spec: StitchSpec | null,
    { waitMs, askedAtMs, watch }: { waitMs: number; askedAtMs: number; watch: HintWatch | null },
  ): Promise<AcceptedJob> {
    const { jobService, waiter, nowMs } = this.#options;
    const { record } = state;
    const folded = foldJob(state, new Map());
    const jobOf = async (advanced: Pick<AdvancedJob, "state" | "folded">) =>
      ({ kind: "job", job: await waiter.view(advanced, spec), replayed: false }) as const;
    // Nothing to do in it, or its nodes are away: then it has ended, and is closed before the answer.
    const closed = folded.verdict === null ? null : await jobService.judge(state, []);
    if (closed !== null && closed !== "changed" && closed !== "gone") return jobOf(closed);
    if (watch === null && closed === null) return jobOf({ state, folded });
    const isToldByHints =
      closed === null && record.orchestration === null && record.tasks.every(({ runs }) => runs === "node");
    const advanced =
      (isToldByHints && watch !== null ? await waiter.endByHints(state, waitMs, watch) : null) ??
      (await waiter.wait(record.id, waitMs - (nowMs() - askedAtMs), watch));
    return jobOf(advanced);
  }

  /** Reads what the plan is made from, and draws the revision of what is decided with it. */
  async #look({ id, observe }: Draft, held: boolean): Promise<Reading> {
    const { redis, keys, observer } = this.#options;
    const right = this.#right();
    const [observed, revision] = await Promise.all([
      observe(observer.forJob(id), held),
      drawRevision(redis, keys, right),
    ]);
    return { observed, revision, right };
  }

  #right(): Right {
    const right = this.#options.planning();
    if (right === null) throw new StaleLeader("this Master is not the leader");
    return right;
  }

  /**
   * Plans a draft, and takes the scopes of a command of many steps. A job that has ended since may have changed what the plan
   * was made from, so it is read and planned again: two jobs that scale a group to 5 must not create 9 stitches.
   */
  async #planAndTake(
    draft: Draft,
    nonce: string,
    first: Reading,
    taken: readonly string[],
  ): Promise<{ plan: Plan; seen: Reading }> {
    const held = new Set(taken);
    let seen = first;
    let plan = await draft.plan(seen.observed);
    for (let round = 0; ; round++) {
      const more = plan.scopes.filter((scope) => !held.has(scope));
      if (more.length === 0) {
        // What is not of many steps releases nothing at its end.
        if (plan.scopes.length === 0 && held.size > 0)
          await releaseDrafts(this.#options.redis, this.#options.keys, draft.id, [nonce]);
        return { plan, seen };
      }
      if (round === MOST_PLANS)
        throw new RequestError("group_busy", "What this works on keeps changing; try again in a moment.");
      seen = await this.#lookHolding(draft, nonce, more);
      for (const scope of more) held.add(scope);
      plan = await draft.plan(seen.observed);
    }
  }

  /** Takes scopes if there are any, then reads. @throws as `holdScopes` */
  async #lookHolding(draft: Draft, nonce: string, scopes: readonly string[]): Promise<Reading> {
    if (scopes.length === 0) return this.#look(draft, false);
    const taking = holdScopes(this.#options, this.#right(), draft.id, nonce, scopes);
    if (isCluster(this.#options.redis)) {
      await taking;
      return this.#look(draft, true);
    }
    // What is sent together keeps its order: if the scopes could be taken at once, what is read was read after that. Neither is left
    // under way, so that what gives the scopes back comes last.
    const [seen, taken] = await Promise.allSettled([this.#look(draft, true), taking]);
    if (taken.status === "rejected") throw taken.reason;
    if (taken.value === "later") return this.#look(draft, true);
    if (seen.status === "rejected") throw seen.reason;
    return seen.value;
  }

  /** The job that was first created with this id; null if there is none. @throws `idempotency_conflict` for another body. */
  async replay(id: string, bodyHash: string, waitMs: number): Promise<AcceptedJob | null> {
    const found = await this.#options.jobService.advance(id);
    if (found === null) return null;
    if (found.state.bodyHash !== bodyHash)
      throw new RequestError(
        "idempotency_conflict",
        `This Idempotency-Key was used for another ${found.state.record.command}; use a new key for a new command.`,
        { jobId: id },
      );
    return { kind: "job", job: await this.#options.waiter.job(id, waitMs), replayed: true };
  }
}

/** The job at its acceptance. In a job of many steps, the first wave has begun. */
function firstState(
  master: string,
  { id, bodyHash, ...draft }: Draft,
  plan: Plan,
  { observed, revision, right }: Reading,
): JobState {
  const { nowMs } = observed;
  const { deadlineMs, ...recorded } = draft.recordedAs(plan, observed);
  const record: JobRecord = {
    id,
    ...recorded,
    reason: draft.reason,
    by: draft.by,
    master,
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
    election: right.election,
    outcomes: { claims: [], steps: new Map(), stale: new Set() },
    nowMs,
    written: 0,
  };
  const seen = { nowMs, health: new Map(), drain: null, well: null };
  const first = advance(state, foldJob(state, new Map()), seen).record;
  const { orchestration } = first;
  // The first save compares with version 1, even if nothing has begun yet.
  return { ...state, record: { ...first, orchestration: orchestration && { ...orchestration, version: 1 } } };
}

const accepted = (record: JobRecord): ClusterEvent => ({
  type: "job.accepted",
  job: record.id,
  data: { command: record.command, target: record.target, reason: record.reason },
});
