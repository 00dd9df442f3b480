import type { StitchStep } from "../../../src/domain/job/job.ts";
import { compareRevisions, formatRevision, parseRevision, type Revision } from "../../../src/domain/names/revision.ts";
import type { StepOutcome, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { createStitch } from "./create-stitch.ts";
import { type HostedStitch, WorkerLeaves } from "./hosted-stitch.ts";
import { recordOutcome, startStitch, waitForDisk } from "./start-stitch.ts";
import { type CreateStep, outcomesOf, type StepContext, type StepRequest } from "./step-context.ts";

/** A step for a stitch that is on this node. */
type StepOnExisting = Exclude<StitchStep, CreateStep>;

/** The stitch of a step, and its record before the step. */
type Target = { readonly stitch: HostedStitch; readonly before: StitchRecord };

type TakeBackStep = Extract<StitchStep, { action: "remove" }> & { readonly arrivingFrom: string };

const takesBackMove = (step: StitchStep): step is TakeBackStep =>
  step.action === "remove" && step.arrivingFrom !== undefined;

type Action = (context: StepContext, request: StepRequest<StepOnExisting>, target: Target) => Promise<StepOutcome>;

const ACTIONS: { readonly [Name in StepOnExisting["action"]]: Action } = {
  start: async (context, request, { stitch }) =>
    recordOutcome(stitch, await startStitch(context, request, stitch, false)),

  restart: async (context, request, { stitch }) => {
    await stitch.stop(stitch.stopGraceMs);
    return recordOutcome(stitch, await startStitch(context, request, stitch, true));
  },

  stop: async (_context, { outcome }, { stitch }) =>
    recordOutcome(stitch, outcome.done(await stitch.stop(stitch.stopGraceMs))),

  remove: async (context, { step, revision, outcome }, { stitch, before }) => {
    await stitch.stop(stitch.stopGraceMs);
    const done = outcome.done(true);
    const { movedTo = null, arrivingFrom = null } = step.action === "remove" ? step : {};
    context.remove(stitch, {
      revision: newerOf(revision, before),
      outcome: done,
      movedTo,
      arrivingFrom,
      desired: before.desired,
    });
    return done;
  },

  // `applyStep` has confirmed the arrival before.
  settle: (_context, { outcome }, { stitch }) => Promise.resolve(recordOutcome(stitch, outcome.done(true))),
};

const DESIRED_AFTER = { start: "running", restart: "running", stop: "stopped", remove: "stopped" } as const;

/** The newer of the step's revision and the recorded revision, in the recorded form. */
const newerOf = (revision: Revision, { revision: recorded }: StitchRecord): string =>
  compareRevisions(revision, parseRevision(recorded)) < 0 ? recorded : formatRevision(revision);

/**
 * Applies one step to one stitch, once. The same step sent again is answered with the recorded outcome; an older step is
 * refused. The desired state is on disk before anything is done.
 * @throws WorkerLeaves; the disk's error if the disk takes nothing: then nothing is done.
 */
export async function applyStep(
  context: StepContext,
  id: string,
  step: StitchStep,
  revision: Revision,
): Promise<StepOutcome> {
  const { registry, node } = context;
  const outcome = outcomesOf(context.nowMs);
  const request: StepRequest = { id, step, revision, outcome };
  if (isForAnother(context, request))
    return outcome.failed({ code: "superseded", message: `another stitch has the id ${id} on ${node} by now` });
  // Also for an old step: a newer command for the arrived stitch does not confirm its move.
  if (step.action === "settle") confirmArrival(context, id);
  const known = outcomeWithoutWork(context, request);
  if (known !== null) return known;
  if (step.action === "create") return createStitch(context, { ...request, step });
  if (context.isLeaving()) throw new WorkerLeaves();
  const stitch = registry.find(id);
  // A step that takes back a move removes only the stitch that arrived by that move.
  if (takesBackMove(step) && stitch?.record.movedFrom !== step.arrivingFrom) return outcome.done(false);
  if (stitch === null) return outcomeWithoutStitch(context, request);
  const before = stitch.record;
  const desired = step.action === "settle" ? before.desired : DESIRED_AFTER[step.action];
  stitch.update({ desired, revision: newerOf(revision, before), outcome: null });
  await waitForDisk(context, stitch, {
    desired: before.desired,
    revision: before.revision,
    outcome: before.outcome,
  });
  return ACTIONS[step.action](context, { ...request, step }, { stitch, before });
}

/** Is the step for another stitch than the one with this id? If it restores a stitch, the removed one is checked, too. */
function isForAnother({ registry }: StepContext, { id, step }: StepRequest): boolean {
  const restores = step.action === "create" && step.restores === true;
  const record = registry.find(id)?.record ?? (restores ? registry.findRemoved(id) : null);
  return step.born !== undefined && record !== null && step.born !== record.born;
}

/** The outcome of a step that is old or was carried out before; null if the step is to be carried out. */
function outcomeWithoutWork(
  { registry }: StepContext,
  { id, step, revision, outcome }: StepRequest,
): StepOutcome | null {
  // Only the job of a move takes the move back. A newer command that came after the arrival does not keep the stitch here.
  if (takesBackMove(step)) return null;
  const age = compareRevisions(revision, registry.lastRevision(id));
  if (age < 0)
    return step.action === "settle"
      ? outcome.done(false)
      : outcome.failed({ code: "superseded", message: "a newer command has been applied to this stitch" });
  return age === 0 ? (registry.find(id)?.record.outcome ?? registry.findRemoved(id)?.outcome ?? null) : null;
}

function outcomeWithoutStitch({ registry, node }: StepContext, { id, step, outcome }: StepRequest): StepOutcome {
  const movedTo = registry.isTakenBack(id) ? null : registry.movedTo(id);
  // A stitch that has moved away still exists, so it would be wrong to report it as removed.
  if (movedTo !== null)
    return outcome.failed({ code: "superseded", message: `it has moved to ${movedTo}; send the command again` });
  if (step.action === "remove" && step.movedTo === undefined && registry.findRemoved(id) !== null)
    return outcome.done(false);
  return outcome.failed({ code: "internal", message: `${node} has no stitch ${id}` });
}

/** Confirms that a stitch has moved here, because its source stitch is gone. Does nothing if the move is confirmed already. */
export function confirmArrival({ registry, publish }: Pick<StepContext, "registry" | "publish">, id: string): void {
  const stitch = registry.find(id);
  const from = stitch?.record.movedFrom ?? null;
  if (stitch === null || from === null) return;
  stitch.update({ movedFrom: null });
  publish(stitch, { type: "stitch.moved", data: { from } }, true);
}
