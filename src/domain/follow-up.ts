import { stepChain } from "./chains.ts";
import {
  COMMANDS,
  type Command,
  type CommandName,
  isCommandName,
  type NodeCommand,
  type OrchestratedCommand,
} from "./command.ts";
import { RequestError } from "./errors.ts";
import type { FoldedJob, FoldedStep } from "./fold.ts";
import { commonGroup } from "./group.ts";
import { fullId, splitFullId } from "./ids.ts";
import type { Chain, JobRecord, JobState, Step, StitchStep } from "./job.ts";
import { candidatesFor, type Observed, refusalFor } from "./observed.ts";
import { place } from "./placement.ts";
import { planCommand } from "./plan.ts";
import { infeasible, oneTask, type Plan, planOf } from "./planned.ts";
import { formatRevision, parseRevision } from "./revision.ts";
import type { RemovedRecord } from "./stitch.ts";

/** What follows from a job: a command that is planned anew, or steps that are known. */
export type FollowUp =
  | {
      readonly kind: "command";
      readonly command: Command;
      /** Of the stitches it means, those it is for, by steps of the job that were about them; null for all. */
      readonly only: readonly StitchStep[] | null;
      /** Stitches that an earlier job made, and that did not come up, by the same. */
      readonly notUp: readonly StitchStep[];
    }
  | { readonly kind: "steps"; readonly name: CommandName; readonly steps: readonly StitchStep[] };

type CreateStep = Extract<Step, { action: "create" }>;

/** What is read for the steps of a follow-up. `removed`: by full id, what is left of those that are gone. */
export type Aftermath = Observed & { readonly removed: ReadonlyMap<string, RemovedRecord> };

/**
 * Does a step of a job with this revision mean the stitch that was born so? What the job itself created was born by it; of
 * what it found, nothing was born later: that is another stitch, which has the id since.
 */
export function means({ action, born }: StitchStep, revision: number, ofBirth: string): boolean {
  if (born !== undefined) return ofBirth === born;
  const bornBy = parseRevision(ofBirth).revision;
  return action === "create" ? bornBy === revision : bornBy <= revision;
}

/** The steps that mean a stitch which is there, by its full id. */
function meantIn(
  records: Observed["records"],
  steps: readonly StitchStep[],
  revision: number,
): Map<string, StitchStep> {
  const found = steps.filter((step) => {
    const record = records.get(step.stitch);
    return record !== undefined && means(step, revision, record.born);
  });
  return new Map(found.map((step) => [step.stitch, step]));
}

const own = (folded: FoldedJob): (FoldedStep & { readonly wave: number })[] =>
  folded.tasks.flatMap(({ task: { wave }, steps }) => steps.map((step) => ({ ...step, wave })));

/** The step of a move that names the stitch where the move left it: one that was refused for its node has no chains. */
function movedBy({ orchestration, tasks }: JobRecord): StitchStep {
  const [chain] = orchestration?.chains ?? [];
  const steps = chain === undefined ? tasks.flatMap((task) => task.steps) : stepsOf(chain);
  const action = chain !== undefined && hasMoved(chain) ? "create" : "remove";
  const step = steps.find((each) => each.action === action);
  if (step === undefined || step.stitch === null) throw new Error("a move that has failed names its stitch");
  return step;
}

/** It has moved when the old one is gone, whatever became of its last link. */
const hasMoved = ({ at, links }: Chain): boolean => at === links.length - 1;

/**
 * What repeats the parts of a finished job that did not succeed: its very steps, by full id, whatever its target may mean by
 * now. Only what is not known by its steps is planned anew; that does only what is still to be done.
 * @throws RequestError `job_finished` where every part of it succeeded.
 */
