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
import type { ClusterResource } from "../contract/cluster.ts";
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
 * Duties 1 and 3: keeps track of the cluster, and answers what it is. Every list is a page; `asOf` is by the clock that ids of
 * events begin with, so whoever follows events from there misses nothing.
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
   * Events, oldest first on each page. `from`: an event's id, and the pages go on after it; null, and they go back from the
   * newest; or a `nextCursor` of this list. @throws `events_gone` where those after an id are no longer kept.
   */
  events(from: string | null, limit: number, filter?: EventFilter): Promise<ListResource<EventResource>>;
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
}

/**
 * Duty 2: publishes the state of the running node. Of the worker whose node it is: what it says goes by its incarnation, so that
 * a former life cannot overwrite what a later one says.
 */
export interface Publishing {
  /** Takes the node's id for a new incarnation; refused while another session's lease runs. */
  register(as: Registering): Promise<Registration>;
  /** Renews the lease, and tells what Masters have for the node. One round trip, whatever the size of the cluster. */
  beat(as: Beating): Promise<Beat>;
  /** Ends the lease of its own will. Does nothing where another worker has the id. Safe to repeat. */
  leave(as: { readonly session: string; readonly incarnation: number }): Promise<void>;
  /** Puts the node on the list of nodes, where a Master that was forgetting it has taken it off. Safe to repeat. */
  relist(): Promise<void>;
  /** Makes what its stitches are published in, before any is. Safe to repeat. */
  open(): Promise<void>;
  /** Publishes changes of its stitches with the node's status. Safe to repeat with a higher number. */
  publish(
    changes: readonly StitchChange[],
    status: NodeStatus,
    receives: (group: string) => boolean,
    as: Publication,
  ): Promise<Published>;
  /** Puts the pointers of stitches right again. Safe to repeat. */
  assertPointers(stitches: readonly StitchChange[], receives: (group: string) => boolean): Promise<void>;
  /** What stitches use; it expires by itself. */
  publishUsage(incarnation: number, usage: ReadonlyMap<string, StitchUsage>, keptMs: number): Promise<void>;
  /** All that is published of its stitches; `onUnreadable` is told of the rest. */
  published(onUnreadable: OnUnreadable): Promise<{ stitches: StitchRecord[]; removed: RemovedRecord[] }>;
  /** Forgets removed stitches. */
  forget(stitches: readonly string[]): Promise<void>;
  /** Of specs that its stitches have: which are not in the store. */
  missingSpecs(hashes: readonly string[]): Promise<readonly string[]>;
  /** Offers the texts of specs that are not in the store, by hash, in place of those it offered before. Nobody goes by them until the node is adopted. */
  offerSpecs(texts: ReadonlyMap<string, string>): Promise<void>;
  /** Tells what happened. */
  emit(events: readonly ClusterEvent[]): Promise<void>;
}

/** What Masters have decided about a node and its stitches: of the worker whose node it is, which obeys, and tells what came of it. */
export interface Orders {
  /**
   * Takes up a task that has come through the node's queue, for this incarnation. Safe to repeat.
   * @returns "ok", or why it is not the node's to carry out (any more).
   */
  claim(job: string, task: Pick<Task, "id" | "attempt">, incarnation: number): Promise<ClaimReply>;
  /**
   * Tells outcomes of a claimed task's steps, by their index. `ended`: these are the last. Safe to repeat: the first stays.
   * @returns whether the task is still that incarnation's; else nothing is written.
   */
  tell(
    job: string,
    task: Pick<Task, "id" | "attempt">,
    incarnation: number,
    outcomes: ReadonlyMap<number, StepOutcome>,
    ended: boolean,
  ): Promise<boolean>;
  /** The text of a spec, as the store has it; null where it has none. The node checks that it is what the hash names. */
  spec(specHash: string, onUnreadable: OnUnreadable): Promise<string | null>;
  /** What Masters have assigned to the node under stitches' ids, the newest first; `onUnreadable` is told of the rest. */
  assigned(
    stitches: readonly string[],
    onUnreadable: OnUnreadable,
  ): Promise<ReadonlyMap<string, readonly KeptAssignment[]>>;
  eligibility(): Promise<Eligibility>;
  /** What Masters have decided about its stitches while it was away, by stitch; `onUnreadable` is told of what cannot be read. */
  tombstones(onUnreadable: OnUnreadable): Promise<ReadonlyMap<string, Tombstone>>;
  /** All that is known of a full id, on whatever node. @throws UnreadableRecord */
  traces(id: string): Promise<Traces>;
  /** Has every later command draw a higher revision than this. Safe to repeat. */
  raiseRevision(revision: number): Promise<void>;
}

