import type { StitchStep } from "../../../src/domain/job/job.ts";
import { compareRevisions, formatRevision, parseRevision, type Revision } from "../../../src/domain/names/revision.ts";
import type { StepOutcome, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { createStitch } from "./create-stitch.ts";
import { type HostedStitch, WorkerLeaves } from "./hosted-stitch.ts";
import { recordOutcome, startStitch, waitForDisk } from "./start-stitch.ts";
import { type CreateStep, outcomesOf, type StepContext, type StepRequest } from "./step-context.ts";

/** A step for a stitch that is here. */
type StepOnExisting = Exclude<StitchStep, CreateStep>;

/** The stitch that a step is carried out on, and how it was before the step. */
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

  // It was confirmed before: see `applyStep`.
  settle: (_context, { outcome }, { stitch }) => Promise.resolve(recordOutcome(stitch, outcome.done(true))),
};

const DESIRED_AFTER = { start: "running", restart: "running", stop: "stopped", remove: "stopped" } as const;

/** The newer of a step's revision and the one that is recorded, as it is recorded. */
const newerOf = (revision: Revision, { revision: recorded }: StitchRecord): string =>
  compareRevisions(revision, parseRevision(recorded)) < 0 ? recorded : formatRevision(revision);

/**
 * Applies one step to one stitch, once: an equal step is answered with the recorded outcome, an older one is refused. What the
 * stitch should do is on disk before anything is done.
 * @throws WorkerLeaves; the disk's error, where it takes nothing: then nothing is done.
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
  // Also where the step is old: a newer command for the stitch that has arrived does not confirm its move.
  if (step.action === "settle") confirmArrival(context, id);
  const known = outcomeWithoutWork(context, request);
  if (known !== null) return known;
  if (step.action === "create") return createStitch(context, { ...request, step });
  if (context.isLeaving()) throw new WorkerLeaves();
  const stitch = registry.find(id);
  // Taking back a move removes nothing but what has arrived by it.
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

/** Does the step mean another stitch than the one that has the id here, or, where it brings one back, that had it last? */
function isForAnother({ registry }: StepContext, { id, step }: StepRequest): boolean {
  const restores = step.action === "create" && step.restores === true;
  const record = registry.find(id)?.record ?? (restores ? registry.findRemoved(id) : null);
  return step.born !== undefined && record !== null && step.born !== record.born;
}

/** The outcome of a step that is old, or was carried out before; null where it is to be carried out. */
function outcomeWithoutWork(
  { registry }: StepContext,
  { id, step, revision, outcome }: StepRequest,
): StepOutcome | null {
  // A move is taken back by its own job: a newer command that the stitch got after it had arrived does not keep it here.
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
  // One that has moved away lives on: to say that it is removed would be wrong.
  if (movedTo !== null)
    return outcome.failed({ code: "superseded", message: `it has moved to ${movedTo}; send the command again` });
  if (step.action === "remove" && step.movedTo === undefined && registry.findRemoved(id) !== null)
    return outcome.done(false);
  return outcome.failed({ code: "internal", message: `${node} has no stitch ${id}` });
}

/** Confirms that a stitch has moved here: the one it came from is gone. Does nothing where that was confirmed before. */
export function confirmArrival({ registry, publish }: Pick<StepContext, "registry" | "publish">, id: string): void {
  const stitch = registry.find(id);
  const from = stitch?.record.movedFrom ?? null;
  if (stitch === null || from === null) return;
  stitch.update({ movedFrom: null });
  publish(stitch, { type: "stitch.moved", data: { from } }, true);
}
