import * as z from "zod";
import { COMMANDS, type Command } from "../../domain/commands/command.ts";
import { isCommandName } from "../../domain/commands/command-names.ts";
import { ERRORS, type ErrorCode, RequestError } from "../../domain/errors.ts";
import type { CommandRequest } from "../commands/command-service.ts";

const command = z.looseObject({ command: z.string() }).transform((body, context): Command => {
  const parsed = isCommandName(body.command) ? COMMANDS[body.command].schema.safeParse(body) : null;
  if (parsed?.success === true) return parsed.data;
  context.issues.push({ code: "custom", message: "must be a command", input: body });
  return z.NEVER;
});

const submission = z.object({
  command,
  idempotencyKey: z.string().nullable(),
  scope: z.string(),
  by: z.string().nullable(),
  waitMs: z.number(),
});

/** An entry of the masters' queue: what an API asks the leader for. `nonce`: names the request among those for the same job. */
export const leaderRequest = z.object({
  job: z.object({ id: z.string(), bodyHash: z.string(), repeatable: z.boolean() }),
  nonce: z.string(),
  request: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("submit"), submission }),
    z.object({ kind: z.literal("retry"), of: z.string() }),
    z.object({ kind: z.literal("rollback"), of: z.string(), reason: z.string().nullable() }),
  ]) satisfies z.ZodType<CommandRequest>,
});
export type LeaderRequest = z.output<typeof leaderRequest>;

const refusal = z.object({
  code: z.enum(Object.keys(ERRORS) as ErrorCode[]),
  message: z.string(),
  facts: z.record(z.string(), z.unknown()),
});

/** A refusal as the leader keeps it for the API that asked. */
export const refusalText = ({ code, message, facts }: RequestError): string => JSON.stringify({ code, message, facts });

export function refusalOf(text: string): RequestError {
  const { code, message, facts } = refusal.parse(JSON.parse(text));
  return new RequestError(code, message, facts);
}
