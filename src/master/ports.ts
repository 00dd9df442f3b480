import type { RemovedRecord, StepOutcome, StitchRecord, StitchUsage } from "../domain/stitch/stitch.ts";
import type { KeptAssignment } from "../domain/job/assignment.ts";
import type { Task } from "../domain/job/job.ts";
import type { NodeStatus } from "../domain/node/node.ts";
import type { Tombstone, Traces } from "../domain/job/tombstone.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import type { PutResult, Posted } from "../redis/inbox/put-messages.ts";
import type { ClaimReply } from "../redis/job/outcomes.ts";
import type { Beat, Beating, Registering, Registration } from "../redis/node/node-lease.ts";
import type { Publication, Published, StitchChange } from "../redis/stitch/stitch-records.ts";
import type { OnUnreadable } from "../redis/unreadable.ts";
import type { Command } from "../domain/commands/command.ts";
import type { CommandName } from "../domain/commands/command-names.ts";
import type { ClusterEvent, EventFilter } from "../domain/event.ts";
import type { DeadLetter, SendRequest } from "../domain/message.ts";
import type { AdoptedResource } from "../contract/node.ts";
import type { ClusterResource, MasterModeResource } from "../contract/cluster.ts";
import type { ChosenMaster } from "../domain/master-mode.ts";
import type { DeadLetterResource, SentResource } from "../contract/message.ts";
import type { Eligibility, Liveness } from "../domain/node/node.ts";
import type { EventResource } from "../contract/event.ts";
import type { GroupResource } from "../contract/group.ts";
import type { JobResource, ListedJobResource, ListedStepResource } from "../contract/job.ts";
import type { JobStatus, StepStatus } from "../domain/job/job-status.ts";
import type { ListResource } from "../contract/list.ts";
import type { LogLineResource } from "../contract/log-line.ts";
import type { NodeResource } from "../contract/node.ts";
import type { PlanResource } from "../contract/plan.ts";
import type { ListedStitchResource, StitchResource } from "../contract/stitch.ts";

/** A command, who sends it, and how to carry it out. */
export type Submission = {
  readonly command: Command;
  /** With a key, the same body again returns the same job. */
  readonly idempotencyKey: string | null;
  /** The owner of the idempotency keys: a hash of the client's token, or "". */
  readonly scope: string;
  readonly by: string | null;
  /** Answer when the job has ended, or after this many milliseconds. */
  readonly waitMs: number;
};

export type Submitted =
  | { readonly kind: "job"; readonly job: JobResource; readonly replayed: boolean }
  | { readonly kind: "plan"; readonly plan: PlanResource };

/** A page of a filtered list holds matching items from anywhere in the list; `search` bounds how far it looks. */
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

/** Where following a log begins: after the line `afterId` if this log has it, otherwise with the last `tail` lines. */
export type LogStart = { readonly tail: number; readonly afterId: string | null };
/** `id`: a reader can continue after this line; null for a line that is not in the log itself. */
export type PlacedLogLine = { readonly id: string | null; readonly line: LogLineResource };

export type DeadLetterFilter = { readonly node?: string | undefined; readonly stitch?: string | undefined };
/** `replayed`: an earlier call with the same key sent the message. */
export type Sent = { readonly sent: SentResource; readonly replayed: boolean };

/** What one sweep did. */
export type Swept = { readonly looked: number; readonly dispatched: number; readonly closed: number };

/**
 * Duties 1 and 3: observes the cluster and answers questions about it. Every list is a page. `asOf` uses the clock that
 * event ids begin with, so a client that follows events from `asOf` misses none.
 */
