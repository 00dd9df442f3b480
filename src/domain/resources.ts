/**
 * The shapes of the HTTP API's answers (http.md), as plain types: what the API renders and the client reads.
 * Times are ISO 8601 UTC strings; durations and sizes carry their unit in the name; `null` where there is none.
 */

import type { StitchSpec } from "./spec.ts";

export type Liveness = "alive" | "suspect" | "dead" | "left";
export type Eligibility = "eligible" | "cordoned" | "draining";
type Desired = "running" | "stopped";
export type StitchState = "starting" | "running" | "stopping" | "stopped" | "backoff" | "failed" | "missing";
export type Health = "green" | "yellow" | "red" | "missing";
export type MasterMode = "leaderless" | "preferred" | "leader";

/** Cores and bytes: what a node offers, what is reserved of it, what a stitch asks for. */
type CapacityResource = { readonly cpu: number; readonly memoryBytes: number };

/** A page of a list. Only `nextCursor: null` ends a list; a filtered page may be short. */
export type ListResource<T> = {
  readonly items: readonly T[];
  /** Sent back as `cursor` for the next page. */
  readonly nextCursor: string | null;
  /** Redis's time at the read. */
  readonly asOf: string;
};

/** `GET /v1/cluster`. */
export type ClusterResource = {
  readonly name: string;
  readonly asOf: string;
  /** Counts by liveness. */
  readonly nodes: Readonly<Record<Liveness, number>>;
  /** Counts by state. */
  readonly stitches: Readonly<Record<StitchState, number>>;
  readonly openJobs: number;
  /** Ids of the Masters that are alive. */
  readonly masters: readonly string[];
  readonly mode: MasterMode;
  /** Id of the leader; null without one. */
  readonly leader: string | null;
  readonly frozen: boolean;
  readonly version: string;
};

/** A node; a dead or left one with its last known facts. */
export type NodeResource = {
  readonly id: string;
  /** Raised at each start under the same id. */
  readonly incarnation: number;
  readonly liveness: Liveness;
  readonly eligibility: Eligibility;
  readonly zones: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly capacity: CapacityResource;
  readonly reserved: CapacityResource;
  /** Measured; null until the first measurement. */
  readonly load: {
    readonly cpuPercent: number;
    readonly memoryBytes: number;
    readonly eventLoopDelayMs: number;
  } | null;
  readonly modules: readonly string[];
  readonly version: string;
  readonly startedAt: string;
  readonly lastHeartbeatAt: string;
  /** When the node last published this. */
  readonly observedAt: string;
  readonly stitchCount: number;
};

/** What a stitch runs, with every default filled in. */
type SpecResource = StitchSpec;

export type StitchResource = {
  readonly id: string;
  /** `node:stitch`. */
  readonly fullId: string;
  readonly node: string;
  readonly group: string;
  readonly desired: Desired;
  readonly state: StitchState;
  /** null where it is not to run, has run to its end, or its node is dead. */
  readonly health: Health | null;
  /** Since when it has been green without a break; null where it is not. */
  readonly healthySince: string | null;
  readonly revision: string;
  readonly restarts: number;
  readonly pid: number | null;
  readonly startedAt: string | null;
  readonly lastExit: { readonly code: number | null; readonly signal: string | null; readonly at: string } | null;
  /** Measured; null where the stitch is not running or was not measured. */
  readonly resources: { readonly cpuPercent: number | null; readonly memoryBytes: number } | null;
  readonly spec: SpecResource;
  readonly observedAt: string;
};

export type LogSource = "stdout" | "stderr" | "log" | "system";

/**
 * A line of a stitch's log. `at` by its node's clock. `continued`: it had no end after 2 s of silence; the next line of this
 * source goes on with it.
 */
export type LogLineResource = {
  readonly at: string;
  readonly source: LogSource;
  readonly line: string;
  readonly continued?: true;
};

/** `GET /v1/groups/{group}`: a group and everything inside it. */
export type GroupResource = {
  readonly group: string;
  readonly versions: readonly string[];
  readonly stitches: {
    readonly byState: Readonly<Record<StitchState, number>>;
    readonly byVersion: Readonly<Record<string, number>>;
  };
};

export type JobStatus =
  | "pending"
  | "running"
  | "cancelling"
  | "succeeded"
  | "failed"
  | "partial"
  | "cancelled"
  | "expired";

/** Of a step and of a task. */
export type StepStatus =
  | "pending"
  | "running"
  | "succeeded"
  | "failed"
  | "superseded"
  | "cancelled"
  | "expired"
  | "unknown";

type StepAction =
  | "ping"
  | "cordon"
  | "uncordon"
  | "drain"
  | "create"
  | "start"
  | "stop"
  | "restart"
  | "remove"
  | "settle";

/** Why a step or a job did not succeed. */
export type FailureResource = {
  readonly code: string;
  readonly message: string;
  /** The first and the last lines the process wrote to stderr. */
  readonly stderrTail?: string;
};

/** One act on one stitch, or on the node itself. */
export type StepResource = {
  readonly action: StepAction;
  /** Full id; null where the step is the node's own. */
  readonly stitch: string | null;
  readonly status: StepStatus;
  /** Did it change anything? One that failed may have. false: it already was as asked, or nothing was done. null where nobody has told. */
  readonly changed: boolean | null;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly output: unknown;
  readonly error: FailureResource | null;
};

