import type { Right } from "../../domain/master-mode.ts";
import type { ClusterEvent } from "../../domain/event.ts";
import { splitFullId } from "../../domain/names/ids.ts";
import type { JobRecord, MasterStep, Step, Task } from "../../domain/job/job.ts";
import type { Eligibility } from "../../domain/node/node.ts";
import { formatRevision } from "../../domain/names/revision.ts";
import type { StepOutcome } from "../../domain/stitch/stitch.ts";
import { needsNewerTombstone, removalOf } from "../../domain/job/tombstone.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import type { Keys } from "../../redis/keys.ts";
import { MOST_LABELS, orderEligibility, orderLabels } from "../../redis/node/node-orders.ts";
import { drawRevision } from "../../redis/revision.ts";
import { readTraces } from "../../redis/stitch/stitch-records.ts";
import { dropForAbsent } from "../../redis/stitch/stitch-records.ts";
import { leaveTombstone } from "../../redis/stitch/tombstones.ts";
import type { OnUnreadable } from "../../redis/unreadable.ts";

type Tools = {
  readonly redis: RedisClient;
  readonly right: Right;
  readonly keys: Keys;
  readonly onUnreadable: OnUnreadable;
};
/** A step of a job, in the task that it is part of. */
type Given<S extends Step> = { readonly job: JobRecord; readonly task: Task; readonly step: S };
/** The result of a step. `event`: what to emit if the step has changed something. */
type Done = Pick<StepOutcome, "status" | "changed" | "output" | "error"> & { readonly event: ClusterEvent | null };

const succeeded = (changed: boolean, event: ClusterEvent | null = null): Done => ({
  status: "succeeded",
  changed,
  output: null,
  error: null,
  event: changed ? event : null,
});
const superseded = (what: string): Done => ({
  status: "superseded",
  changed: false,
  output: null,
  error: { code: "superseded", message: `a newer command has decided about this ${what}` },
  event: null,
});

const failed = (message: string): Done => ({
  status: "failed",
  changed: false,
  output: null,
  error: { code: "internal", message },
  event: null,
});

/** Carries out a step that only a Master may carry out. Safe to repeat: a repeated step has the same result. */
export function carryOutStep(tools: Tools, { job, task, step }: Given<Step>): Promise<Done> {
  if (!isMasterStep(step)) return Promise.resolve(failed(`a Master was given a step that is a node's: ${step.action}`));
  switch (step.action) {
    case "cordon":
      return order(tools, { job, task, step }, "cordoned", "node.cordoned");
    case "uncordon":
      return order(tools, { job, task, step }, "eligible", "node.uncordoned");
    case "drain":
      // The event is emitted when the node is drained.
      return order(tools, { job, task, step }, "draining", null);
    case "relabel":
      return relabel(tools, { job, task, step });
    case "remove":
      return removeForAbsent(tools, { job, task, step });
  }
}

const isMasterStep = (step: Step): step is MasterStep =>
  step.stitch === null ? step.action !== "ping" : step.action === "remove";

async function order(
  { redis, keys }: Tools,
  { job, task }: Given<Step>,
  eligibility: Eligibility,
  type: ClusterEvent["type"] | null,
): Promise<Done> {
  const own = { revision: job.revision, wave: task.wave };
  const reply = await orderEligibility(redis, keys, task.node, eligibility, own);
  if (reply === "superseded") return superseded("node");
  return succeeded(reply === "changed", type === null ? null : { type, node: task.node, job: job.id });
}

/** @returns as output, the labels as they were set before. */
async function relabel(
  { redis, keys }: Tools,
  { job, task, step }: Given<Extract<Step, { action: "relabel" }>>,
): Promise<Done> {
  const ordered = await orderLabels(redis, keys, task.node, step, { revision: job.revision, wave: task.wave });
  switch (ordered.outcome) {
    case "superseded":
      return superseded("node");
    case "full":
      return failed(`a node has at most ${MOST_LABELS} labels by command; take others away first`);
    case "done":
      return { ...succeeded(ordered.changed), output: { before: ordered.before } };
  }
}

/** Leaves a tombstone for an absent node, and drops the stitch's pointers, so that nobody finds it there. */
async function removeForAbsent(
  { redis, keys, right, onUnreadable }: Tools,
  { job, task, step }: Given<Extract<Step, { action: "remove" }>>,
): Promise<Done> {
  const { stitch, movedTo = null, arrivingFrom = null, born = null } = step;
  const traces = await readTraces(redis, keys, stitch, onUnreadable);
  const todo = removalOf(step, traces);
  if (todo === "done") return succeeded(true);
  if (todo === "superseded") return superseded("stitch");
  const own = { revision: job.revision, wave: task.wave };
  const isNewer = needsNewerTombstone(step, own, traces);
  const revision = formatRevision(isNewer ? { revision: await drawRevision(redis, keys, right), wave: 0 } : own);
  const word = { revision, movedTo, arrivingFrom, born };
  if (!(await leaveTombstone(redis, keys, task.node, splitFullId(stitch).stitch, word))) return superseded("stitch");
  await dropForAbsent(redis, keys, stitch, word, onUnreadable);
  return succeeded(true);
}