export interface ClusterState {
  cluster(): Promise<ClusterResource>;
  nodes(page: Page, filter: NodeFilter): Promise<ListResource<NodeResource>>;
  /** @throws `not_found`. */
  node(id: string): Promise<NodeResource>;
  stitches(page: Page, filter: StitchFilter): Promise<ListResource<ListedStitchResource>>;
  /** @param ref a bare or a full id. @throws `not_found`, `ambiguous_stitch`. */
  stitch(ref: string): Promise<StitchResource>;
  groups(page: Page): Promise<ListResource<GroupResource>>;
  /** @throws `not_found`. */
  group(name: string): Promise<GroupResource>;
  /**
   * Events, oldest first on each page. `from`: an event id (the pages go forward from it), null (they go back from the
   * newest event), or a `nextCursor` of this list. @throws `events_gone` if the events after the id are no longer kept.
   */
  events(from: string | null, limit: number, filter?: EventFilter): Promise<ListResource<EventResource>>;
  /**
   * The last lines of a stitch's log, oldest first, from its node.
   * @throws `not_found`, `ambiguous_stitch`; `node_unreachable` if the node is dead, has left, or does not answer within 2 s;
   *   `inbox_full`.
   */
  logs(ref: string, tail: number): Promise<ListResource<LogLineResource>>;
  /**
   * Follows a stitch's log from a position, line by line, until the signal aborts, or until the stitch or its node is gone
   * (a last line from the source `system` says so). While the caller does not ask for more, the lines stay on the node.
   * Resolves once the node follows the log. @throws as `logs`.
   */
  followLogs(ref: string, from: LogStart, signal: AbortSignal): Promise<AsyncIterable<readonly PlacedLogLine[]>>;
}

/**
 * Duty 2: publishes the state of the running node, for this node's worker. Publications carry the node's incarnation, so
 * that an earlier incarnation cannot overwrite what a later one published.
 */
export interface Publishing {
  /** Registers a new incarnation under the node's id; refused while another session's lease runs. */
  register(as: Registering): Promise<Registration>;
  /** Renews the lease and returns what Masters have for the node. One round trip, whatever the size of the cluster. */
  beat(as: Beating): Promise<Beat>;
  /** Ends the lease voluntarily. Does nothing if another worker has the id. Safe to repeat. */
  leave(as: { readonly session: string; readonly incarnation: number }): Promise<void>;
  /** Puts the node back on the list of nodes, in case a Master that was forgetting it removed it. Safe to repeat. */
  relist(): Promise<void>;
  /** Creates the Redis hashes of the node's stitches, before the node publishes any stitch. Safe to repeat. */
  open(): Promise<void>;
  /** Publishes changes of the node's stitches with the node's status. Safe to repeat with a higher number. */
  publish(
    changes: readonly StitchChange[],
    status: NodeStatus,
    receives: (group: string) => boolean,
    as: Publication,
  ): Promise<Published>;
  /** Corrects the pointers of stitches. Safe to repeat. */
  assertPointers(stitches: readonly StitchChange[], receives: (group: string) => boolean): Promise<void>;
  /** Publishes what stitches use; it expires by itself after `keptMs`. */
  publishUsage(incarnation: number, usage: ReadonlyMap<string, StitchUsage>, keptMs: number): Promise<void>;
  /** All published records of the node's stitches; `onUnreadable` is called for records that cannot be read. */
  published(onUnreadable: OnUnreadable): Promise<{ stitches: StitchRecord[]; removed: RemovedRecord[] }>;
  /** Forgets removed stitches. */
  forget(stitches: readonly string[]): Promise<void>;
  /** Which of these specs of the node's stitches are not in the store. */
  missingSpecs(hashes: readonly string[]): Promise<readonly string[]>;
  /**
   * Offers the texts of specs that are not in the store, by hash. They replace earlier offers. Masters do not act on them
   * until the node is adopted.
   */
  offerSpecs(texts: ReadonlyMap<string, string>): Promise<void>;
  /** Emits events. */
  emit(events: readonly ClusterEvent[]): Promise<void>;
}

