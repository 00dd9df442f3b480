import type { PlanResource } from "../domain/resources.ts";
import type { ClientContext } from "./client-action.ts";
import type { CommandBody } from "../client/client.ts";
import { EXIT, type ExitCode } from "./exit-code.ts";
import type { Output } from "./output.ts";
import { withRetries } from "./retry.ts";

/** Shows what a command would do, and the token that applies just that. Nothing is changed. */
export async function showPlan({ client, output, signal }: ClientContext, body: CommandBody): Promise<ExitCode> {
  const plan = await withRetries(() => client.plan(body, { signal }), signal);
  if (output.json) output.body(plan);
  else show(plan, output);
  return plan.feasible ? EXIT.done : EXIT.notPlaced;
}

function show(plan: PlanResource, output: Output): void {
  if (plan.feasible && plan.tasks.length === 0) output.print("Nothing is to be done.\n");
  section(output, "Placements", plan.placements, ["stitch", "node", "reason"]);
  section(output, "Tasks", taskRows(plan), ["node", "action", "stitch"]);
  section(output, "Refusals", plan.refusals, ["node", "code", "message"]);
  section(output, "Warnings", plan.warnings, ["code", "stitch", "message"]);
  if (!plan.feasible) output.note(output.styled("red", "✖ This cannot be placed: nothing would be done."));
  else if (plan.planToken !== null) output.print(`To do just this, add to the command: --plan ${plan.planToken}`);
}

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
