import { type Config, loadConfig } from "../../config.ts";
import type { EndingSignal } from "../../ending-signals.mjs";
import type { Running } from "../../running.ts";
import { EXIT, type ExitCode } from "../terminal/exit-code.ts";
import { onEndingSignal } from "../terminal/signals.ts";

export type Start = (config: Config) => Promise<Running>;

/**
 * Runs one part of the cluster as this process, until it ends or a signal asks it to (`ENDING_SIGNALS`): it stops in
 * good order. A second one: it lets go at once.
 * @param loadStart loads the part's code, which is not needed before the settings are known to be right.
 * @returns what the process ends with; errors have been shown.
 * @throws ConfigError naming each wrong setting.
 */
export async function runPart(
  loadStart: () => Promise<Start>,
  env: Readonly<Record<string, string | undefined>>,
): Promise<ExitCode> {
  const config = loadConfig(env);
  let running: Running | null = null;
  let asked: () => void = () => undefined;
  const stopAsked = new Promise<"stop">((resolve) => {
    asked = () => resolve("stop");
  });
  const release = onEndingSignal(asked, (signal) => {
    running?.kill();
    process.exit(codeOfSecond(signal));
  });
  try {
    const start = await loadStart();
    running = await start(config);
    process.stderr.write(`${running.ready}\n`);
    const why = await Promise.race([stopAsked, running.ended]);
    if (why === "stop") await running.stop();
    return EXIT.done;
  } catch (error) {
    process.stderr.write(`${shownText(error, config)}\n`);
    running?.kill();
    return EXIT.error;
  } finally {
    release();
  }
}

const codeOfSecond = (signal: EndingSignal): ExitCode => (signal === "SIGINT" ? EXIT.interrupted : EXIT.error);

/** The message, and the next step where the error names one; a stack only where details are asked for. */
function shownText(error: unknown, config: Config): string {
  if (!(error instanceof Error)) return String(error);
  const detailed = config.logLevel === "debug" || config.logLevel === "trace";
  const what = detailed && error.stack !== undefined ? error.stack : error.message;
  return "next" in error && typeof error.next === "string" ? `${what}\n${error.next}` : what;
}
