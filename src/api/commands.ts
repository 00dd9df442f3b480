import * as z from "zod";
import { COMMANDS, type Command } from "../domain/commands/command.ts";
import { COMMAND_NAMES, isCommandName } from "../domain/commands/command-names.ts";
import { RequestError } from "../domain/errors.ts";
import { scopeOf } from "./access.ts";
import { type Api, masterFor } from "./deps.ts";
import { readKey } from "./idempotency-key.ts";
import { jobAnswer } from "./jobs.ts";
import { readJson } from "./json-body.ts";
import { invalidRequest } from "./problem.ts";
import { readQuery, waitQuery } from "./query.ts";
import type { Waits } from "./waits.ts";

/** More than a spec with all the arguments and variables that it may have, plus zones and labels. */
const MAX_TOKENS = 4000;

const named = z.object({ command: z.string({ error: "must be the name of a command" }) });

export function routeCommands(app: Api, waits: Waits): void {
  app.post("/v1/commands", async (c) => {
    const { waitMs } = readQuery(c, waitQuery);
    const key = readKey(c);
    const command = checkCommand(await readJson(c, MAX_TOKENS));
    const scope = await scopeOf(c);
    const submit = async () => {
      const { commands } = await masterFor(c);
      return commands.submit({ command, idempotencyKey: key, scope, by: null, waitMs });
    };
    const submitted = await waits.during(c, waitMs, submit);
    if (submitted.kind === "plan") return c.json(submitted.plan);
    if (submitted.replayed) c.header("Idempotent-Replayed", "true");
    return jobAnswer(c, submitted.job);
  });
}

function checkCommand(body: unknown): Command {
  const name = named.safeParse(body);
  if (!name.success) throw invalidRequest(name.error);
  const { command } = name.data;
  if (!isCommandName(command))
    throw new RequestError("unknown_command", `The commands are: ${COMMAND_NAMES.join(", ")}.`);
  const checked = COMMANDS[command].schema.safeParse(body);
  if (!checked.success) throw invalidRequest(checked.error);
  return checked.data;
}
