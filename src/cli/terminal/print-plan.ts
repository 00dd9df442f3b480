import type { PlanResource } from "../../contract/plan.ts";
import { inCliWords } from "./cli-words.ts";
import { formatDuration } from "./duration.ts";
import type { Output } from "./output.ts";

/** Prints what a command would do, and the flag that carries out exactly this plan. */
export function printPlan(plan: PlanResource, output: Output): void {
  if (plan.feasible && plan.tasks.length === 0) output.print("Nothing is to be done.\n");
  section(output, "Placements", plan.placements, ["stitch", "node", "reason"]);
  section(output, "Tasks", taskRows(plan), ["node", "action", "stitch"]);
  section(output, "Refusals", plan.refusals.map(inCliRow), ["node", "code", "message"]);
  section(output, "Warnings", plan.warnings.map(inCliRow), ["code", "stitch", "message"]);
  if (plan.leastDurationMs > 0) output.print(`Takes at least ${formatDuration(plan.leastDurationMs)}.\n`);
  if (!plan.feasible) output.note(output.styled("red", "✖ This cannot be placed: nothing would be done."));
  else if (plan.planToken !== null) output.print(`To do just this, add to the command: --plan ${plan.planToken}`);
}

const inCliRow = <Row extends { readonly message: string }>(row: Row): Row => ({
  ...row,
  message: inCliWords(row.message),
});

function taskRows(plan: PlanResource): Record<string, string>[] {
  return plan.tasks.flatMap(({ node, steps }) =>
    steps.map(({ action, stitch }) => ({ node, action, stitch: stitch ?? "" })),
  );
}

function section(
  output: Output,
  title: string,
  rows: readonly Readonly<Record<string, string>>[],
  keys: string[],
): void {
  if (rows.length === 0) return;
  output.print(title);
  output.table(
    rows,
    keys.map((key) => ({ key, title: key.toUpperCase() })),
    "",
  );
  output.print("");
}