/** Duty 4: routes messages to stitches, by the node that each lives on. The same for clients and for stitches. */
export interface Routing {
  /** The full ids that a bare id means. One that is only arriving it does not mean. */
  locate(stitch: string): Promise<string[]>;
  /** Is there a stitch under this full id that takes messages, or one that has moved from there? */
  takesMessages(id: string): Promise<boolean>;
  /** The nodes that have a stitch which takes messages in the group or inside it. */
  nodesOf(group: string): Promise<string[]>;
  /** The full ids of those who take messages in the group or inside it. */
  receiversOf(group: string): Promise<string[]>;
  /** Puts messages into a node's inbox, in their order. @returns what became of each. */
  put(node: string, messages: readonly Posted[]): Promise<PutResult[]>;
  /** Adds dead letters to those of a node. Safe to repeat. */
  bury(node: string, letters: readonly DeadLetter[]): Promise<void>;
  /**
   * Sends a message, and waits for what was asked for. `idempotencyKey`: with it, the same body again sends nothing.
   * @throws `no_recipient`, `ambiguous_stitch`, `not_addressable`, `too_large`, `inbox_full`, `stitch_failed`,
   *   `reply_timeout`, `idempotency_conflict`.
   */
  send(request: SendRequest, idempotencyKey: string | null, scope: string): Promise<Sent>;
  deadLetters(page: Page, filter: DeadLetterFilter): Promise<ListResource<DeadLetterResource>>;
  /** Sends a dead letter again. @throws `not_found`, `no_recipient`, `inbox_full`. */
  redriveDeadLetter(id: string): Promise<SentResource>;
  /** @throws `not_found`. */
  deleteDeadLetter(id: string): Promise<void>;
}

/** Duty 5: breaks commands into tasks for single nodes, records them as jobs and dispatches them. */
export interface Commands {
  /** Plans a command, records it and dispatches its tasks. A dry run or an infeasible plan changes nothing. */
  submit(submission: Submission): Promise<Submitted>;
  /** The job when it has ended, or after `waitMs`. Whoever asks brings it forward as far as it goes. @throws `not_found`. */
  job(id: string, waitMs: number): Promise<JobResource>;
  jobs(page: Page, filter: JobFilter): Promise<ListResource<ListedJobResource>>;
  /** @throws `not_found`. */
  steps(id: string, page: Page, filter: StepFilter): Promise<ListResource<ListedStepResource>>;
  /** Ends what nobody has taken up. Safe to repeat. @throws `job_finished`, `not_found`. */
  cancel(id: string): Promise<JobResource>;
  /** Repeats what did not succeed of a job, as a new one. Safe to repeat. @throws `not_found`, `job_finished`, `group_busy`, and as `submit`. */
  retry(id: string): Promise<JobResource>;
  /** Takes back what a job changed, as a new one, for a reason of its own. Safe to repeat. @throws `not_found`, `not_reversible`, `group_busy`, and as `submit`. */
  rollback(id: string, reason?: string | null): Promise<JobResource>;
  /**
   * Assigns to a node those of its stitches that no Master has assigned, as far as Redis knows: from here on they are
   * copied and moved like all others. For a Redis that came back empty, or older. Safe to repeat. @throws `not_found`.
   */
  adopt(node: string): Promise<AdoptedResource>;
  /** Forgets a dead or left node with its stitches, queue and routes. Safe to repeat. @throws `node_alive`, `not_found`. */
  forgetNode(id: string): Promise<void>;
}

/**
 * What a Master does without being asked: it looks after open jobs and clears away what nobody needs. Where there is a leader,
 * it alone does this.
 */
export interface Upkeep {
  /** One round: finishes dispatches, expires and closes jobs, and does the chores that are due. Any number of Masters may do it at once. */
  tend(): Promise<Tended>;
  /**
   * Waits until a job is due to be looked at, on the connection given, and takes it from all other Masters.
   * @returns its id; null where none was due within `waitMs`.
   */
  nextDue(blocking: RedisClient, waitMs: number): Promise<string | null>;
  /** Takes more jobs that are due by now, at most so many. */
  takeDue(most: number): Promise<readonly string[]>;
  /** Brings open jobs forward, and ends those of which nothing can still happen. Safe to repeat. */
  advance(ids: readonly string[]): Promise<void>;
}

/** What a node needs of a Master: the ports of its worker. */
export type NodePorts = {
  readonly publishing: Publishing;
  readonly orders: Orders;
  /** For what its stitches say to one another; a client's sending is the API's. */
  readonly routing: Routes;
};

/** The part of the routing that clients and stitches share. */
export type Routes = Pick<Routing, "locate" | "takesMessages" | "nodesOf" | "receiversOf" | "put" | "bury">;

/**
 * The brain of the cluster, behind ports of its own for each duty, so that another implementation can replace the leaderless
 * one. `openMaster` makes it; nothing outside this folder knows which one it is.
 *
 * Every method throws `RequestError` with a code of the catalogue for what cannot be answered as asked, and
 * `redis_unavailable` where Redis is away. All may be called at once.
 */
export interface Master {
  /** Names this Master in the jobs it accepts. */
  readonly id: string;
  readonly state: ClusterState;
  readonly routing: Routing;
  readonly commands: Commands;
  readonly upkeep: Upkeep;
}
