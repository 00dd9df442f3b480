import { specUnknown } from "../job/assignment.ts";
import { type Command, COMMANDS, definitionOf } from "./command.ts";
import { type CommandName, isCommandName } from "./command-names.ts";
import { type FinishedJob, type Next, notReversible } from "./next.ts";
import { RequestError } from "../errors.ts";
import type { FoldedJob } from "../job/fold.ts";
import { commonGroup } from "../names/group.ts";
import { fullId, splitFullId } from "../names/ids.ts";
import type { JobRecord, JobState, Step, StitchStep } from "../job/job.ts";
import { means, meantIn } from "../planning/meant.ts";
import { candidatesFor, type Observed, refusalFor } from "../planning/observed.ts";
import { place } from "../placement/placement.ts";
import { planCommand } from "./plan.ts";
import { wellForMs } from "../job/min-healthy.ts";
import type { StitchSpec } from "../stitch/spec.ts";
import { infeasible, oneTask, type Plan, planOf } from "../planning/planned.ts";
import { parseRevision } from "../names/revision.ts";
import type { RemovedRecord } from "../stitch/stitch.ts";

/** Like `Next`, with the command checked. */
export type FollowUp =
  | (Omit<Extract<Next, { kind: "command" }>, "name" | "body"> & { readonly command: Command })
  | Extract<Next, { kind: "steps" }>;

type CreateStep = Extract<Step, { action: "create" }>;

/**
 * What is read for the steps of a follow-up. `removed`: by full id, the removed records of stitches that are gone. `specs`: by
 * hash, the specs that its creates name and that are in the store.
 */
export type Aftermath = Observed & {
  readonly removed: ReadonlyMap<string, RemovedRecord>;
  readonly specs: ReadonlyMap<string, StitchSpec>;
};

/**
 * Repeats the parts of a finished job that did not succeed: the same steps, by full id, whatever the job's target means by now.
 * Only what the steps do not tell is planned anew; the new plan does only what is still to be done.
 * @throws RequestError `job_finished` if every part of the job succeeded.
 */
export function retryOf(state: JobState, folded: FoldedJob): FollowUp {
  if (state.marks.closed?.status === "succeeded")
    throw new RequestError("job_finished", "Every part of this job succeeded; there is nothing to try again.");
  return followUpOf("retry", state, folded);
}

/**
 * Takes a finished job back: the inverse of what it changed.
 * @throws RequestError `not_reversible`, with the reason.
 */
export const rollbackOf = (state: JobState, folded: FoldedJob): FollowUp => followUpOf("rollback", state, folded);

function followUpOf(how: "retry" | "rollback", { record }: JobState, folded: FoldedJob): FollowUp {
  const steps = folded.tasks.flatMap(({ task: { wave }, steps: each }) => each.map((step) => ({ ...step, wave })));
  const job: FinishedJob = { record, steps };
  const next = COMMANDS[commandName(record.command)][how](job);
  if (next.kind === "steps") return next;
  const { name, body, ...meant } = next;
  return { ...meant, command: COMMANDS[name].schema.parse({ ...body, command: name }) };
}

function commandName(name: string): CommandName {
  if (!isCommandName(name)) throw new Error(`a job's record names no command: ${name.slice(0, 40)}`);
  return name;
}

/** The steps that tell which stitches a follow-up is about, by the full ids they had in the job. */
export function stepsIn(next: FollowUp): readonly StitchStep[] {
  return next.kind === "steps" ? next.steps : [...(next.only ?? []), ...next.notUp];
}

/** The same follow-up, with new full ids for stitches that have moved since. @param moved full id in the job → full id now */
export function whereTheyLive(next: FollowUp, moved: ReadonlyMap<string, string>): FollowUp {
  const now = (steps: readonly StitchStep[]) =>
    steps.map((step) => ({ ...step, stitch: moved.get(step.stitch) ?? step.stitch }));
  if (next.kind === "steps") return { ...next, steps: now(next.steps) };
  const only = next.only === null ? null : now(next.only);
  const { command } = next;
  const target = moved.get(command.target) ?? command.target;
  return { ...next, command: { ...command, target }, only, notUp: now(next.notUp) };
}

/**
 * The plan of a command that follows from a job, by the current state.
 * @param revision the revision of that job.
 * @throws as `planCommand`; `not_found` if the command now means only other stitches.
 */
export function planAgain(
  { command, only, notUp }: Extract<FollowUp, { kind: "command" }>,
  revision: number,
  observed: Observed,
): Plan {
  const meant = only === null ? null : meantIn(observed.records, only, revision);
  const stitches = observed.stitches.filter((id) => meant === null || meant.has(id));
  if (stitches.length === 0 && observed.stitches.length > 0) throw nothingLeft();
  const left = { ...observed, stitches };
  const plan = planCommand(command, left);
  const { planRetry } = definitionOf(command);
  return planRetry?.(command, plan, meantIn(observed.records, notUp, revision), left) ?? plan;
}

/**
 * How the job with these steps is recorded: as what it really does. Options belong to the command they were given with; the
 * first job's target may mean other stitches than those that this job works on.
 * @param aftermath what the plan was made from; null if nothing was read.
 */
