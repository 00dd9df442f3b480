import { formatRevision } from "../../../src/domain/names/revision.ts";
import { shortOf } from "../../../src/domain/node/node.ts";
import type { StitchSpec } from "../../../src/domain/stitch/spec.ts";
import {
  type RemovedRecord,
  type StepError,
  type StepOutcome,
  type StitchRecord,
  toldOf,
} from "../../../src/domain/stitch/stitch.ts";
import { answered } from "../files/bounded-files.ts";
import { StitchLog } from "../logs/stitch-log.ts";
import { type HostedStitch, WorkerLeaves } from "./hosted-stitch.ts";
import { recordOutcome, startStitch, waitForDisk } from "./start-stitch.ts";
import type { CreateStep, StepContext, StepRequest } from "./step-context.ts";

/**
 * Carries out a create: makes the stitch, or continues with the one that this same step made before. Starts it if asked.
 * @throws WorkerLeaves; the disk's error if the disk does not take the record: then nothing is left of a new stitch.
 */
export async function createStitch(context: StepContext, request: StepRequest<CreateStep>): Promise<StepOutcome> {
  const { id, step, outcome } = request;
  const { registry } = context;
  if (registry.find(id) === null && !returns(context, request)) await putAside(context, id);
  if (context.isLeaving()) throw new WorkerLeaves();
  const checked = checkCreate(context, request);
  if ("error" in checked) return outcome.failed(checked.error);
  let stitch = registry.find(id);
  if (stitch === null) stitch = await makeStitch(context, request, checked.spec);
  else await waitForDisk(context, stitch, { desired: "stopped" });
  return recordOutcome(stitch, step.start ? await startStitch(context, request, stitch, true) : outcome.done(true));
}

/** Does the stitch return to this node: is its removal taken back, or does it move back? Then it keeps its old data and log. */
function returns({ registry }: StepContext, { id, step }: StepRequest<CreateStep>): boolean {
  const { restores, movedFrom, born } = step;
  if (born === undefined || registry.findRemoved(id)?.born !== born) return false;
  return restores === true || (movedFrom !== undefined && registry.movedTo(id) !== null && !registry.isTakenBack(id));
}

/**
 * Puts the data and log of a removed stitch aside, so that the new stitch begins with an empty data folder and its own log.
 * They are kept until their time is over.
 */
async function putAside({ registry, disk, nowMs, onError }: StepContext, id: string): Promise<void> {
  if (!(await disk.hasLeftovers(id))) return;
  const log = registry.oldLog(id) ?? new StitchLog(disk.logPath(id), onError);
  const removedAtMs = registry.findRemoved(id)?.removedAtMs ?? nowMs();
  const moved = disk.putAside(id, removedAtMs).then((path) => log.moveTo(path));
  await answered(disk.logPath(id), moved);
  registry.forgetOldLog(id);
}

/** @returns the spec that the stitch runs, or why the stitch cannot be made here. */
function checkCreate(
  context: StepContext,
  { id, step, revision }: StepRequest<CreateStep>,
): { spec: StitchSpec } | { error: StepError } {
  const { node, facts, registry } = context;
  const refused = (code: StepError["code"], message: string) => ({ error: { code, message: `${node} ${message}` } });
  const spec = context.specs.find(step.specHash);
  if (spec === null) return refused("spec_unknown", `has not been given the spec ${step.specHash}`);
  const short = shortOf(facts.capacity, registry.reserved(id), spec.resources);
  if (short !== null) return refused("capacity_exceeded", `has not enough ${short} left for this stitch`);
  const existing = registry.find(id);
  const eligibility = context.eligibility();
  // The create was planned before a newer command made this node ineligible. A restored stitch was on this node before.
  if (eligibility !== "eligible" && existing === null && step.restores !== true)
    return refused("superseded", `takes no new stitches: it is ${eligibility}`);
  // Two creates of one id were planned before either stitch existed.
  // The first one wins: replacing it would end another client's stitch.
  if (existing !== null && existing.record.revision !== formatRevision(revision))
    return refused("internal", `has a stitch ${id} already`);
  return { spec };
}

/**
 * Makes a new stitch. Resolves when its record is on disk, and publishes it then.
 * @throws if the disk does not take the record: then nothing is left of the stitch, and the command can be sent again.
 */
async function makeStitch(
  context: StepContext,
  request: StepRequest<CreateStep>,
  spec: StitchSpec,
): Promise<HostedStitch> {
  const { registry, disk } = context;
  const before: RemovedRecord | null = registry.findRemoved(request.id);
  const record = newRecord(context, request, spec);
  disk.save(record);
  const stitch = context.add(record);
  try {
    await disk.written();
  } catch (error) {
    registry.undoAdd(stitch, before);
    disk.takeBack(record.id, before);
    throw error;
  }
  context.publish(stitch, { type: "stitch.created" }, true);
  return stitch;
}

function newRecord(
  { lastMail, nowMs }: StepContext,
  { id, step, revision }: StepRequest<CreateStep>,
  spec: StitchSpec,
): StitchRecord {
  return {
    id,
    group: step.group,
    specHash: step.specHash,
    ...toldOf(spec),
    placement: step.placement ?? { strategy: "spread" },
    movedFrom: step.movedFrom ?? null,
    desired: step.start ? "running" : "stopped",
    state: "stopped",
    health: "missing",
    healthySinceMs: null,
    revision: formatRevision(revision),
    born: step.born ?? formatRevision(revision),
    outcome: null,
    finished: false,
    restarts: 0,
    pid: null,
    startedAtMs: null,
    lastExit: null,
    observedAtMs: nowMs(),
    mailAfter: lastMail(),
  };
}