/** What Masters decided about a node and its stitches, for this node's worker: it obeys and reports the outcomes. */
export interface Orders {
  /**
   * Claims a task from the node's queue for this incarnation. Safe to repeat.
   * @param election of the leader that has sent the task: it is compared with the current one after the claim. null: it is not.
   * @returns "ok", or the reason why the node must not carry out the task (any more).
   */
  claim(job: string, task: Task, incarnation: number, election: string | null): Promise<ClaimReply>;
  /**
   * Writes outcomes of a claimed task's steps, by step index. `ended`: these are the task's last outcomes. Safe to repeat:
   * the first outcome of a step stays. @returns false if this incarnation no longer has the task: then nothing is written.
   */
  tell(
    job: string,
    task: Task,
    incarnation: number,
    outcomes: ReadonlyMap<number, StepOutcome>,
    ended: boolean,
    election: string | null,
  ): Promise<boolean>;
  /** The text of a spec in the store; null if it has none. The node checks that the text matches the hash. */
  spec(specHash: string, onUnreadable: OnUnreadable): Promise<string | null>;
  /** The node's assignments by stitch id, the newest first; `onUnreadable` is called for those that cannot be read. */
  assigned(
    stitches: readonly string[],
    onUnreadable: OnUnreadable,
  ): Promise<ReadonlyMap<string, readonly KeptAssignment[]>>;
  eligibility(): Promise<Eligibility>;
  /** The node's tombstones from while it was away, by stitch; `onUnreadable` is called for those that cannot be read. */
  tombstones(onUnreadable: OnUnreadable): Promise<ReadonlyMap<string, Tombstone>>;
  /** All that Redis knows of a full id, on any node. @throws UnreadableRecord */
  traces(id: string): Promise<Traces>;
  /** Makes every later command draw a higher revision than this one. Safe to repeat. */
  raiseRevision(revision: number): Promise<void>;
}

/** Duty 4: routes messages to stitches, by the node that each one lives on. Works the same for clients and stitches. */
export interface Routing {
  /** The full ids that a bare id means, without stitches that are still arriving in a move. */
  locate(stitch: string): Promise<string[]>;
  /** Is there a stitch under this full id that takes messages, or one that has moved from there? */
  takesMessages(id: string): Promise<boolean>;
  /** The nodes that have a stitch which takes messages in the group or inside it. */
  nodesOf(group: string): Promise<string[]>;
  /** The full ids of the stitches that take messages, in the group or inside it. */
  receiversOf(group: string): Promise<string[]>;
  /** Puts messages into a node's inbox, in their order. @returns the result for each message. */
  put(node: string, messages: readonly Posted[]): Promise<PutResult[]>;
  /** Adds dead letters to a node's dead letters. Repeating it adds them twice. */
  bury(node: string, letters: readonly DeadLetter[]): Promise<void>;
  /**
   * Sends a message and waits for what `expect` asks for. `idempotencyKey`: with a key, the same body again sends nothing.
   * @throws `no_recipient`, `ambiguous_stitch`, `not_addressable`, `too_large`, `inbox_full`, `stitch_failed`,
   *   `reply_timeout`, `idempotency_conflict`.
   */
  send(request: SendRequest, idempotencyKey: string | null, scope: string): Promise<Sent>;
  deadLetters(page: Page, filter: DeadLetterFilter): Promise<ListResource<DeadLetterResource>>;
  /** Sends a dead letter again. @throws `not_found`, `no_recipient`, `ambiguous_stitch`, `not_addressable`, `inbox_full`. */
  redriveDeadLetter(id: string): Promise<SentResource>;
  /** @throws `not_found`. */
  deleteDeadLetter(id: string): Promise<void>;
}