export function retryOf({ record, marks }: JobState, folded: FoldedJob): FollowUp {
  if (marks.closed?.status === "succeeded")
    throw new RequestError("job_finished", "Every part of this job succeeded; there is nothing to try again.");
  const missed = own(folded).filter(({ status }) => status !== "succeeded");
  if (!PLANNED_ANEW.has(record.command)) {
    const steps = missed.flatMap(({ step }) => (step.stitch === null ? [] : [step]));
    return { kind: "steps", name: commandName(record.command), steps };
  }
  // A stitch may have missed though its step succeeded: it came up, and was not green.
  const chains = record.orchestration?.chains.filter(({ status }) => status !== "succeeded") ?? [];
  const steps = chains.flatMap(stepsOf);
  if (record.command === "stitch.move") {
    const moved = movedBy(record);
    return { kind: "command", command: again(record, { target: moved.stitch }), only: [moved], notUp: [] };
  }
  const only = record.command === "group.restart" ? steps : null;
  // How many there shall be says nothing of those that are there.
  const notUp = record.command === "group.scale" ? steps.filter(({ action }) => action !== "remove") : [];
  return { kind: "command", command: again(record, {}), only, notUp };
}

const stepsOf = ({ links }: Chain): StitchStep[] => links.flatMap(({ step }) => (step.stitch === null ? [] : [step]));

/**
 * Commands that speak of nodes, or say how it shall be. One that was refused for its node has no chains, and the step it
 * shows is not all that it means: a move's is to remove the stitch.
 */
const PLANNED_ANEW: ReadonlySet<string> = new Set<(NodeCommand | OrchestratedCommand)["command"]>([
  "node.ping",
  "node.cordon",
  "node.uncordon",
  "node.drain",
  "stitch.move",
  "group.restart",
  "group.scale",
  "group.rebalance",
  "group.stopOldVersions",
]);

/** The command that made the record, checked again. */
function again({ command, target, options, createdAtMs, deadlineAtMs }: JobRecord, other: object): Command {
  return commandOf(command, { ...options, target, deadlineMs: deadlineAtMs - createdAtMs, ...other });
}

function commandOf(name: string, body: object): Command {
  return COMMANDS[commandName(name)].parse({ ...body, command: name });
}

function commandName(name: string): CommandName {
  if (!isCommandName(name)) throw new Error(`a job's record names no command: ${name.slice(0, 40)}`);
  return name;
}

/**
 * What takes a finished job back: the inverse of what it changed.
 * @throws RequestError `not_reversible`, with the reason.
 */
export function rollbackOf({ record }: JobState, folded: FoldedJob): FollowUp {
  // Whether it succeeded or not: a start that failed leaves a stitch that its policy starts again.
  const done = own(folded).filter(({ outcome }) => outcome?.changed === true);
  const { command, orchestration, revision } = record;
  switch (command) {
    case "node.cordon":
    case "node.uncordon": {
      if (done.length === 0) throw notReversible("it changed nothing");
      const inverse = command === "node.cordon" ? "node.uncordon" : "node.cordon";
      return { kind: "command", command: commandOf(inverse, { target: record.target }), only: null, notUp: [] };
    }
    case "group.scale": {
      const count = orchestration?.formerCount;
      if (count == null || done.length === 0) throw notReversible("it changed nothing");
      return { kind: "command", command: again(record, { count }), only: null, notUp: [] };
    }
    case "stitch.move": {
      const [chain] = orchestration?.chains ?? [];
      if (chain === undefined || !hasMoved(chain) || chain.stitch === null)
        throw notReversible("the stitch is where it was");
      const moved = movedBy(record);
      const back = { target: moved.stitch, toNode: splitFullId(chain.stitch).node };
      return { kind: "command", command: again(record, back), only: [moved], notUp: [] };
    }
    case "group.start":
    case "stitch.start":
      return { kind: "steps", name: inverse(command), steps: invert(done, "stop", revision) };
    case "group.stop":
    case "group.stopOldVersions":
    case "stitch.stop":
      return { kind: "steps", name: inverse(command), steps: invert(done, "start", revision) };
    case "stitch.create":
    case "stitch.clone":
      // Also what may be there, by a node that has not said so. What a node refused to make may be another's.
      return {
        kind: "steps",
        name: inverse(command),
        steps: invert(
          own(folded).filter(({ status, outcome }) => outcome?.changed === true || status === "unknown"),
          "remove",
          revision,
        ),
      };
    case "group.remove":
    case "stitch.remove":
      // What it was, is read from its tombstone.
      return { kind: "steps", name: inverse(command), steps: invert(done, "remove", revision) };
    default:
      throw notReversible(NO_INVERSE[command] ?? "it has no inverse");
  }
}

