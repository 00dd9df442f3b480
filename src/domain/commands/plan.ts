import { canonicalJson } from "../json/canonical-json.ts";
import { type Command, definitionOf } from "./command.ts";
import type { Step } from "../job/job.ts";
import type { Observed } from "../planning/observed.ts";
import { longDeadlineMs, type Plan } from "../planning/planned.ts";

/**
 * Breaks a command into tasks for individual nodes, or into the waves they come in.
 * @throws RequestError `not_found`, `ambiguous_stitch`, `stitch_exists`, `no_template`, `spec_unknown`. A stitch that cannot
 * be placed is no error here: the plan says `feasible: false` and why.
 */
export const planCommand = (command: Command, observed: Observed): Plan =>
  definitionOf(command).plan(command, observed);

/** When the job must have ended, in milliseconds from its acceptance. */
export const deadlineOf = (command: Command, plan: Plan): number =>
  command.deadlineMs ?? longDeadlineMs(plan, definitionOf(command).mayTakeMs?.(command) ?? 0);

/**
 * What two plans of one command must share to be the same plan: who does what to which stitch with which spec. The number in
 * a generated id does not count: the counter may have moved on.
 */
export function planFingerprint(command: Command, plan: Plan): string {
  const drawn = definitionOf(command).drawsIds?.(command) === true;
  const anonymous = (step: Step) => (drawn && step.action === "create" ? { ...step, stitch: "*" } : step);
  const tasks = plan.tasks
    .map((task) => ({ node: task.node, refused: task.refused?.code ?? null, steps: task.steps.map(anonymous) }))
    .sort((a, b) => (a.node < b.node ? -1 : 1));
  const chains = (plan.orchestration?.chains ?? []).map(({ wave, links }) => ({
    wave,
    links: links.map(({ node, step }) => ({ node, step: anonymous(step) })),
  }));
  return canonicalJson([command.command, command.target, tasks, chains]);
}
