import { ApiError, type CommandBody } from "../../client/client.ts";
import { inCliWords } from "../terminal/cli-words.ts";
import type { ClientContext } from "../calls/client-action.ts";
import type { Mode } from "../options/command-options.ts";
import { withRetries } from "../calls/retry.ts";
import { printable } from "../../printable.ts";

/** Says what the plan of a command warns of, before it is carried out. Of one that is to be planned, the plan says it. */
export async function printWarnings(
  { client, output, signal }: ClientContext,
  mode: Mode,
  body: CommandBody,
): Promise<void> {
  if (mode === "plan") return;
  const plan = await withRetries(() => client.plan(body, { signal }), signal).catch((error: unknown) => {
    // The command is refused in the same way, and tells; or it was given before under its key, and is answered all the same.
    if (error instanceof ApiError) return null;
    throw error;
  });
  for (const { code, stitch, message } of plan?.warnings ?? []) {
    const about = stitch === undefined ? code : `${code} ${stitch}`;
    output.note(`${output.styled("yellow", "warning:")} ${printable(`${about}: ${inCliWords(message)}`)}`);
  }
}
