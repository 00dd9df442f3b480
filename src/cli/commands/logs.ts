import type { Command } from "commander";
import type { LogSource } from "../../domain/stitch/log-line.ts";
import type { LogLineResource } from "../../contract/log-line.ts";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { parseLineCount } from "../options/option-values.ts";
import type { Output } from "../terminal/output.ts";
import { printFollowed } from "../follow/print-followed.ts";
import { printable, printableLine } from "../../printable.ts";

type Flags = { readonly follow?: true; readonly tail: number };

/** `stitch logs STITCH [-f] [-n 100]`. */
export function registerLogs(program: Command): void {
  addClientOptions(
    program
      .command("logs <stitch>")
      .description("show the last lines of a stitch's log; -f follows it")
      .option("-f, --follow", "show lines as they are written, until Ctrl-C")
      .option("-n, --tail <lines>", "how many of the last lines", parseLineCount, 100),
  ).action(
    clientAction(async (context, stitch: string, flags: Flags) => {
      const { client, output, signal } = context;
      const { tail } = flags;
      const textOf = (line: LogLineResource): string => logText(line, output);
      if (flags.follow === true)
        return await printFollowed(context, (ended) => client.followLogs(stitch, { tail, signal: ended }), textOf);
      const page = await client.logs(stitch, { tail, signal });
      if (output.json) output.body(page);
      else if (page.items.length === 0) output.note("No lines.");
      else for (const line of page.items) output.print(textOf(line));
      return EXIT.done;
    }),
  );
}

const COLOURS: Partial<Record<LogSource, "red" | "cyan" | "yellow">> = { stderr: "red", log: "cyan", system: "yellow" };

/**
 * `2026-11-23T09:00:00.000Z stderr the line`, with ` …` at the end if the next line continues it. Colours are removed, and
 * other characters that control a terminal are shown as `�`.
 */
function logText({ at, source, line, continued }: LogLineResource, output: Output): string {
  const colour = COLOURS[source];
  const mark = source.padEnd(6);
  return [
    output.answerStyled("dim", printable(at)),
    colour === undefined ? mark : output.answerStyled(colour, mark),
    printableLine(line) + (continued === true ? output.answerStyled("dim", " …") : ""),
  ].join(" ");
}
