import { canonicalJson } from "../domain/canonical-json.ts";
import type { Command } from "../domain/command.ts";
import { commandOptions } from "../domain/command.ts";
import { RequestError } from "../domain/errors.ts";
import type { ClusterEvent } from "../domain/event.ts";
import { foldJob, nodesInDoubt } from "../domain/fold.ts";
import { jobIdFromBytes } from "../domain/ids.ts";
import type { JobRecord, JobState } from "../domain/job.ts";
import { livenessOf } from "../domain/node.ts";
import { type Observed, type Plan, planCommand, planFingerprint } from "../domain/plan.ts";
import type {
  ClusterResource,
  EventResource,
  JobResource,
  ListedJobResource,
  ListedStepResource,
  ListResource,
  PlanResource,
} from "../domain/resources.ts";
import type { Dispatcher } from "../queue/dispatcher.ts";
import type { RedisClient } from "../redis/client.ts";
import { emitEvents, eventsGone, latestEvents, readEvents } from "../redis/events.ts";
import { isCluster } from "../redis/connection.ts";
import type { HintWatch } from "../redis/hint-watchers.ts";
import type { JobHints } from "../redis/job-hints.ts";
import {
  cancelJob,
  createJob,
  dropOpenJob,
  indexOpenJob,
  listJobIds,
  openJobsOf,
  pruneRecentJobs,
  readHint,
} from "../redis/job-record.ts";
import type { Keys } from "../redis/keys.ts";
import { readNodes, redisTimeMs } from "../redis/node-record.ts";
import type { ReplyHints } from "../redis/reply-hints.ts";
import { forgetStitchesOf, readOwnStitches } from "../redis/stitch-records.ts";
import { DeadLetters } from "./dead-letters.ts";
import { ClusterState, decodeCursor, encodeCursor } from "./cluster-state.ts";
import { sha256, sha256Hex } from "./digest.ts";
import { FIRST_LOOK_MS, JobDesk, type Settled } from "./job-desk.ts";
import { allSteps, iso, jobView, listedJob } from "./job-view.ts";
import type { JobFilter, Master, Page, StepFilter, Submission, Submitted, Tended } from "./master.ts";
import { NodeQuestions } from "./node-questions.ts";
import { Messages } from "./messages.ts";
import { Recipients } from "./recipients.ts";
import { observe } from "./observe.ts";
import { StitchLogs } from "./stitch-logs.ts";

/** Whoever waits for a job looks this often even where no hint comes. */
const LOOK_MS = 1000;
/** How often a tending Master clears the list of jobs of those whose record has expired. */
const PRUNE_EVERY = 60;

export type LeaderlessOptions = {
  readonly id: string;
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly dispatcher: Dispatcher;
  readonly hints: JobHints;
  readonly replies: ReplyHints;
  readonly deadAfterMs: number;
  readonly jobRetentionMs: number;
  readonly nowMs: () => number;
  readonly randomBytes: (count: number) => Uint8Array;
  /** Told of what failed after a command was accepted; a sweep makes up for it. */
  readonly onLate: (error: unknown) => void;
};

/**
 * The default Master: whichever process receives a command plans and dispatches it, from the state it sees. There is no
 * leader and nothing to elect; conflicting commands given at once are settled by their revisions, on the node.
 */
export class LeaderlessMaster implements Master {
  readonly id: string;
  readonly mode: ClusterResource["mode"] = "leaderless";
  readonly #o: LeaderlessOptions;
  readonly #state: ClusterState;
  readonly #desk: JobDesk;
  readonly #deadLetters: DeadLetters;
  #rounds = 0;

