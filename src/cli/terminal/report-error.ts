import { ApiError, ApiUnreachable, NotTheApi } from "../../client/client.ts";
import { ConfigError } from "../../config.ts";
import type { RefusalResource } from "../../contract/refusal.ts";
import { inCliWords } from "./cli-words.ts";
import { EXIT, type ExitCode, isUndelivered } from "./exit-code.ts";
import { Interrupted } from "./interrupted.ts";
import type { Output } from "./output.ts";
import { printPlan } from "./print-plan.ts";
import { printable } from "../../printable.ts";
import { UsageError } from "./usage-error.ts";

/**
 * Prints on stderr what went wrong and what to do next; with `--json` also prints the API's problem document on stdout.
 * @returns the exit code of the process.
 * @throws any unexpected error: it is a bug of this program, and its stack trace is wanted.
 */
export function reportError(error: unknown, output: Output): ExitCode {
  if (error instanceof Interrupted) {
    if (error.hint !== null) output.note(error.hint);
    return EXIT.interrupted;
  }
  for (const line of lines(error)) output.note(line);
  if (!(error instanceof ApiError)) return EXIT.error;
  const { plan } = error.problem;
  if (output.json) output.body(error.problem);
  else if (plan !== undefined) printPlan(plan, output.beside);
  if (isUndelivered(error.code)) return EXIT.failed;
  return error.code === "placement_failed" ? EXIT.notPlaced : EXIT.error;
}

function lines(error: unknown): string[] {
  if (error instanceof ApiError) return apiErrorLines(error);
  if (error instanceof ApiUnreachable) {
    return [error.message, "To start a cluster on this machine: stitch up. Another API: --url or STITCH_URL."];
  }
  if (error instanceof NotTheApi) return [error.message, "Another API: --url or STITCH_URL."];
  if (error instanceof ConfigError || error instanceof UsageError) return error.message.split("\n");
  throw error;
}

function apiErrorLines({ code, problem }: ApiError): string[] {
  const { errors = [] } = problem;
  // The detail repeats the first error, so it is enough for a single one.
  const several = errors.length > 1;
  return [
    `${code}: ${printable(several ? problem.title : inCliWords(problem.detail))}`,
    ...(several ? errors : []).map(
      ({ path, message }) => `  ${printable(inCliWords(path || "body"))}: ${printable(inCliWords(message))}`,
    ),
    ...(problem.candidates ?? []).map((candidate) => `  ${printable(candidate)}`),
    ...(problem.refusals ?? []).map(refusalLine),
    ...(problem.movedTo === undefined ? [] : [`  it is now ${printable(problem.movedTo)}`]),
    ...(problem.jobId === undefined ? [] : [`  see: stitch jobs ${printable(problem.jobId)}`]),
  ];
}

const refusalLine = ({ node, code, message }: RefusalResource): string =>
  `  ${printable(node)}  ${code}  ${printable(inCliWords(message))}`;
