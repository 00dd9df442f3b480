import { canonicalJson } from "../../domain/json/canonical-json.ts";
import { type Command, commandOptions, definitionOf } from "../../domain/commands/command.ts";
import type { CommandName } from "../../domain/commands/command-names.ts";
import { RequestError } from "../../domain/errors.ts";
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
import { jobIdFromBytes } from "../../domain/names/ids.ts";
import type { JobRecord, JobState } from "../../domain/job/job.ts";
import type { Observed } from "../../domain/planning/observed.ts";
import { deadlineOf, planCommand, planFingerprint } from "../../domain/commands/plan.ts";
import { leastDurationMs, type Plan } from "../../domain/planning/planned.ts";
import { checkPlanSize } from "../../domain/planning/plan-size.ts";
import { refusalText } from "../../domain/placement/placement.ts";
import type { PlanResource } from "../../contract/plan.ts";
import { followUp } from "../../redis/job/job-record.ts";
import { sha256, sha256Hex } from "../../domain/json/digest.ts";
import {
  type AcceptedJob,
  type Draft,
  JobAcceptance,
  type JobAcceptanceOptions,
  randomJobId,
  type Recorded,
} from "./job-acceptance.ts";
import { iso } from "../../contract/time.ts";
import type { Submission, Submitted } from "../ports.ts";
import type { Observer } from "../state/observer.ts";

const FOLLOWS_NONE = { retryOf: null, rollbackOf: null };

/** What a client asks for that becomes a job: a command, or that a job is repeated or taken back. */
export type CommandRequest =
  | { readonly kind: "submit"; readonly submission: Submission }
  | { readonly kind: "retry"; readonly of: string }
  | { readonly kind: "rollback"; readonly of: string; readonly reason: string | null };

/** The job that a request asks for: see `Draft`. */
export type NamedJob = Pick<Draft, "id" | "bodyHash" | "repeatable">;

/** Answers commands: plans them and passes them to `JobAcceptance`, which accepts them as jobs. */
export class CommandService {
  readonly #options: JobAcceptanceOptions;
  readonly #acceptance: JobAcceptance;

  constructor(options: JobAcceptanceOptions) {
    this.#options = options;
    this.#acceptance = new JobAcceptance(options);
  }

  /** Plans a command, and changes nothing. */
  async plan({ command }: Submission): Promise<Extract<Submitted, { kind: "plan" }>> {
    const observed = await this.#observe(this.#options.observer, command, false);
    const plan = planCommand(command, observed);
    checkPlanSize(plan);
    return { kind: "plan", plan: await this.#planView(command, plan, observed) };
  }

  /** Names the job that a request asks for. The same request with an idempotency key always names the same job. */
  async name(request: CommandRequest): Promise<NamedJob> {
    if (request.kind !== "submit") {
      // The id does not depend on the caller, so that asking twice creates one job.
      const as = request.kind === "retry" ? "retriedBy" : "rolledBackBy";
      const id = jobIdFromBytes(await sha256(JSON.stringify([this.#options.keys.cluster, as, request.of])));
      return { id, bodyHash: "", repeatable: true };
    }
    const { submission } = request;
    const { dryRun: _, ...asked } = submission.command;
    const repeatable = submission.idempotencyKey !== null;
    // Without a key no other request has the same id, so there is no body to compare with.
    const bodyHash = repeatable ? await sha256Hex(canonicalJson(asked)) : "";
    return { id: await this.#jobIdFor(submission), bodyHash, repeatable };
  }

  /** As `JobAcceptance.replay`. */
  replay({ id, bodyHash }: NamedJob, waitMs: number): Promise<AcceptedJob | null> {
    return this.#acceptance.replay(id, bodyHash, waitMs);
  }

  /**
   * Accepts the job that a request asks for. Safe to repeat if the job is `repeatable`.
   * @param ask see `Draft.ask`.
   */
  async accept(request: CommandRequest, job: NamedJob, ask: string | null = null): Promise<AcceptedJob> {
    const common = { ...job, ask };
    if (request.kind === "submit") return this.#accept(request.submission, common);
    if (request.kind === "retry") {
      const { state, folded } = await this.#finished(request.of, "retried");
      return this.#follow(state, retryOf(state, folded), "retriedBy", state.record.reason, common);
    }
    const { state, folded } = await this.#finished(request.of, "taken back");
    return this.#follow(state, rollbackOf(state, folded), "rolledBackBy", request.reason, common);
  }

  #accept({ command, by, waitMs }: Submission, job: NamedJob & Pick<Draft, "ask">): Promise<AcceptedJob> {
    return this.#acceptance.accept({
      ...job,
      recordedAs: (plan, observed) => recordedOf(command, plan, observed),
      reason: command.reason ?? null,
      by,
      waitMs,
      follows: FOLLOWS_NONE,
      scopes: scopesOf(command),
      observe: this.#observing(command),
      plan: (observed) => this.#planOrRefuse(command, observed),
    });
  }

  async #finished(id: string, what: string) {
    const advanced = await this.#options.jobService.advanceKnown(id);
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
    job: NamedJob & Pick<Draft, "ask">,
  ): Promise<AcceptedJob> {
    const { redis, keys } = this.#options;
    const follows =
      as === "retriedBy" ? { ...FOLLOWS_NONE, retryOf: record.id } : { ...FOLLOWS_NONE, rollbackOf: record.id };
    const common = { ...job, reason, by: record.by, waitMs: 0, follows };
    const submitted =
      (await this.replay(job, 0)) ??
      (await this.#acceptance.accept({ ...common, ...this.#drafted(record, await this.#asTheyLive(record, next)) }));
    await followUp(redis, keys, record.id, as, job.id);
    return submitted;
  }

  async #asTheyLive({ revision }: JobRecord, next: FollowUp): Promise<FollowUp> {
    return whereTheyLive(next, await this.#options.observer.movedSince(revision, stepsIn(next)));
  }

  #drafted(record: JobRecord, next: FollowUp): Pick<Draft, "recordedAs" | "scopes" | "observe" | "plan"> {
    if (next.kind === "command") {
      const { command } = next;
      return {
        recordedAs: (plan, observed) => recordedOf(command, plan, observed),
        scopes: scopesOf(command),
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
      scopes: null,
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

  async #jobIdFor({ idempotencyKey, scope }: Submission): Promise<string> {
    if (idempotencyKey === null) return randomJobId(this.#options.randomBytes);
    return jobIdFromBytes(await sha256(JSON.stringify([this.#options.keys.cluster, scope, idempotencyKey])));
  }

  /** Draws numbers for new stitches only for the plan that is carried out. */
  #observing(command: Command): Draft["observe"] {
    const { drawsOnceHeld } = definitionOf(command);
    return (observer, held) => this.#observe(observer, command, held || drawsOnceHeld !== true);
  }

  async #observe(observer: Observer, command: Command, draw: boolean): Promise<Observed> {
    const observed = await definitionOf(command).observe(command, observer, draw);
    // Without load: a load that changes meanwhile must not make the shown plan differ from the command that applies it.
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
      master: this.#options.id,
    };
  }
}

type PlannedTask = PlanResource["tasks"][number];

const planned = ({ action, stitch }: PlannedTask["steps"][number]) => ({ action, stitch });

/** The steps of the chains, wave after wave, and in each wave grouped by node. */
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

/** See `CommandDefinition.scopes`. */
function scopesOf(command: Command): Draft["scopes"] {
  const { scopes } = definitionOf(command);
  return scopes === undefined ? null : (observer) => scopes(command, observer);
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
