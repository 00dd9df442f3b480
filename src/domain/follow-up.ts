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
import { fullId, splitFullId } from "./ids.ts";
import type { Chain, JobRecord, JobState, Step, StitchStep } from "./job.ts";
import { candidatesFor, type Observed, refusalFor } from "./observed.ts";
import { place } from "./placement.ts";
import { planCommand } from "./plan.ts";
import { infeasible, oneTask, type Plan, planOf } from "./planned.ts";
import { parseRevision } from "./revision.ts";
import type { RemovedRecord } from "./stitch.ts";

/** What follows from a job: a command that is planned anew, or steps that are known. */
export type FollowUp =
  | {
      readonly kind: "command";
      readonly command: Command;
      /** Of the stitches it means, those it is for; null for all. */
      readonly only: ReadonlySet<string> | null;
      /** Stitches that an earlier job made, and that did not come up. */
      readonly notUp: readonly string[];
    }
  | { readonly kind: "steps"; readonly name: CommandName; readonly steps: readonly StitchStep[] };

type CreateStep = Extract<Step, { action: "create" }>;

/** What is read for the steps of a follow-up. `removed`: by full id, what is left of those that are gone. */
export type Aftermath = Observed & { readonly removed: ReadonlyMap<string, RemovedRecord> };

const own = (folded: FoldedJob): FoldedStep[] => folded.tasks.flatMap(({ steps }) => steps);

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
  const restarts = record.command === "group.restart";
  const only = restarts ? new Set(chains.flatMap(({ stitch }) => stitch ?? [])) : null;
  // How many there shall be says nothing of those that are there.
  const notUp = record.command === "group.scale" ? chains.flatMap(broughtUpBy) : [];
  return { kind: "command", command: again(record, {}), only, notUp };
}

/** The stitch that a chain of a scale makes, or starts; none where it removes one. */
const broughtUpBy = ({ stitch, links }: Chain): string[] =>
  stitch === null || links.some(({ step }) => step.action === "remove") ? [] : [stitch];

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
  const { command, orchestration } = record;
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
      const to = chain?.links[0]?.step.stitch;
      // It has moved when the old one is gone, whatever became of its last link.
      const hasMoved = chain !== undefined && chain.at === chain.links.length - 1;
      if (!hasMoved || chain.stitch === null || to == null) throw notReversible("the stitch is where it was");
      const back = { target: to, toNode: splitFullId(chain.stitch).node };
      return { kind: "command", command: again(record, back), only: null, notUp: [] };
    }
    case "group.start":
    case "stitch.start":
      return { kind: "steps", name: inverse(command), steps: invert(done, "stop") };
    case "group.stop":
    case "group.stopOldVersions":
    case "stitch.stop":
      return { kind: "steps", name: inverse(command), steps: invert(done, "start") };
    case "stitch.create":
    case "stitch.clone":
      // Also what may be there, by a node that has not said so. What a node refused to make may be another's.
      return {
        kind: "steps",
        name: inverse(command),
        steps: invert(
          own(folded).filter(({ status, outcome }) => outcome?.changed === true || status === "unknown"),
          "remove",
        ),
      };
    case "group.remove":
    case "stitch.remove":
      // What it was, is read from its tombstone.
      return { kind: "steps", name: inverse(command), steps: invert(done, "remove") };
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

function invert(done: readonly FoldedStep[], action: "start" | "stop" | "remove"): StitchStep[] {
  const steps = done.flatMap(({ step }): StitchStep[] =>
    step.stitch === null ? [] : [{ action, stitch: step.stitch, timeoutMs: step.timeoutMs }],
  );
  if (steps.length === 0) throw notReversible("it changed nothing");
  return steps;
}

/** The stitches that a follow-up is about, by the full ids they had in the job. */
export function stitchesIn(next: FollowUp): string[] {
  return next.kind === "steps" ? next.steps.map(({ stitch }) => stitch) : [...(next.only ?? []), ...next.notUp];
}

/** The same of those that have moved since. @param moved full id in the job → the one it has now */
export function whereTheyLive(next: FollowUp, moved: ReadonlyMap<string, string>): FollowUp {
  const now = (id: string) => moved.get(id) ?? id;
  if (next.kind === "steps")
    return { ...next, steps: next.steps.map((step) => ({ ...step, stitch: now(step.stitch) })) };
  const only = next.only === null ? null : new Set([...next.only].map(now));
  return { ...next, only, notUp: next.notUp.map(now) };
}

/**
 * The plan of a command that follows from a job, as things are now. What did not come up is started, where the plan leaves
 * it in its group.
 * @throws as `planCommand`
 */
export function planAgain({ command, only, notUp }: Extract<FollowUp, { kind: "command" }>, observed: Observed): Plan {
  const stitches = observed.stitches.filter((id) => only === null || only.has(id));
  const plan = planCommand(command, { ...observed, stitches });
  if (command.command !== "group.scale" || plan.orchestration === null) return plan;
  const { chains } = plan.orchestration;
  const goes = new Set(chains.map(({ stitch }) => stitch));
  const starts = notUp
    .filter((id) => stitches.includes(id) && !goes.has(id))
    .map((stitch) => stepChain({ action: "start", stitch, timeoutMs: command.timeoutMs }, 0, false));
  return { ...plan, orchestration: { ...plan.orchestration, chains: [...chains, ...starts] } };
}

/**
 * What a job of such steps is recorded as. Options belong to the command they were given with; the first job's target may
 * mean another stitch than the one this works on.
 */
export function recordedAs(
  { name, steps }: Extract<FollowUp, { kind: "steps" }>,
  { command, target, options }: JobRecord,
): Pick<JobRecord, "command" | "target" | "options"> {
  if (name === command) return { command: name, target, options };
  const [first, ...others] = steps;
  const only = others.length === 0 ? first?.stitch : undefined;
  return { command: name, target: only ?? target, options: {} };
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
  const exists = (id: string) => aftermath.records.has(id);
  const known: StitchStep[] = [];
  const missing: CreateStep[] = [];
  for (const step of steps) {
    if (takesBackRemoval && name === "stitch.create") {
      const was = asItWas(step, of, aftermath);
      if (was !== null) known.push(was);
    } else if (step.action === "create" && !exists(step.stitch)) {
      if (step.restores !== true) missing.push(step);
      else if (isStillGone(step.stitch, of, aftermath)) known.push(step);
    } else if (step.action === "create")
      known.push({ action: step.start ? "start" : "stop", stitch: step.stitch, timeoutMs: step.timeoutMs });
    else if (exists(step.stitch)) known.push(step);
  }
  const placed = placeAnew(missing, of, aftermath);
  if ("refusals" in placed) return infeasible(placed.refusals);
  const all = [...known, ...placed];
  if (all.length === 0) {
    // No command is the inverse of itself.
    if (name === of.command)
      throw new RequestError(
        "not_found",
        "None of the stitches that this job missed is left; there is nothing to try again.",
      );
    throw notReversible("nothing of what it did is left");
  }
  return planOf(tasksFor(all, of.waitForNode, aftermath));
}

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
  if (parseRevision(left.revision).revision !== revision) return null;
  const { spec, placement, desired } = left.was;
  const { stitch, timeoutMs } = step;
  const start = desired === "running";
  return { action: "create", stitch, group: left.group, spec, placement, start, timeoutMs, restores: true };
}

/** Is it gone by what the job wanted to take back, and not by a later command? What it left is on its node alone. */
function isStillGone(id: string, { revision }: JobRecord, { removed }: Aftermath): boolean {
  const left = removed.get(id);
  return left !== undefined && parseRevision(left.revision).revision < revision;
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
