import { RequestError } from "../errors.ts";
import type { Step } from "../job/job.ts";
import type { Plan } from "./planned.ts";

const MIB = 1024 * 1024;
/** The limit for one task as JSON, about 30,000 stitches. BullMQ has no limit for an entry of a queue. */
const MOST_TASK_CHARACTERS = 16 * MIB;
/** The limit for a job's record as JSON: lists of jobs read the whole record. */
const MOST_RECORD_CHARACTERS = 64 * MIB;
/** What a step counts, without its placement. */
const STEP_CHARACTERS = 500;

/**
 * Refuses a plan that could be recorded, but then not dispatched or not listed. Cheap: a part that many steps share is
 * measured once. @throws RequestError `too_large`
 */
export function checkPlanSize({ tasks, orchestration }: Plan): void {
  const measure = measuring();
  let most = 0;
  let record = 0;
  const count = (steps: readonly Step[]) => {
    const characters = steps.reduce((sum, step) => sum + measure(step), 0);
    most = Math.max(most, characters);
    record += characters;
  };
  for (const { steps } of tasks) count(steps);
  const links = (orchestration?.chains ?? []).flatMap(({ wave, links: each }) =>
    each.map(({ node, step }, index) => ({ task: `${wave} ${index} ${node}`, step })),
  );
  for (const together of Map.groupBy(links, ({ task }) => task).values()) count(together.map(({ step }) => step));
  if (most > MOST_TASK_CHARACTERS) throw tooLarge("what one node would be given", most, MOST_TASK_CHARACTERS);
  if (record > MOST_RECORD_CHARACTERS) throw tooLarge("the job", record, MOST_RECORD_CHARACTERS);
}

function measuring(): (step: Step) => number {
  const known = new Map<object, number>();
  const sizeOf = (part: object | undefined): number => {
    if (part === undefined) return 0;
    const size = known.get(part) ?? JSON.stringify(part).length;
    known.set(part, size);
    return size;
  };
  return (step) => STEP_CHARACTERS + (step.action === "create" ? sizeOf(step.placement) : 0);
}

const tooLarge = (what: string, characters: number, most: number): RequestError =>
  new RequestError(
    "too_large",
    `This is too large to carry out: ${what} would be ${(characters / MIB).toFixed(1)} MiB, at most ${most / MIB} MiB. ` +
      "Do it in several commands; where placements are long, name fewer zones and labels. Nothing was changed.",
  );