/** Duty 5: breaks commands into tasks for single nodes, records them as jobs and dispatches them. */
export interface Commands {
  /** Plans a command, records it and dispatches its tasks. A dry run or an infeasible plan changes nothing. */
  submit(submission: Submission): Promise<Submitted>;
  /** The job when it has ended, or after `waitMs`. The call advances the job as far as possible. @throws `not_found`. */
  job(id: string, waitMs: number): Promise<JobResource>;
  jobs(page: Page, filter: JobFilter): Promise<ListResource<ListedJobResource>>;
  /** @throws `not_found`. */
  steps(id: string, page: Page, filter: StepFilter): Promise<ListResource<ListedStepResource>>;
  /** Cancels what nobody has claimed. Safe to repeat. @throws `job_finished`, `not_found`. */
  cancel(id: string): Promise<JobResource>;
  /**
   * Repeats the parts of a job that did not succeed, as a new job. Safe to repeat.
   * @throws `not_found`, `job_finished`, `group_busy`, and as `submit`.
   */
  retry(id: string): Promise<JobResource>;
  /**
   * Undoes what a job changed, as a new job with a reason of its own. Safe to repeat.
   * @throws `not_found`, `not_reversible`, `group_busy`, and as `submit`.
   */
  rollback(id: string, reason?: string | null): Promise<JobResource>;
  /**
   * Assigns to a node those of its stitches that no Master has assigned, as far as Redis knows. From then on they are copied
   * and moved like all others. For a Redis that came back empty or older. Safe to repeat. @throws `not_found`.
   */
  adopt(node: string): Promise<AdoptedResource>;
  /** Changes the mode of the cluster's Masters. Those that are set to another mode decide no more. Safe to repeat. */
  changeMode(to: ChosenMaster): Promise<MasterModeResource>;
  /** Forgets a dead or left node with its stitches, queue and routes. Safe to repeat. @throws `node_alive`, `not_found`. */
  forgetNode(id: string): Promise<void>;
}

/**
 * What a Master does without a request: it looks after open jobs and deletes what nobody needs. If there is a leader, only
 * the leader does this.
 */
export interface Upkeep {
  /**
   * Puts this Master on the list of Masters, unless its sweeps fail or hang; and in the mode `leader`, takes part in the election.
   * @returns in how many ms to repeat it. @throws `wrong_mode`.
   */
  join(): Promise<number>;
  /** Takes this Master off the list; from then on it does no upkeep, and leads no more. Safe to repeat. */
  leave(): Promise<void>;
  /**
   * One sweep: finishes dispatches, expires and closes jobs, and does the chores that are due. Any number of Masters may
   * sweep at once.
   */
  sweep(): Promise<Swept>;
  /**
   * Looks for nodes that have fallen silent, and declares them dead if they stay so. Any number of Masters may look.
   * @returns in how many ms to repeat it.
   */
  watchNodes(): Promise<number>;
  /**
   * Waits on the given connection until a job is due for a look, and takes the job, so that no other Master does.
   * @returns the job's id; null if no job was due within `waitMs`.
   */
  nextDue(blocking: RedisClient, waitMs: number): Promise<string | null>;
  /** Takes more jobs that are due by now, at most `most`. */
  takeDue(most: number): Promise<readonly string[]>;
  /** Advances open jobs, and closes those in which nothing more can happen. Safe to repeat. */
  advance(ids: readonly string[]): Promise<void>;
}

/** The ports of a Master that a node's worker uses. */
export type NodePorts = {
  readonly publishing: Publishing;
  readonly orders: Orders;
  /** For messages between stitches; the API sends the messages of clients. */
  readonly routing: Routes;
};

/** The part of the routing that clients and stitches share. */
export type Routes = Pick<Routing, "locate" | "takesMessages" | "nodesOf" | "receiversOf" | "put" | "bury">;

/**
 * The brain of the cluster, with one port for each duty, so that another implementation can replace the leaderless one.
 * `openMaster` creates it; nothing outside this folder knows which implementation it is.
 *
 * Every method throws `RequestError`: with a code of the catalogue if the request cannot be answered, and with
 * `redis_unavailable` if Redis is away. All methods may be called at once.
 */
export interface Master {
  /** Names this Master in the jobs it accepts. */
  readonly id: string;
  readonly state: ClusterState;
  readonly routing: Routing;
  readonly commands: Commands;
  readonly upkeep: Upkeep;
}