const NO_INVERSE: Readonly<Record<string, string>> = {
  "node.ping": "a ping changes nothing",
  "node.drain": "node.uncordon lets the node take stitches again, and group.rebalance spreads them",
  "stitch.restart": "a restart cannot be undone",
  "group.restart": "a restart cannot be undone",
  "group.rebalance": "its moves can be taken back one by one, with stitch.move",
};

const notReversible = (why: string) => new RequestError("not_reversible", `This job cannot be taken back: ${why}.`);

const INVERSE: Readonly<Record<string, CommandName>> = {
  "stitch.start": "stitch.stop",
  "stitch.stop": "stitch.start",
  "stitch.create": "stitch.remove",
  "stitch.clone": "stitch.remove",
  "stitch.remove": "stitch.create",
  "group.start": "group.stop",
  "group.stop": "group.start",
  "group.stopOldVersions": "group.start",
  "group.remove": "stitch.create",
};
const inverse = (command: string): CommandName => INVERSE[command] ?? "node.ping";

/** @param revision of the job whose steps they are. */
function invert(done: ReturnType<typeof own>, action: "start" | "stop" | "remove", revision: number): StitchStep[] {
  const steps = done.flatMap(({ step, wave }): StitchStep[] => {
    if (step.stitch === null) return [];
    const { stitch, timeoutMs } = step;
    const born = step.born ?? (step.action === "create" ? formatRevision({ revision, wave }) : undefined);
    return [{ action, stitch, timeoutMs, ...(born === undefined ? {} : { born }) }];
  });
  if (steps.length === 0) throw notReversible("it changed nothing");
  return steps;
}

/** The steps that tell which stitches a follow-up is about, by the full ids they had in the job. */
export function stepsIn(next: FollowUp): readonly StitchStep[] {
  return next.kind === "steps" ? next.steps : [...(next.only ?? []), ...next.notUp];
}

/** The same of those that have moved since. @param moved full id in the job → the one it has now */
export function whereTheyLive(next: FollowUp, moved: ReadonlyMap<string, string>): FollowUp {
  const now = (steps: readonly StitchStep[]) =>
    steps.map((step) => ({ ...step, stitch: moved.get(step.stitch) ?? step.stitch }));
  if (next.kind === "steps") return { ...next, steps: now(next.steps) };
  const only = next.only === null ? null : now(next.only);
  const { command } = next;
  const target = command.command === "stitch.move" ? (only?.[0]?.stitch ?? command.target) : command.target;
  return { ...next, command: { ...command, target }, only, notUp: now(next.notUp) };
}

/**
 * The plan of a command that follows from a job, as things are now. What did not come up is started, where the plan leaves
 * it in its group.
 * @param revision of that job.
 * @throws as `planCommand`; `not_found` where all that the command means now are other stitches.
 */
export function planAgain(
  { command, only, notUp }: Extract<FollowUp, { kind: "command" }>,
  revision: number,
  observed: Observed,
): Plan {
  const meant = only === null ? null : meantIn(observed.records, only, revision);
  const stitches = observed.stitches.filter((id) => meant === null || meant.has(id));
  if (stitches.length === 0 && observed.stitches.length > 0) throw nothingLeft();
  const plan = planCommand(command, { ...observed, stitches });
  if (command.command !== "group.scale" || plan.orchestration === null) return plan;
  const { chains } = plan.orchestration;
  const goes = new Set(chains.map(({ stitch }) => stitch));
  const down = meantIn(observed.records, notUp, revision);
  const { timeoutMs } = command;
  const starts = stitches.flatMap((stitch) => {
    const born = observed.records.get(stitch)?.born;
    if (born === undefined || !down.has(stitch) || goes.has(stitch)) return [];
    return [stepChain({ action: "start", stitch, timeoutMs, born }, 0, false)];
  });
  return { ...plan, orchestration: { ...plan.orchestration, chains: [...chains, ...starts] } };
}