  constructor(options: LeaderlessOptions) {
    this.id = options.id;
    this.#o = options;
    this.#state = new ClusterState(options.redis, options.keys, options.deadAfterMs);
    this.#desk = new JobDesk(options);
    this.cluster = () => this.#state.cluster();
    this.nodes = (page, filter) => this.#state.nodes(page, filter);
    this.node = (id) => this.#state.node(id);
    this.stitches = (page, filter) => this.#state.stitches(page, filter);
    this.stitch = (ref) => this.#state.stitch(ref);
    this.groups = (page) => this.#state.groups(page);
    this.group = (name) => this.#state.group(name);
    this.locate = (ref) => this.#state.locate(ref);
    const recipients = new Recipients({ ...options, locate: this.locate });
    const messages = new Messages({ ...options, recipients });
    const deadLetters = new DeadLetters({ ...options, recipients });
    this.#deadLetters = deadLetters;
    this.send = (request, key, scope) => messages.send(request, key, scope);
    this.deadLetters = (page, filter) => deadLetters.list(page, filter);
    this.redriveDeadLetter = (id) => deadLetters.redrive(id);
    this.deleteDeadLetter = (id) => deadLetters.delete(id);
    const logs = new StitchLogs({ ...options, questions: new NodeQuestions(options), locate: this.locate });
    this.logs = (ref, tail) => logs.tail(ref, tail);
    this.followLogs = (ref, from, signal) => logs.follow(ref, from, signal);
  }

  readonly cluster: Master["cluster"];
  readonly nodes: Master["nodes"];
  readonly node: Master["node"];
  readonly stitches: Master["stitches"];
  readonly stitch: Master["stitch"];
  readonly groups: Master["groups"];
  readonly group: Master["group"];
  readonly locate: Master["locate"];
  readonly logs: Master["logs"];
  readonly followLogs: Master["followLogs"];
  readonly send: Master["send"];
  readonly deadLetters: Master["deadLetters"];
  readonly redriveDeadLetter: Master["redriveDeadLetter"];
  readonly deleteDeadLetter: Master["deleteDeadLetter"];

