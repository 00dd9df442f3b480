import type { Command } from "commander";
import { ApiError, type Client } from "../../client/client.ts";
import { namesGroup } from "./names-group.ts";
import type { Output } from "../terminal/output.ts";
import { printable } from "../../printable.ts";

type Context = { readonly client: Pick<Client, "group">; readonly output: Output; readonly signal: AbortSignal };

/** After `error`: prints a hint if the typed name is not a stitch but a group, and the command takes `--group`. */
export async function hintAtGroup(error: unknown, command: Command, context: Context): Promise<void> {
  if (!(error instanceof ApiError) || (error.code !== "not_found" && error.code !== "no_recipient")) return;
  const { client, output, signal } = context;
  const [name] = command.args;
  const takesGroup = command.options.some(({ long, required }) => long === "--group" && !required);
  if (name === undefined || !takesGroup || namesGroup(name, command.opts<{ group?: true }>())) return;
  const isGroup = await client.group(name, { signal }).then(
    () => true,
    () => false,
  );
  if (isGroup) output.note(`${printable(name)} is a group: add --group.`);
}
