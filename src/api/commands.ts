import * as z from "zod";
import { COMMANDS, type Command, isCommandName } from "../domain/command.ts";
import { RequestError } from "../domain/errors.ts";
import { scopeOf } from "./access.ts";
import type { Api, ApiDeps } from "./deps.ts";
import { readKey } from "./idempotency-key.ts";
import { jobAnswer } from "./jobs.ts";
import { readJson } from "./json-body.ts";
import { invalidRequest } from "./problem.ts";
import { readQuery, waitQuery } from "./query.ts";

const named = z.looseObject({ command: z.string({ error: "must be the name of a command" }) });

export function routeCommands(app: Api, { master }: ApiDeps): void {
  app.post("/v1/commands", async (c) => {
    const { waitMs } = readQuery(c, waitQuery);
    const key = readKey(c);
    const command = checkCommand(await readJson(c));
    const submitted = await master.submit({
      command,
      idempotencyKey: key,
      scope: await scopeOf(c),
      by: null,
      waitMs,
    });
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
    throw new RequestError("unknown_command", `The commands are: ${Object.keys(COMMANDS).join(", ")}.`);
  const checked = COMMANDS[command].safeParse(body);
  if (!checked.success) throw invalidRequest(checked.error);
  return checked.data;
}