export function recordedAs(
  { name }: Extract<FollowUp, { kind: "steps" }>,
  { command, target, options, asked }: JobRecord,
  { tasks }: Plan,
  aftermath: Aftermath | null,
): Pick<JobRecord, "command" | "target" | "options" | "asked"> {
  if (name === command) return { command: name, target, options, asked };
  const steps = tasks.flatMap((task) => task.steps).filter((step) => step.stitch !== null);
  const [first, ...others] = steps;
  if (first !== undefined && others.length === 0)
    return { command: name.replace("group.", "stitch."), target: first.stitch, options: {}, asked: null };
  const groups = steps.flatMap((step) =>
    step.action === "create" ? [step.group] : (aftermath?.records.get(step.stitch)?.group ?? []),
  );
  return { command: name, target: commonGroup(groups) ?? target, options: {}, asked: null };
}

/**
 * Tasks for the steps of a follow-up, by the current state. A stitch to create that exists is started; one that does not exist
 * is placed on a node. A removed stitch is created again as it was, where it was.
 * @throws RequestError if none of the stitches is left: `not_found` for a retry, `not_reversible` for a rollback.
 */
export function planSteps(
  { name, steps, restores }: Extract<FollowUp, { kind: "steps" }>,
  of: JobRecord,
  aftermath: Aftermath,
): Plan {
  const known: StitchStep[] = [];
  const missing: CreateStep[] = [];
  for (const step of steps) {
    const there = aftermath.records.get(step.stitch);
    if (restores) {
      const was = asItWas(step, of, aftermath);
      if (was !== null) known.push(was);
    } else if (there === undefined) {
      if (step.action !== "create") continue;
      if (step.restores !== true) missing.push(step);
      else if (isStillGone(step, of, aftermath)) known.push(step);
    } else if (means(step, of.revision, there.born)) known.push(ofOneThatIsThere(step, there.born));
  }
  const placed = placeAnew(missing, of, aftermath);
  if ("refusals" in placed) return infeasible(placed.refusals);
  const all = [...known, ...placed];
  if (all.length === 0) {
    // The same name means a retry: no command is the inverse of itself.
    if (name === of.command) throw nothingLeft();
    throw notReversible("nothing of what it did is left");
  }
  return planOf(tasksFor(all, of.waitForNode, aftermath));
}

/** A create of a stitch that exists becomes a start, or a stop if the create should not start it. */
function ofOneThatIsThere(step: StitchStep, born: string): StitchStep {
  if (step.action !== "create") return { ...step, born };
  return { action: step.start ? "start" : "stop", stitch: step.stitch, timeoutMs: step.timeoutMs, born };
}

const nothingLeft = () =>
  new RequestError("not_found", "None of the stitches that this job was about is left; there is nothing to do again.");

function tasksFor(steps: readonly StitchStep[], waitForNode: boolean, observed: Observed) {
  const nodes = new Map(observed.nodes.map((node) => [node.id, node]));
  return [...Map.groupBy(steps, ({ stitch }) => splitFullId(stitch).node)].map(([id, each], index) => {
    const node = nodes.get(id);
    const refused =
      node === undefined
        ? ({ code: "node_dead", message: `the node ${id} has been forgotten` } as const)
        : refusalFor(node, waitForNode, observed);
    return oneTask(`t${index}`, id, "node", each, refused);
  });
}

/**
 * The create that brings a removed stitch back, where it was. null if the stitch has been created again since, or if nothing
 * says that it existed, or what it was.
 */
function asItWas(
  step: StitchStep,
  { revision }: JobRecord,
  { records, removed, assigned }: Aftermath,
): CreateStep | null {
  const left = removed.get(step.stitch);
  if (records.has(step.stitch) || left?.was == null) return null;
  // A later command has removed another stitch with this id.
  if (parseRevision(left.revision).revision !== revision || !means(step, revision, left.born)) return null;
  const { stitch, timeoutMs } = step;
  const was = assigned.get(stitch);
  if (was === undefined) return null;
  const { specHash, spec, placement, group, born } = was;
  const start = left.was.desired === "running";
  const how = { start, timeoutMs, minHealthyMs: wellForMs(spec) };
  return { action: "create", stitch, group, specHash, placement, ...how, restores: true, born };
}

/** Is the stitch gone because of what the job wanted to take back, not a later command? What it left is only on its node. */
function isStillGone(step: CreateStep, { revision }: JobRecord, { removed }: Aftermath): boolean {
  const left = removed.get(step.stitch);
  return left !== undefined && left.born === step.born && parseRevision(left.revision).revision < revision;
}

/** The creates of one command that never happened, each on a node that can take it now, with the id that it was given. */
function placeAnew(
  missing: readonly CreateStep[],
  { options }: JobRecord,
  observed: Aftermath,
): CreateStep[] | { readonly refusals: Plan["refusals"] } {
  const [first] = missing;
  if (first === undefined) return [];
  const spec = observed.specs.get(first.specHash);
  if (spec === undefined) throw specUnknown(first.stitch);
  const named = options.node ?? options.toNode;
  const candidates = candidatesFor(observed, first.group).filter(({ id }) => named === undefined || id === named);
  const wish = first.placement ?? { strategy: "spread" };
  const { placed, refusals } = place(candidates, spec, wish, missing.length);
  if (placed === null) return { refusals };
  return missing.map((step, index) => ({
    ...step,
    stitch: fullId(placed[index]?.node ?? "", splitFullId(step.stitch).stitch),
  }));
}
