import type { JobResource, StepResource } from "../../contract/job.ts";
import { inCliWords } from "./cli-words.ts";
import { formatDuration } from "./duration.ts";
import { printable } from "../../printable.ts";

/** As many as fit on a line beside the bar. */
const NODES_SHOWN = 6;

/** `stitch.stop n1:orders-1: succeeded, 1 of 1, 120 ms` */
export function jobLine(job: JobResource): string {
  const { succeeded, total } = job.counts;
  const tookMs = job.finishedAt === null ? null : Date.parse(job.finishedAt) - Date.parse(job.createdAt);
  const took = tookMs === null ? "" : `, ${formatDuration(tookMs)}`;
  return printable(`${job.command} ${job.target}: ${job.status}, ${succeeded} of ${total}${took}`);
}

/**
 * For each step that did not succeed: the stitch or node, the code, the message, and the first and the last lines of the
 * process's stderr.
 */
export function failureLines(job: JobResource): string[] {
  const parts = job.tasks.flatMap(({ node, steps }) => steps.filter(failed).map((step) => ({ node, step })));
  const { error } = job;
  // The job's error often repeats the error of one step, and the line of that step says more.
  const told = parts.some(({ step }) => step.error?.code === error?.code && step.error?.message === error?.message);
  const lines = error === null || told ? [] : [`${error.code}: ${printable(inCliWords(error.message))}`];
  const waiting = parts.filter(({ step }) => neverBegun(step));
  for (const { node, step } of parts) if (!neverBegun(step)) lines.push(...stepLines(node, step));
  // Hundreds of steps may wait behind a failed one, for the same reason: they share one line.
  for (const [first, ...more] of Map.groupBy(waiting, ({ step }) => step.error?.message).values()) {
    if (first === undefined) continue;
    const { node, step } = first;
    const others = more.length === 0 ? "" : `, and ${more.length} steps more`;
    lines.push(`${whatOf(node, step)}${others}: ${printable(inCliWords(step.error?.message ?? ""))}`);
  }
  if (job.truncated === true) lines.push(`more: stitch jobs ${job.id} --json, or GET /v1/jobs/${job.id}/steps`);
  return lines;
}

const failed = (step: StepResource): boolean => !["succeeded", "pending", "running"].includes(step.status);

const neverBegun = ({ status, startedAt, error }: StepResource): boolean =>
  status === "cancelled" && startedAt === null && error !== null;

const whatOf = (node: string, step: StepResource): string => `${step.stitch ?? node}: ${step.action} ${step.status}`;

function stepLines(node: string, step: StepResource): string[] {
  const what = whatOf(node, step);
  if (step.error === null) return [what];
  const tail = (step.error.stderrTail ?? "").trimEnd();
  const stderr = tail === "" ? [] : tail.split("\n");
  return [
    `${what}: ${step.error.code}: ${printable(inCliWords(step.error.message))}`,
    ...stderr.map((line) => `  | ${printable(line)}`),
  ];
}

/** `batch=25%, timeoutMs=30000`: the command's options, defaults included. A spec is too long for a line. */
export function optionsText({ options }: Pick<JobResource, "options">): string {
  return Object.entries(options)
    .filter(([name]) => name !== "spec" && name !== "specHash")
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
}

/** `wave 2 of 4`, if the job has several waves. */
export function waveText({ progress: { wave, waves } }: Pick<JobResource, "progress">): string[] {
  return waves > 1 ? [`wave ${wave} of ${waves}`] : [];
}

/** A job's progress: `wave 2 of 3  9/12  n1 4/4  n2 4/4  n3 1/4`. If there are many nodes, those with steps left come first. */
export function progressText(job: JobResource): string {
  const steps = Map.groupBy(
    job.tasks.flatMap((task) => task.steps.map(({ status }) => ({ node: task.node, status }))),
    ({ node }) => node,
  );
  const perNode = [...steps].map(([node, each]) => {
    const ended = each.filter(({ status }) => status !== "pending" && status !== "running").length;
    return { text: `${node} ${ended}/${each.length}`, done: ended === each.length };
  });
  const few = perNode.length <= NODES_SHOWN;
  const order = few ? perNode : [...perNode.filter(({ done }) => !done), ...perNode.filter(({ done }) => done)];
  const shown = order.slice(0, NODES_SHOWN).map(({ text }) => text);
  const more = few ? [] : [`and ${perNode.length - NODES_SHOWN} nodes more`];
  return [...waveText(job), `${endedSteps(job)}/${job.counts.total}`, ...shown, ...more].join("  ");
}

export function endedSteps(job: JobResource): number {
  return job.counts.total - job.counts.pending - job.counts.running;
}
