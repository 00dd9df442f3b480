import { RequestError } from "../domain/errors.ts";
import { type ClusterEvent, type EventFilter, eventMatches } from "../domain/event.ts";
import type {
  ClusterResource,
  EventResource,
  JobResource,
  ListedJobResource,
  ListedStepResource,
  ListResource,
} from "../domain/resources.ts";
import type { StitchRecord } from "../domain/stitch.ts";
import type { Dispatcher } from "../queue/dispatcher.ts";
import type { RedisClient } from "../redis/client.ts";
import { emitEvents, eventsAfter, eventsBefore, refuseGoneEvents } from "../redis/events.ts";
import { writeFormat } from "../redis/format.ts";
import type { JobHints } from "../redis/job-hints.ts";
import { listJobIds, openJobsOf } from "../redis/job-index.ts";
import { cancelJob } from "../redis/job-record.ts";
import type { Keys } from "../redis/keys.ts";
import { redisTimeMs } from "../redis/node-record.ts";
import type { ReplyHints } from "../redis/reply-hints.ts";
import { type OnUnreadable, passingOver, tellOnce, writeIndex } from "../redis/unreadable.ts";
import { DeadLetters } from "./dead-letters.ts";
import { ClusterState, decodeCursor, encodeCursor } from "./cluster-state.ts";
import { forgetNode } from "./forget-node.ts";
import { Housekeeping } from "./housekeeping.ts";
import { Intake } from "./intake.ts";
import { JobDesk } from "./job-desk.ts";
import { JobWaiter } from "./job-waiter.ts";
import { allSteps, iso, listedJob } from "./job-view.ts";
import type { JobFilter, Master, Page, StepFilter, Tended } from "./master.ts";
import { NodeQuestions } from "./node-questions.ts";
import { Messages } from "./messages.ts";
import { Recipients } from "./recipients.ts";
import { Observer } from "./observe.ts";
import { search } from "./search.ts";
import { StitchLogs } from "./stitch-logs.ts";