  async submit(submission: Submission): Promise<Submitted> {
    const { command } = submission;
    if (command.dryRun) {
      const observed = await this.#observe(command, 0);
      return { kind: "plan", plan: await this.#planView(command, planCommand(command, observed), observed) };
    }
    const { dryRun: _, ...asked } = command;
    // Without a key nobody can come with the same id again, so there is nothing to compare.
    const bodyHash = submission.idempotencyKey === null ? "" : await sha256Hex(canonicalJson(asked));
    const id = await this.#jobIdFor(submission);
    if (submission.idempotencyKey !== null) {
      const known = await this.#replay(id, bodyHash, submission.waitMs);
      if (known !== null) return known;
    }
    const watch = submission.waitMs > 0 ? this.#o.hints.watch(id) : null;
    try {
      return await this.#accept(submission, id, bodyHash, watch);
    } catch (error) {
      // The same request may have been accepted meanwhile through another API: then its effect is why this plan failed.
      const known =
        submission.idempotencyKey !== null && error instanceof RequestError
          ? await this.#replay(id, bodyHash, submission.waitMs)
          : null;
      if (known !== null) return known;
      throw error;
    } finally {
      watch?.stop();
    }
  }

  async #accept(
    { command, by, waitMs, idempotencyKey }: Submission,
    id: string,
    bodyHash: string,
    watch: HintWatch | null,
  ): Promise<Submitted> {
    const { redis, keys } = this.#o;
    const askedAtMs = this.#o.nowMs();
    // The pointer first, then the record: see redis/job-record.ts. The two reads share its round trip.
    const [observed, revision] = await Promise.all([
      this.#observe(command, command.command === "stitch.create" ? command.count : 1),
      redis.incr(keys.revision),
      indexOpenJob(redis, keys, id, this.#o.nowMs() + FIRST_LOOK_MS),
    ]);
    const plan = await this.#planOrRefuse(command, observed).catch(async (error: unknown) => {
      // With a key the pointer may be another request's by now; a stale one is dropped by the sweep.
      if (idempotencyKey === null) await dropOpenJob(redis, keys, id);
      throw error;
    });
    const record: JobRecord = {
      id,
      command: command.command,
      target: command.target,
      options: commandOptions(command),
      reason: command.reason ?? null,
      by,
      master: this.id,
      revision,
      createdAtMs: observed.nowMs,
      deadlineAtMs: observed.nowMs + command.deadlineMs,
      waitForNode: command.waitForNode,
      tasks: [...plan.tasks],
    };
    // Once accepted, whatever fails is made up for by a sweep, so it must not turn the answer into an error.
    const dispatch = () =>
      Promise.all([this.#desk.dispatch(record, record.tasks), emitEvents(redis, keys, [accepted(record)])]).catch(
        this.#o.onLate,
      );
    if (idempotencyKey === null && !isCluster(redis)) {
      // Nobody else can make a job with this id, so on one Redis both go out in one round trip: the record is written first.
      await Promise.all([createJob(redis, keys, record, bodyHash), dispatch()]);
    } else {
      if ((await createJob(redis, keys, record, bodyHash)) !== null) {
        const known = await this.#replay(id, bodyHash, waitMs);
        if (known !== null) return known;
      }
      await dispatch();
    }
    const state: JobState = {
      record,
      bodyHash,
      marks: { cancelledAtMs: null, closed: null },
      outcomes: { claims: [], steps: new Map() },
      nowMs: observed.nowMs,
      written: 0,
    };
    const here = record.tasks.some((task) => task.refused !== null || task.runs === "master");
    if (watch === null && !here)
      return { kind: "job", job: jobView(state, foldJob(state, new Map())), replayed: false };
    const settled =
      (here || watch === null ? null : await this.#endByHints(state, waitMs, watch)) ??
      (await this.#await(id, waitMs - (this.#o.nowMs() - askedAtMs), watch));
    return { kind: "job", job: jobView(settled.state, settled.folded), replayed: false };
  }

  /** Waits for the end of a job: hints hasten, a look each second guarantees. */
  async #await(id: string, waitMs: number, watch: HintWatch | null): Promise<Settled> {
    const untilMs = this.#o.nowMs() + waitMs;
    const left = () => untilMs - this.#o.nowMs();
    for (;;) {
      const settled = await this.#desk.settle(id);
      if (settled.state.marks.closed !== null || watch === null || left() <= 0) return settled;
      await watch.next(Math.min(LOOK_MS, left()));
    }
  }

  /**
   * Ends a job that this process has just accepted with the outcomes that came with the hints, so that nothing has to be
   * read again. @returns null where they do not tell everything within the first look's time: then the job must be read.
   */
  async #endByHints(accepted: JobState, waitMs: number, watch: HintWatch): Promise<Settled | null> {
    const untilMs = this.#o.nowMs() + Math.min(LOOK_MS, waitMs);
    const written = new Map<string, number>();
    const told: string[] = [];
    let state = accepted;
    for (;;) {
      const payloads = await watch.next(Math.max(0, untilMs - this.#o.nowMs()));
      const hints = payloads.map(readHint);
      if (hints.length === 0 || hints.includes(null)) return null;
      for (const hint of hints) {
        if (hint === null) continue;
        written.set(hint.runner, hint.written);
        told.push(...hint.told);
        state = { ...state, outcomes: { claims: [], steps: new Map([...state.outcomes.steps, ...hint.steps]) } };
      }
      if (nodesInDoubt(state).length > 0) {
        // All have ended, and some told only of their last outcomes.
        if (written.size === accepted.record.tasks.length) return null;
        continue;
      }
      const total = [...written.values()].reduce((sum, each) => sum + each, 0);
      const settled = await this.#desk.judge({ ...state, written: total }, told);
      return settled === "changed" || settled === "gone" ? null : settled;
    }
  }

  /** The job that was first made with this id; null where there is none. @throws `idempotency_conflict` for another body. */
  async #replay(id: string, bodyHash: string, waitMs: number): Promise<Submitted | null> {
    const found = await this.#desk.find(id);
    if (found === null) return null;
    if (found.state.bodyHash !== bodyHash)
      throw new RequestError(
        "idempotency_conflict",
        `This Idempotency-Key was used for another ${found.state.record.command}; use a new key for a new command.`,
        { jobId: id },
      );
    return { kind: "job", job: await this.job(id, waitMs), replayed: true };
  }

  async #jobIdFor({ idempotencyKey, scope }: Submission): Promise<string> {
    if (idempotencyKey === null) return jobIdFromBytes(this.#o.randomBytes(17));
    return jobIdFromBytes(await sha256(JSON.stringify([this.#o.keys.cluster, scope, idempotencyKey])));
  }

  async #observe(command: Command, take: number): Promise<Observed> {
    const observed = await observe(this.#o.redis, this.#o.keys, command, this.#o.deadAfterMs, take);
    // A plan that is shown, and the command that applies it, must not differ by a load that has changed meanwhile.
    if (!command.dryRun && command.planToken === undefined) return observed;
    return { ...observed, nodes: observed.nodes.map((node) => ({ ...node, load: null })) };
  }

  async #planOrRefuse(command: Command, observed: Observed): Promise<Plan> {
    const plan = planCommand(command, observed);
    if (!plan.feasible)
      throw new RequestError("placement_failed", placementFailure(command, plan), {
        refusals: plan.refusals,
      });
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
    return {
      command: command.command,
      target: command.target,
      feasible: plan.feasible,
      tasks: plan.tasks.map((task) => ({
        node: task.node,
        steps: task.steps.map(({ action, stitch }) => ({ action, stitch })),
      })),
      placements: plan.placements,
      refusals: plan.refusals,
      warnings: plan.tasks.flatMap((task) =>
        task.refused === null ? [] : [{ code: task.refused.code, message: task.refused.message }],
      ),
      planToken: plan.feasible ? await this.#planToken(command, plan) : null,
      asOf: iso(observed.nowMs),
    };
  }

  async job(id: string, waitMs: number): Promise<JobResource> {
    const watch = waitMs > 0 ? this.#o.hints.watch(id) : null;
    try {
      const { state, folded } = await this.#await(id, waitMs, watch);
      return jobView(state, folded);
    } finally {
      watch?.stop();
    }
  }

  async jobs(page: Page, filter: JobFilter): Promise<ListResource<ListedJobResource>> {
    const { redis, keys } = this.#o;
    const cursor = page.cursor === null ? null : decodeCursor(page.cursor, jobCursor);
    const [nowMs, rows] = await Promise.all([redisTimeMs(redis), listJobIds(redis, keys, cursor, page.limit)]);
    const found = await Promise.all(rows.map(({ id }) => this.#desk.find(id)));
    const items = found
      .filter((settled) => settled !== null)
      .map(({ state, folded }) => listedJob(state, folded))
      .filter((job) => filter.status === undefined || job.status === filter.status)
      .filter((job) => filter.target === undefined || job.target === filter.target)
      .filter((job) => filter.command === undefined || job.command === filter.command);
    const last = rows.length === page.limit ? rows.at(-1) : undefined;
    return {
      items,
      nextCursor: last === undefined ? null : encodeCursor([last.createdAtMs, last.id]),
      asOf: iso(nowMs),
    };
  }

  async steps(id: string, page: Page, filter: StepFilter): Promise<ListResource<ListedStepResource>> {
    const { state, folded } = await this.#desk.settle(id);
    const from = page.cursor === null ? 0 : decodeCursor(page.cursor, (v) => (Number.isInteger(v) ? Number(v) : null));
    const wanted = allSteps(folded)
      .filter((step) => filter.status === undefined || step.status === filter.status)
      .filter((step) => filter.node === undefined || step.node === filter.node);
    const end = from + page.limit;
    return {
      items: wanted.slice(from, end),
      nextCursor: end < wanted.length ? encodeCursor(end) : null,
      asOf: iso(state.nowMs),
    };
  }

  async cancel(id: string): Promise<JobResource> {
    const { redis, keys } = this.#o;
    const reply = await cancelJob(redis, keys, id);
    if (reply === "closed")
      throw new RequestError("job_finished", "The job has finished; there is nothing left to cancel.", { jobId: id });
    return this.job(id, 0);
  }

  async forgetNode(id: string): Promise<void> {
    const { redis, keys } = this.#o;
    const [nowMs, [node]] = await Promise.all([redisTimeMs(redis), readNodes(redis, keys, [id])]);
    if (node == null) throw new RequestError("not_found", `There is no node "${id}"; GET /v1/nodes lists them.`);
    const liveness = livenessOf(node, nowMs, this.#o.deadAfterMs);
    if (liveness === "alive" || liveness === "suspect")
      throw new RequestError(
        "node_alive",
        `${id} is ${liveness}; stop its worker first. Only dead and left nodes are forgotten.`,
      );
    const { stitches } = await readOwnStitches(redis, keys, id);
    await this.#deadLetters.buryInbox(id, stitches);
    await forgetStitchesOf(redis, keys, id);
    await this.#o.dispatcher.obliterate(id);
    // The index last: a crash before it leaves a node that can be forgotten again.
    await Promise.all([redis.del(keys.nodeMeta(id)), redis.del(keys.nodeStatus(id)), redis.del(keys.nodeOrders(id))]);
    await Promise.all([redis.zrem(keys.nodes, id), redis.zrem(keys.nodeIds, id)]);
  }

  async tend(): Promise<Tended> {
    const { redis, keys } = this.#o;
    const nowMs = await redisTimeMs(redis);
    this.#rounds += 1;
    await Promise.all([
      redis.zadd(keys.masters, nowMs, this.id),
      redis.zremrangebyscore(keys.masters, "-inf", nowMs - 60_000),
      ...(this.#rounds % PRUNE_EVERY === 1 ? [pruneRecentJobs(redis, keys, 200)] : []),
    ]);
    return this.#desk.tend();
  }

  async settle(ids: readonly string[]): Promise<void> {
    const open = await openJobsOf(this.#o.redis, this.#o.keys, ids);
    await Promise.all(open.map((id) => this.#desk.find(id)));
  }

  async events(after: string | null, limit: number): Promise<ListResource<EventResource>> {
    const { redis, keys } = this.#o;
    if (after !== null && (await eventsGone(redis, keys, after)))
      throw new RequestError(
        "events_gone",
        "Events after this id are no longer kept; read the state anew, then follow from now.",
      );
    const [nowMs, items] = await Promise.all([
      redisTimeMs(redis),
      after === null ? latestEvents(redis, keys, limit) : readEvents(redis, keys, after, limit),
    ]);
    return { items, nextCursor: null, asOf: iso(nowMs) };
  }

  async emit(events: readonly ClusterEvent[]): Promise<void> {
    await emitEvents(this.#o.redis, this.#o.keys, events);
  }
}

const accepted = (record: JobRecord): ClusterEvent => ({
  type: "job.accepted",
  job: record.id,
  data: { command: record.command, target: record.target, reason: record.reason },
});

const jobCursor = (value: unknown) =>
  Array.isArray(value) && typeof value[0] === "number" && typeof value[1] === "string"
    ? { createdAtMs: value[0], id: value[1] }
    : null;

function placementFailure(command: Command, plan: Plan): string {
  const shown = plan.refusals.slice(0, 3).map(({ node, message }) => `${node}: ${message}`);
  const more = plan.refusals.length > shown.length ? `; and ${plan.refusals.length - shown.length} more` : "";
  const why = shown.length === 0 ? "there is no node" : shown.join("; ") + more;
  const what =
    command.command === "stitch.create" ? `${command.count} of ${command.target}` : `a clone of ${command.target}`;
  return `No room for ${what} (${why}). Nothing was changed.`;
}
