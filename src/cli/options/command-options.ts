import { type Command, Option } from "commander";
import { addClientOptions } from "../calls/client-action.ts";
import { parseDuration } from "../terminal/duration.ts";
import { parsePlanToken } from "./option-values.ts";

/** The flags of every command that changes something, as commander parses them. */
export type CommandFlags = {
  readonly json?: true;
  /** Milliseconds to wait for the job. */
  readonly timeout: number;
  readonly detach?: true;
  readonly key?: string;
  readonly reason?: string;
  readonly waitForNode?: true;
  /** Milliseconds. */
  readonly deadline?: number;
  /** Token of a plan. */
  readonly plan?: string;
  readonly yes?: true;
};

/** For commands that add or replace stitches. Milliseconds. */
export type HealthyFlags = { readonly minHealthy?: number };

export const addHealthyOption = (command: Command): Command =>
  command.option(
    "--min-healthy <duration>",
    "how long a stitch must have been well before it counts, such as 10s (default: as its spec says, else 5s where it takes the place of another)",
    parseDuration,
  );

export const healthyOf = ({ minHealthy }: HealthyFlags): { minHealthyMs?: number } =>
  minHealthy === undefined ? {} : { minHealthyMs: minHealthy };

/** What a registered command does: it is carried out, or (under `stitch plan`) only planned. */
export type Mode = "carry-out" | "plan";

/** How long to wait for a job, in milliseconds. The job continues after that. */
export const timeoutOption = (): Option =>
  new Option("--timeout <duration>", "how long to wait for the job (it goes on after that)")
    .argParser(parseDuration)
    .default(300_000, "5m");

/** Adds the options that define a command, the same in both modes. Mode `carry-out` also gets the options for sending it. */
export function addCommandOptions(command: Command, mode: Mode): Command {
  addClientOptions(command)
    .option("--reason <text>", "why; kept with the job")
    .option("--wait-for-node", "let the job wait for a node that is dead or away")
    .option("--deadline <duration>", "end the job if it has not begun by then, such as 60s", parseDuration);
  if (mode === "plan") return command;
  return command
    .addOption(timeoutOption())
    .option("--detach", "do not wait: print the job's id")
    .option("--plan <token>", "only if it would still do what `stitch plan` showed", parsePlanToken)
    .option("--key <key>", "idempotency key: the same key and command are carried out once (default: a new one)");
}
