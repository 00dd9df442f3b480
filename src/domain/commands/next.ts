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
      /** Of the stitches it means, those it is for, by steps of the job that were about them; null for all. */
      readonly only: readonly StitchStep[] | null;
      /** Stitches that an earlier job made, and that did not come up, by the same. */
      readonly notUp: readonly StitchStep[];
    }
  | {
      readonly kind: "steps";
      /** What the job that carries them out is recorded as. */
      readonly name: CommandName;
      readonly steps: readonly StitchStep[];
      /** They take back removals: what is to be created again is told by the tombstones. */
      readonly restores: boolean;
    };

/** The very steps of the job that did not succeed, whatever its target may mean by now. */
export const repeatSteps =
  (name: CommandName) =>
  ({ steps }: FinishedJob): Next => ({
    kind: "steps",
    name,
    steps: steps.flatMap(({ status, step }) => (status === "succeeded" || step.stitch === null ? [] : [step])),
    restores: false,
  });

/**
 * The command as it was given, planned anew, so that only what is still to be done is done. `other` stands in place of its
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

/** The steps of the chains that have not succeeded: a stitch may have missed though its step succeeded, where it was not green. */
export const missedInChains = ({ record }: FinishedJob): StitchStep[] =>
  (record.orchestration?.chains ?? []).filter(({ status }) => status !== "succeeded").flatMap(stepsOf);

export const stepsOf = ({ links }: Chain): StitchStep[] =>
  links.flatMap(({ step }) => (step.stitch === null ? [] : [step]));

/** The steps that changed something. Whether they succeeded or not: a start that failed leaves a stitch that its policy starts again. */
export const changedBy = ({ steps }: FinishedJob): FinishedStep[] =>
  steps.filter(({ outcome }) => outcome?.changed === true);

/** Takes steps back by the opposite one of each stitch. @throws RequestError `not_reversible` where there are none. */
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
  // Also what may be there, by a node that has not said so. What a node refused to make may be another's.
  const made = job.steps.filter(({ status, outcome }) => outcome?.changed === true || status === "unknown");
  return takeBack("stitch.remove", "remove", made, job);
}

/** The rollback of what cannot be taken back. */
export const never = (why: string) => (): never => {
  throw notReversible(why);
};

export const notReversible = (why: string): RequestError =>
  new RequestError("not_reversible", `This job cannot be taken back: ${why}.`);