/** A row of `GET /v1/jobs/{id}/steps`: the step and where it belongs. */
export type ListedStepResource = StepResource & { readonly task: string; readonly node: string };

/** One node's part of a job. */
export type TaskResource = {
  readonly id: string;
  readonly node: string;
  readonly status: StepStatus;
  readonly attempt: number;
  readonly steps: readonly StepResource[];
};

/** Counts of steps. */
type CountsResource = Readonly<Record<"total" | StepStatus, number>>;

export type JobResource = {
  readonly id: string;
  readonly command: string;
  readonly target: string;
  /** The command's own options, defaults included. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly reason: string | null;
  readonly by: string | null;
  /** The Master that accepted it. */
  readonly master: string;
  readonly status: JobStatus;
  readonly revision: string;
  readonly createdAt: string;
  readonly deadlineAt: string;
  /** null until the job has ended. */
  readonly finishedAt: string | null;
  readonly counts: CountsResource;
  readonly progress: { readonly wave: number; readonly waves: number; readonly message: string };
  /** Full ids created or touched, at most 1000. */
  readonly stitches: readonly string[];
  /** At most 1000 steps, failures first. */
  readonly tasks: readonly TaskResource[];
  /** true where steps were left out; all are under `/steps`. */
  readonly truncated?: true;
  readonly error: FailureResource | null;
  readonly retryOf: string | null;
  readonly retriedBy: string | null;
  readonly rollbackOf: string | null;
  readonly rolledBackBy: string | null;
  readonly causedBy: string | null;
};

/** A row of `GET /v1/jobs`. */
export type ListedJobResource = Omit<JobResource, "tasks" | "truncated">;

type RefusalCode =
  | "not_alive"
  | "cordoned"
  | "draining"
  | "zone"
  | "label"
  | "max_per_node"
  | "cpu"
  | "memory"
  | "module_missing";

/** Why a node cannot take a stitch. */
export type RefusalResource = { readonly node: string; readonly code: RefusalCode; readonly message: string };

/** What a command would do (`dryRun`). */
export type PlanResource = {
  readonly command: string;
  readonly target: string;
  readonly feasible: boolean;
  readonly tasks: readonly {
    readonly node: string;
    readonly steps: readonly { readonly action: StepAction; readonly stitch: string | null }[];
  }[];
  readonly placements: readonly { readonly stitch: string; readonly node: string; readonly reason: string }[];
  readonly refusals: readonly RefusalResource[];
  readonly warnings: readonly { readonly code: string; readonly message: string; readonly stitch?: string }[];
  /** Sent back with the same command: other tasks than these are then refused (`plan_stale`). null where not feasible. */
  readonly planToken: string | null;
  /** Milliseconds that it takes at least: so long stitches must have been well, wave after wave. */
  readonly leastDurationMs: number;
  readonly asOf: string;
};

/** Something that happened in the cluster. */
export type EventResource = {
  /** Id in the stream: `since` and `Last-Event-ID` take it. */
  readonly id: string;
  readonly type: string;
  readonly at: string;
  readonly node: string | null;
  readonly stitch: string | null;
  readonly group: string | null;
  readonly job: string | null;
  readonly data: Readonly<Record<string, unknown>> | null;
};

/** An error (RFC 9457, `application/problem+json`). Clients branch on `code`. */
export type ProblemResource = {
  /** `urn:crossstitch:error:<code>` */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly requestId: string;
  readonly retryable: boolean;
  /** Its lists are cut, each to the same length: they would make it too large. */
  readonly truncated?: boolean;
  /** Of `invalid_request`: the wrong fields, at most 20. */
  readonly errors?: readonly { readonly path: string; readonly message: string }[];
  /** Of `ambiguous_stitch`: the full ids it could mean. */
  readonly candidates?: readonly string[];
  /** Of `placement_failed`. */
  readonly refusals?: readonly RefusalResource[];
  /** Of `plan_stale`: the plan as it is now. */
  readonly plan?: PlanResource;
  /** Of `group_busy`: the job that has the group. */
  readonly jobId?: string;
  /** Of `not_found`: the full id a moved stitch has now. */
  readonly movedTo?: string;
  /** Of `stitch_failed` and `reply_timeout`: the message, and what became of it. */
  readonly messageId?: string;
  readonly deliveries?: readonly DeliveryResource[];
};

/** What became of a message for one stitch. `data`: the reply, as text. */
export type DeliveryResource = {
  /** Full id. */
  readonly stitch: string;
  readonly status: "accepted" | "acked" | "failed" | "replied" | "timeout" | "rejected";
  readonly code?: string | undefined;
  readonly data?: string | undefined;
};

/** A message that was sent: `POST /v1/messages`. */
export type SentResource = { readonly messageId: string; readonly deliveries: readonly DeliveryResource[] };

/** A message that could not be delivered. */
export type DeadLetterResource = {
  readonly id: string;
  readonly messageId: string;
  /** The node that could not deliver it. */
  readonly node: string;
  /** Full id of whom it was for. */
  readonly stitch: string;
  readonly from: string;
  readonly channel: string;
  readonly data: string;
  readonly code: string;
  readonly reason: string;
  readonly tries: number;
  readonly at: string;
};
