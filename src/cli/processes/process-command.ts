import { type Config, loadConfig } from "../../config.ts";
import type { EndingSignal } from "../../ending-signals.mjs";
import type { RunningPart } from "../../running-part.ts";
import { EXIT, type ExitCode } from "../terminal/exit-code.ts";
import { HealthFile } from "./health-file.ts";
import { onEndingSignal } from "../terminal/signals.ts";

export type Start = (config: Config) => Promise<RunningPart>;

/**
 * Runs one part of the cluster as this process, until the part ends or a signal (`ENDING_SIGNALS`) asks it to stop in good
 * order. A second signal ends the process at once.
 * @param loadStart loads the part's code; called once the settings are known to be right, because it is not needed before.
 * @returns the exit code of the process; errors have been printed.
 * @throws ConfigError naming each wrong setting.
 */
export async function runPart(
  loadStart: () => Promise<Start>,
  env: Readonly<Record<string, string | undefined>>,
): Promise<ExitCode> {
  const config = loadConfig(env);
  const health = config.healthFile === null ? null : new HealthFile(config.healthFile);
  let running: RunningPart | null = null;
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
    health?.keep(running.works, (error) => process.stderr.write(`STITCH_HEALTH_FILE: ${shownText(error, config)}\n`));
    const why = await Promise.race([stopAsked, running.ended]);
    health?.end();
    if (why === "stop") await running.stop();
    return EXIT.done;
  } catch (error) {
    process.stderr.write(`${shownText(error, config)}\n`);
    running?.kill();
    return EXIT.error;
  } finally {
    health?.end();
    release();
  }
}

const codeOfSecond = (signal: EndingSignal): ExitCode => (signal === "SIGINT" ? EXIT.interrupted : EXIT.error);

/** The message, and the next step if the error names one; a stack trace only at log level debug or trace. */
function shownText(error: unknown, config: Config): string {
  if (!(error instanceof Error)) return String(error);
  const detailed = config.logLevel === "debug" || config.logLevel === "trace";
  const what = detailed && error.stack !== undefined ? error.stack : error.message;
  return "next" in error && typeof error.next === "string" ? `${what}\n${error.next}` : what;
}
