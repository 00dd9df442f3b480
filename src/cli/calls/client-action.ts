import type { Command } from "commander";
import { type Client, createClient } from "../../client/client.ts";
import { loadConfig } from "../../config.ts";
import { codeOfSignal, type EndingSignal } from "../../ending-signals.mjs";
import type { ExitCode } from "../terminal/exit-code.ts";
import { hintAtGroup } from "./group-hint.ts";
import { Interrupted } from "../terminal/interrupted.ts";
import { Output } from "../terminal/output.ts";
import { reportError } from "../terminal/report-error.ts";
import { onEndingSignal } from "../terminal/signals.ts";

/** How long a command may take to end in good order. */
const LEAVE_MS = 1000;

/** What a command needs to talk to the API. */
export type ClientContext = {
  readonly client: Client;
  readonly output: Output;
  /** Aborts at Ctrl-C and at the other `ENDING_SIGNALS`, with `Interrupted` as its reason. */
  readonly signal: AbortSignal;
};

type ClientFlags = { readonly url?: string; readonly json?: true };

/** `--url` and `--json`, which every command that talks to the API takes. */
export function addClientOptions(command: Command): Command {
  return command
    .option("--url <url>", "where the API is (STITCH_URL)")
    .option("--json", "print the API's answer, and nothing else, on stdout");
}

/**
 * An action for commander: calls `run` with the client and the output, turns its errors into messages, sets the exit code.
 * The command must have the options of `addClientOptions`.
 */
export function clientAction<Args extends unknown[]>(
  run: (context: ClientContext, ...args: Args) => Promise<ExitCode>,
): (...args: [...Args, Command]) => Promise<void> {
  return async (...given) => {
    const command = given.at(-1) as Command;
    // commander passes the arguments and flags of `run`, then the command: its types do not say so.
    const args = given.slice(0, -1) as unknown as Args;
    const flags = command.optsWithGlobals<ClientFlags>();
    const output = new Output(process.stdout, process.stderr, flags.json === true);
    const interrupted = new AbortController();
    let endedBy: EndingSignal | null = null;
    const release = onEndingSignal(
      (signal) => {
        interrupted.abort(new Interrupted());
        if (signal === "SIGINT") return;
        endedBy = signal;
        // Work that ignores the abort, such as a question to the user, must not delay the end.
        setTimeout(() => process.exit(codeOfSignal(signal)), LEAVE_MS).unref();
      },
      (signal) => process.exit(codeOfSignal(signal)),
    );
    let context: ClientContext | null = null;
    try {
      const env = flags.url === undefined ? process.env : { ...process.env, STITCH_URL: flags.url };
      const { url, token } = loadConfig(env);
      const client = createClient({ url, token: token?.reveal() ?? null });
      context = { client, output, signal: interrupted.signal };
      process.exitCode = await run(context, ...args);
    } catch (error) {
      process.exitCode = reportError(error, output);
      if (context !== null) await hintAtGroup(error, command, context);
    } finally {
      if (endedBy !== null) process.exitCode = codeOfSignal(endedBy);
      release();
    }
  };
}