/**
 * What a job of such steps is recorded as: what it really does. Options belong to the command they were given with; the first
 * job's target may mean other stitches than those that this works on.
 * @param aftermath what the plan was made from; null where nothing was read.
 */
export function recordedAs(
  { name }: Extract<FollowUp, { kind: "steps" }>,
  { command, target, options }: JobRecord,
  { tasks }: Plan,
  aftermath: Aftermath | null,
): Pick<JobRecord, "command" | "target" | "options"> {
  if (name === command) return { command: name, target, options };
  const steps = tasks.flatMap((task) => task.steps).filter((step) => step.stitch !== null);
  const [first, ...others] = steps;
  if (first !== undefined && others.length === 0)
    return { command: name.replace("group.", "stitch."), target: first.stitch, options: {} };
  const groups = steps.flatMap((step) =>
    step.action === "create" ? [step.group] : (aftermath?.records.get(step.stitch)?.group ?? []),
  );
  return { command: name, target: commonGroup(groups) ?? target, options: {} };
}

/**
 * Tasks for the steps of a follow-up, as things are now: what is to be created and is there is started, what is not there
 * gets a place; what was removed is created again as it was, where it was.
 * @throws RequestError where nothing of it is left: `not_found` for a retry, `not_reversible` for a rollback.
 */
export function planSteps(
  { name, steps }: Extract<FollowUp, { kind: "steps" }>,
  of: JobRecord,
  aftermath: Aftermath,
): Plan {
  const takesBackRemoval = of.command === "stitch.remove" || of.command === "group.remove";
  const known: StitchStep[] = [];
  const missing: CreateStep[] = [];
  for (const step of steps) {
    const there = aftermath.records.get(step.stitch);
    if (takesBackRemoval && name === "stitch.create") {
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
    // No command is the inverse of itself.
    if (name === of.command) throw nothingLeft();
    throw notReversible("nothing of what it did is left");
  }
  return planOf(tasksFor(all, of.waitForNode, aftermath));
}

/** What is to be created and is there is started. */
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

/** The create that brings a removed stitch back, where it was; null where it has been created again since, or nobody knows it. */
function asItWas(step: StitchStep, { revision }: JobRecord, { records, removed }: Aftermath): CreateStep | null {
  const left = removed.get(step.stitch);
  if (records.has(step.stitch) || left?.was == null) return null;
  // A later command has removed another under this id.
  if (parseRevision(left.revision).revision !== revision || !means(step, revision, left.born)) return null;
  const { spec, placement, desired } = left.was;
  const { stitch, timeoutMs } = step;
  const { group, born } = left;
  const start = desired === "running";
  return { action: "create", stitch, group, spec, placement, start, timeoutMs, restores: true, born };
}

/** Is it gone by what the job wanted to take back, and not by a later command? What it left is on its node alone. */
function isStillGone(step: CreateStep, { revision }: JobRecord, { removed }: Aftermath): boolean {
  const left = removed.get(step.stitch);
  return left !== undefined && left.born === step.born && parseRevision(left.revision).revision < revision;
}

/** The creates of one command that never came about, each on a node that can take it now, under the id it was given. */
function placeAnew(
  missing: readonly CreateStep[],
  { options }: JobRecord,
  observed: Observed,
): CreateStep[] | { readonly refusals: Plan["refusals"] } {
  const [first] = missing;
  if (first === undefined) return [];
  const named = options.node ?? options.toNode;
  const candidates = candidatesFor(observed, first.group).filter(({ id }) => named === undefined || id === named);
  const wish = first.placement ?? { strategy: "spread" };
  const { placed, refusals } = place(candidates, first.spec, wish, missing.length);
  if (placed === null) return { refusals };
  return missing.map((step, index) => ({
    ...step,
    stitch: fullId(placed[index]?.node ?? "", splitFullId(step.stitch).stitch),
  }));
}
