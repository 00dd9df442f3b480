import type { ClientContext } from "../calls/client-action.ts";
import type { CommandBody } from "../../client/client.ts";
import { EXIT, type ExitCode } from "../terminal/exit-code.ts";
import { printPlan } from "../terminal/print-plan.ts";

/** Shows what a command would do, and the token that applies exactly that plan. Changes nothing. */
export async function showPlan({ client, output, signal }: ClientContext, body: CommandBody): Promise<ExitCode> {
  const plan = await client.plan(body, { signal });
  if (output.json) output.body(plan);
  else printPlan(plan, output);
  return plan.feasible ? EXIT.done : EXIT.notPlaced;
}
