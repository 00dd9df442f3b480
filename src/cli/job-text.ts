import type { JobResource, StepResource } from "../domain/resources.ts";
import { formatDuration } from "./duration.ts";
import { printable } from "./table.ts";

const STDERR_LINES = 10;
/** What fits on a line beside the bar. */
const NODES_SHOWN = 6;

/** `stitch.stop n1:orders-1: succeeded, 1 of 1, 120 ms` */
export function jobLine(job: JobResource): string {
  const { succeeded, total } = job.counts;
  const tookMs = job.finishedAt === null ? null : Date.parse(job.finishedAt) - Date.parse(job.createdAt);
  const took = tookMs === null ? "" : `, ${formatDuration(tookMs)}`;
  return printable(`${job.command} ${job.target}: ${job.status}, ${succeeded} of ${total}${took}`);
}

/** For each part that did not succeed: where, the code, the message, and the last lines of the process's stderr. */
export function failureLines(job: JobResource): string[] {
  const lines = job.error === null ? [] : [`${job.error.code}: ${printable(job.error.message)}`];
  for (const task of job.tasks) {
    for (const step of task.steps.filter(failed)) lines.push(...stepLines(task.node, step));
  }
  if (job.truncated === true) lines.push(`more: stitch jobs ${job.id} --json, or GET /v1/jobs/${job.id}/steps`);
  return lines;
}

const failed = (step: StepResource): boolean => !["succeeded", "pending", "running"].includes(step.status);

function stepLines(node: string, step: StepResource): string[] {
  const what = `${step.stitch ?? node}: ${step.action} ${step.status}`;
  if (step.error === null) return [what];
  const tail = (step.error.stderrTail ?? "").trimEnd();
  const stderr = tail === "" ? [] : tail.split("\n").slice(-STDERR_LINES);
  return [
    `${what}: ${step.error.code}: ${printable(step.error.message)}`,
    ...stderr.map((line) => `  | ${printable(line)}`),
  ];
}

/** How far a job is: `9/12  n1 4/4  n2 4/4  n3 1/4`; of many nodes, those that have steps left first. */
export function progressText(job: JobResource): string {
  const perNode = job.tasks.map(({ node, steps }) => {
    const ended = steps.filter(({ status }) => status !== "pending" && status !== "running").length;
    return { text: `${node} ${ended}/${steps.length}`, done: ended === steps.length };
  });
  const few = perNode.length <= NODES_SHOWN;
  const order = few ? perNode : [...perNode.filter(({ done }) => !done), ...perNode.filter(({ done }) => done)];
  const shown = order.slice(0, NODES_SHOWN).map(({ text }) => text);
  const more = few ? [] : [`and ${perNode.length - NODES_SHOWN} nodes more`];
  return [`${endedSteps(job)}/${job.counts.total}`, ...shown, ...more].join("  ");
}

export function endedSteps(job: JobResource): number {
  return job.counts.total - job.counts.pending - job.counts.running;
}
