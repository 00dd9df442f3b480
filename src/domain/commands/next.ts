import type { CommandName } from "./command-names.ts";
import { RequestError } from "../errors.ts";
import type { FoldedStep } from "../job/fold.ts";
import type { Chain, JobRecord, StitchStep } from "../job/job.ts";
import { formatRevision } from "../names/revision.ts";

/** A job that has ended, with what became of each of its steps. */
export type FinishedJob = { readonly record: JobRecord; readonly steps: readonly FinishedStep[] };
export type FinishedStep = FoldedStep & { readonly wave: number };

/** What follows from a job: a command that is planned anew, or steps that are known. */
export type Next =
  | {
      readonly kind: "command";
      readonly name: CommandName;
      /** Its body, without the name. */
      readonly body: Readonly<Record<string, unknown>>;
      /** Limits the command to these stitches, named by steps of the job that were about them; null: no limit. */
      readonly only: readonly StitchStep[] | null;
      /** Stitches that an earlier job made, and that did not come up, also named by steps of the job. */
      readonly notUp: readonly StitchStep[];
    }
  | {
      readonly kind: "steps";
      /** The command name with which the job of these steps is recorded. */
      readonly name: CommandName;
      readonly steps: readonly StitchStep[];
      /** The steps take back removals: the removed records tell what to create again. */
      readonly restores: boolean;
    };

/** Repeats the job's own steps that did not succeed, whatever the job's target means by now. */
export const repeatSteps =
  (name: CommandName) =>
  ({ steps }: FinishedJob): Next => ({
    kind: "steps",
    name,
    steps: steps.flatMap(({ status, step }) => (status === "succeeded" || step.stitch === null ? [] : [step])),
    restores: false,
  });

/**
 * The command as it was given, planned anew, so that only what is still to be done is done. The fields in `other` replace its
 * options and its target.
 */
export function planAnew(
  name: CommandName,
  { record: { target, options, createdAtMs, deadlineAtMs } }: FinishedJob,
  other: Readonly<Record<string, unknown>> = {},
  { only = null, notUp = [] }: Partial<Pick<Extract<Next, { kind: "command" }>, "only" | "notUp">> = {},
): Next {
  return {
    kind: "command",
    name,
    body: { ...options, target, deadlineMs: deadlineAtMs - createdAtMs, ...other },
    only,
    notUp,
  };
}

/** The steps of the chains that have not succeeded. A chain may fail although its step succeeded: its stitch was not green. */
export const missedInChains = ({ record }: FinishedJob): StitchStep[] =>
  (record.orchestration?.chains ?? []).filter(({ status }) => status !== "succeeded").flatMap(stepsOf);

export const stepsOf = ({ links }: Chain): StitchStep[] =>
  links.flatMap(({ step }) => (step.stitch === null ? [] : [step]));

/**
 * The steps that changed something, whether they succeeded or not: a start that failed leaves a stitch that its restart policy
 * starts again.
 */
export const changedBy = ({ steps }: FinishedJob): FinishedStep[] =>
  steps.filter(({ outcome }) => outcome?.changed === true);

/** Takes steps back with the opposite action on each stitch. @throws RequestError `not_reversible` if there are none. */
export function takeBack(
  name: CommandName,
  action: "start" | "stop" | "remove",
  done: readonly FinishedStep[],
  { record: { revision } }: FinishedJob,
  restores = false,
): Next {
  const steps = done.flatMap(({ step, wave }): StitchStep[] => {
    if (step.stitch === null) return [];
    const { stitch, timeoutMs } = step;
    const born = step.born ?? (step.action === "create" ? formatRevision({ revision, wave }) : undefined);
    return [{ action, stitch, timeoutMs, ...(born === undefined ? {} : { born }) }];
  });
  if (steps.length === 0) throw notReversible("it changed nothing");
  return { kind: "steps", name, steps, restores };
}

/** The rollback of a job that made stitches. */
export function removeMade(job: FinishedJob): Next {
  // Also stitches that may exist although their node has not said so. A stitch that a node refused to make may be another's.
  const made = job.steps.filter(({ status, outcome }) => outcome?.changed === true || status === "unknown");
  return takeBack("stitch.remove", "remove", made, job);
}

/** The rollback of a job that cannot be taken back. */
export const never = (why: string) => (): never => {
  throw notReversible(why);
};

export const notReversible = (why: string): RequestError =>
  new RequestError("not_reversible", `This job cannot be taken back: ${why}.`);