/** Rounds of tending between two looks for chores: half a minute. */
const CHORES_EVERY = 30;
/** Jobs read at once for a page: each is a few round trips of its own. */
const JOBS_AT_ONCE = 200;
const EVENTS_AT_ONCE = 1000;
/** Begins the cursor of a list of events that goes back; that of one that goes on is an id. */
const BEFORE = "before-";

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
  /** Told of what failed after a command was accepted, which a sweep makes up for, and of records that cannot be read. */
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
  readonly #housekeeping: Housekeeping;
  readonly #onUnreadable: OnUnreadable;
  #rounds = 0;

  constructor(options: LeaderlessOptions) {
    this.id = options.id;
    this.#o = options;
    const onUnreadable = tellOnce(options.onLate);
    this.#onUnreadable = onUnreadable;
    this.#state = new ClusterState(options.redis, options.keys, options.deadAfterMs, options.nowMs, onUnreadable);
    this.#housekeeping = new Housekeeping({ ...options, onUnreadable });
    const observer = new Observer(options.redis, options.keys, options.deadAfterMs, onUnreadable);
    const desk = new JobDesk({ ...options, observer, onUnreadable });
    const waiter = new JobWaiter(desk, options.hints, options.nowMs);
    const intake = new Intake({ ...options, desk, waiter, observer, onUnreadable });
    this.#desk = desk;
    this.submit = (submission) => intake.submit(submission);
    this.retry = (id) => intake.retry(id);
    this.rollback = (id, reason = null) => intake.rollback(id, reason);
    this.job = (id, waitMs) => waiter.job(id, waitMs);
    this.cluster = () => this.#state.cluster();
    this.nodes = (page, filter) => this.#state.nodes(page, filter);
    this.node = (id) => this.#state.node(id);
    this.stitches = (page, filter) => this.#state.stitches(page, filter);
    this.stitch = (ref) => this.#state.stitch(ref);
    this.groups = (page) => this.#state.groups(page);
    this.group = (name) => this.#state.group(name);
    this.locate = (ref) => this.#state.locate(ref);
    const recipients = new Recipients({ ...options, onUnreadable, locate: this.locate });
    const messages = new Messages({ ...options, recipients });
    const deadLetters = new DeadLetters({ ...options, recipients, onUnreadable });
    this.send = (request, key, scope) => messages.send(request, key, scope);
    this.deadLetters = (page, filter) => deadLetters.list(page, filter);
    this.redriveDeadLetter = (id) => deadLetters.redrive(id);
    this.deleteDeadLetter = (id) => deadLetters.delete(id);
    const forgetting = {
      ...options,
      onUnreadable,
      buryInbox: (node: string, incarnation: number, stitches: readonly StitchRecord[]) =>
        deadLetters.buryInbox(node, incarnation, stitches),
    };
    this.forgetNode = (id) => forgetNode(forgetting, id);
    const logs = new StitchLogs({ ...options, questions: new NodeQuestions(options), locate: this.locate });
    this.logs = (ref, tail) => logs.tail(ref, tail);
    this.followLogs = (ref, from, signal) => logs.follow(ref, from, signal);
  }

  readonly submit: Master["submit"];
  readonly retry: Master["retry"];
  readonly rollback: Master["rollback"];
  readonly job: Master["job"];
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
  readonly forgetNode: Master["forgetNode"];

  async jobs(page: Page, filter: JobFilter): Promise<ListResource<ListedJobResource>> {
    const { redis, keys } = this.#o;
    const isWanted = (job: ListedJobResource) =>
      (filter.status === undefined || job.status === filter.status) &&
      (filter.target === undefined || job.target === filter.target) &&
      (filter.command === undefined || job.command === filter.command);
    const [nowMs, { items, last }] = await Promise.all([
      redisTimeMs(redis, keys.events),
      search({
        limit: page.limit,
        atOnce: JOBS_AT_ONCE,
        after: page.cursor === null ? null : decodeCursor(page.cursor, jobCursor),
        read: (after: JobPlace | null, count) => listJobIds(redis, keys, after, count),
        view: async (rows) => {
          const found = await Promise.all(
            rows.map(({ id }) => this.#desk.find(id).catch(passingOver(this.#onUnreadable))),
          );
          return found
            .map((settled) => (settled === null ? null : listedJob(settled.state, settled.folded)))
            .map((job) => (job !== null && isWanted(job) ? job : null));
        },
        nowMs: this.#o.nowMs,
      }),
    ]);
    return {
      items,
      nextCursor: last === null ? null : encodeCursor([last.createdAtMs, last.id]),
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

  async tend(): Promise<Tended> {
    const { redis, keys } = this.#o;
    const nowMs = await redisTimeMs(redis, keys.masters);
    this.#rounds += 1;
    await Promise.all([
      // A Redis that came back empty has nothing that tells it.
      writeFormat(redis, keys),
      writeIndex(redis, keys.masters, "zset", () => redis.zadd(keys.masters, nowMs, this.id)),
      writeIndex(redis, keys.masters, "zset", () => redis.zremrangebyscore(keys.masters, "-inf", nowMs - 60_000)),
    ]);
    // Not waited for: a chore may take long, and no job waits for it.
    if (this.#rounds % CHORES_EVERY === 1) this.#housekeeping.work().catch(this.#o.onLate);
    return this.#desk.tend();
  }

  async settle(ids: readonly string[]): Promise<void> {
    const open = await openJobsOf(this.#o.redis, this.#o.keys, ids);
    await Promise.all(open.map((id) => this.#desk.find(id)));
  }

  async events(from: string | null, limit: number, filter: EventFilter = {}): Promise<ListResource<EventResource>> {
    const { redis, keys } = this.#o;
    const goesBack = from === null || from.startsWith(BEFORE);
    if (!goesBack) await refuseGoneEvents(redis, keys, from);
    const [nowMs, { items, last }] = await Promise.all([
      redisTimeMs(redis, keys.events),
      search({
        limit,
        atOnce: EVENTS_AT_ONCE,
        after: from === null ? null : { id: goesBack ? from.slice(BEFORE.length) : from },
        read: (after: { readonly id: string } | null, count) =>
          goesBack
            ? eventsBefore(redis, keys, after?.id ?? null, count, this.#onUnreadable)
            : eventsAfter(redis, keys, after?.id ?? "0-0", count, this.#onUnreadable),
        view: (rows) =>
          Promise.resolve(rows.map(({ event }) => (event !== null && eventMatches(event, filter) ? event : null))),
        nowMs: this.#o.nowMs,
      }),
    ]);
    return {
      items: goesBack ? items.reverse() : items,
      nextCursor: last === null ? null : goesBack ? `${BEFORE}${last.id}` : last.id,
      asOf: iso(nowMs),
    };
  }

  async emit(events: readonly ClusterEvent[]): Promise<void> {
    await emitEvents(this.#o.redis, this.#o.keys, events);
  }
}

type JobPlace = { readonly createdAtMs: number; readonly id: string };

const jobCursor = (value: unknown): JobPlace | null =>
  Array.isArray(value) && typeof value[0] === "number" && typeof value[1] === "string"
    ? { createdAtMs: value[0], id: value[1] }
    : null;
