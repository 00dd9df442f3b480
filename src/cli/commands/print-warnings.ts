import { ApiError, type CommandBody } from "../../client/client.ts";
import { inCliWords } from "../terminal/cli-words.ts";
import type { ClientContext } from "../calls/client-action.ts";
import type { Mode } from "../options/command-options.ts";
import { printable } from "../../printable.ts";

/** Prints the warnings of a command's plan before the command is carried out. In mode `plan`, the plan itself shows them. */
export async function printWarnings(
  { client, output, signal }: ClientContext,
  mode: Mode,
  body: CommandBody,
): Promise<void> {
  if (mode === "plan") return;
  const plan = await client.plan(body, { signal }).catch((error: unknown) => {
    // The command is refused with the same error and reports it, or its key was used before and it is answered anyway.
    if (error instanceof ApiError) return null;
    throw error;
  });
  for (const { code, stitch, message } of plan?.warnings ?? []) {
    const about = stitch === undefined ? code : `${code} ${stitch}`;
    output.note(`${output.styled("yellow", "warning:")} ${printable(`${about}: ${inCliWords(message)}`)}`);
  }
}
