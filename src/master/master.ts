import type { Command, CommandName } from "../domain/command.ts";
import type { ClusterEvent, EventFilter } from "../domain/event.ts";
import type { SendRequest } from "../domain/message.ts";
import type {
  ClusterResource,
  DeadLetterResource,
  EventResource,
  GroupResource,
  JobResource,
  JobStatus,
  ListedJobResource,
  ListedStepResource,
  ListResource,
  Liveness,
  LogLineResource,
  NodeResource,
  PlanResource,
  SentResource,
  StepStatus,
  StitchResource,
} from "../domain/resources.ts";

/** Who asks, and how it is to be carried out. */
export type Submission = {
  readonly command: Command;
  /** With it, the same body again gives the same job. */
  readonly idempotencyKey: string | null;
  /** Whose keys these are: a hash of the client's token, or "". */
  readonly scope: string;
  readonly by: string | null;
  /** Answer when the job has ended, or after this many milliseconds. */
  readonly waitMs: number;
};

export type Submitted =
  | { readonly kind: "job"; readonly job: JobResource; readonly replayed: boolean }
  | { readonly kind: "plan"; readonly plan: PlanResource };

/** A page of a filtered list holds what matches, wherever it is; see `search` for how far that is looked for. */
export type Page = { readonly limit: number; readonly cursor: string | null };
export type NodeFilter = { readonly liveness?: Liveness | undefined; readonly zone?: string | undefined };
export type StitchFilter = {
  readonly group?: string | undefined;
  readonly node?: string | undefined;
  readonly state?: StitchResource["state"] | undefined;
  readonly health?: StitchResource["health"] | undefined;
};
export type JobFilter = {
  readonly status?: JobStatus | undefined;
  readonly target?: string | undefined;
  readonly command?: CommandName | undefined;
};
export type StepFilter = { readonly status?: StepStatus | undefined; readonly node?: string | undefined };

/** Where following a log begins: after the line with this id, where it is one of this log; else with the last `tail` lines. */
export type LogStart = { readonly tail: number; readonly afterId: string | null };
/** `id`: following can go on after this line; null where it is not in the log itself. */
export type PlacedLogLine = { readonly id: string | null; readonly line: LogLineResource };

export type DeadLetterFilter = { readonly node?: string | undefined; readonly stitch?: string | undefined };
/** `replayed`: an earlier call with the same key sent it. */
export type Sent = { readonly sent: SentResource; readonly replayed: boolean };

/** What one round of tending did. */
export type Tended = { readonly looked: number; readonly dispatched: number; readonly closed: number };

/**
 * The brain of the cluster, behind one interface so that another implementation can replace the leaderless one.
 *
 * Every method throws `RequestError` with a code of the catalogue for what cannot be answered as asked, and
 * `redis_unavailable` where Redis is away. All may be called at once.
 */
export interface Master {
  /** Names this Master in the jobs it accepts. */
  readonly id: string;
  readonly mode: ClusterResource["mode"];

  /** Duty 1 and 3: the state of the cluster, read when asked. */
  cluster(): Promise<ClusterResource>;
  nodes(page: Page, filter: NodeFilter): Promise<ListResource<NodeResource>>;
  node(id: string): Promise<NodeResource>;
  stitches(page: Page, filter: StitchFilter): Promise<ListResource<StitchResource>>;
  stitch(ref: string): Promise<StitchResource>;
  groups(page: Page): Promise<ListResource<GroupResource>>;
  group(name: string): Promise<GroupResource>;
  /** Forgets a dead or left node with its stitches, queue and routes. Safe to repeat. @throws `node_alive`, `not_found`. */
  forgetNode(id: string): Promise<void>;

  /** Duty 4: the full id a reference means. @throws `not_found`, `ambiguous_stitch`. */
  locate(ref: string): Promise<string>;

  /**
   * The last lines of a stitch's log, oldest first, asked of its node.
   * @throws `not_found`, `ambiguous_stitch`; `node_unreachable` where the node is dead, has left, or does not answer within 2 s;
   *   `inbox_full`.
   */
  logs(ref: string, tail: number): Promise<ListResource<LogLineResource>>;
  /**
   * A stitch's log from a place on, line by line as it is written, until the signal aborts or the stitch or its node is
   * gone, which a last line of the source `system` says. Lines are left with the node while the iteration is not asked for
   * more. Resolves once the node follows. @throws as `logs`.
   */
  followLogs(ref: string, from: LogStart, signal: AbortSignal): Promise<AsyncIterable<readonly PlacedLogLine[]>>;

  /**
   * Duty 4: sends a message, and waits for what was asked for. `idempotencyKey`: with it, the same body again sends nothing.
   * @throws `no_recipient`, `ambiguous_stitch`, `not_addressable`, `too_large`, `inbox_full`, `stitch_failed`,
   *   `reply_timeout`, `idempotency_conflict`.
   */
  send(request: SendRequest, idempotencyKey: string | null, scope: string): Promise<Sent>;
  deadLetters(page: Page, filter: DeadLetterFilter): Promise<ListResource<DeadLetterResource>>;
  /** Sends a dead letter again. @throws `not_found`, `no_recipient`, `inbox_full`. */
  redriveDeadLetter(id: string): Promise<SentResource>;
  deleteDeadLetter(id: string): Promise<void>;

  /** Duty 5: plans a command, records it and dispatches its tasks. A dry run or an infeasible plan changes nothing. */
  submit(submission: Submission): Promise<Submitted>;
  job(id: string, waitMs: number): Promise<JobResource>;
  jobs(page: Page, filter: JobFilter): Promise<ListResource<ListedJobResource>>;
  steps(id: string, page: Page, filter: StepFilter): Promise<ListResource<ListedStepResource>>;
  /** Ends what nobody has taken up. Safe to repeat. @throws `job_finished`, `not_found`. */
  cancel(id: string): Promise<JobResource>;

  /** Repeats what did not succeed of a job, as a new one. Safe to repeat. @throws `not_found`, `job_finished`, `group_busy`, and as `submit`. */
  retry(id: string): Promise<JobResource>;
  /** Takes back what a job changed, as a new one, for a reason of its own. Safe to repeat. @throws `not_found`, `not_reversible`, `group_busy`, and as `submit`. */
  rollback(id: string, reason?: string | null): Promise<JobResource>;

  /** One round of looking after open jobs: finishes dispatches, expires, closes. Any number of Masters may do it at once. */
  tend(): Promise<Tended>;
  /** Ends those of the jobs that are open and of which nothing can still happen. Safe to repeat. */
  settle(ids: readonly string[]): Promise<void>;

  /**
   * Events, oldest first on each page. `from`: an event's id, and the pages go on after it; null, and they go back from the
   * newest; or a `nextCursor` of this list. @throws `events_gone` where those after an id are no longer kept.
   */
  events(from: string | null, limit: number, filter?: EventFilter): Promise<ListResource<EventResource>>;
  emit(events: readonly ClusterEvent[]): Promise<void>;
}
