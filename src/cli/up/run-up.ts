import { resolve } from "node:path";
import { ApiError, type Client } from "../../client/client.ts";
import { type Config, loadConfig } from "../../config.ts";
import { eventLine } from "../commands/events.ts";
import { errorText } from "../../error-text.ts";
import { EXIT, type ExitCode } from "../terminal/exit-code.ts";
import { Interrupted } from "../terminal/interrupted.ts";
import { LocalRedisError } from "../processes/local-redis.ts";
import type { Output } from "../terminal/output.ts";
import { refuseOtherPlatform } from "../processes/platform.ts";
import { reportError } from "../terminal/report-error.ts";
import { onUpEnd } from "./ending.ts";
import { UpCluster } from "./cluster.ts";
import { takeHome } from "./home.ts";
import { logsOf, type Part } from "./part.ts";
import { apiPort } from "./port-free.ts";
import { ensureSamples, samples } from "./samples.ts";
import { curlLines, showTables, untilSettled } from "./show.ts";
import { type Step, steps } from "./steps.ts";

/** What a cluster of `stitch up` keeps, in the folder where it was started. */
const FOLDER = ".crossstitch";

/** Thrown when something other than Ctrl-C asked for the end: that it came is as it should be. */
class AskedToEnd extends Error {}

/** `stitch up [--reset] [--watch]`: a whole cluster on this machine, in this terminal. Resolves when it has ended. */
export async function runUp(
  output: Output,
  { reset, watch }: { readonly reset: boolean; readonly watch: boolean },
): Promise<ExitCode> {
  const ending = new AbortController();
  let cluster: UpCluster | null = null;
  const release = onUpEnd(
    (why, byCtrlC) => {
      output.print(why);
      ending.abort(byCtrlC ? new Interrupted() : new AskedToEnd());
    },
    () => {
      cluster?.kill();
      process.exit(EXIT.interrupted);
    },
  );
  const step = steps((line) => output.print(line));
  try {
    refuseOtherPlatform("stitch up");
    const config = loadConfig(process.env);
    const home = await takeHome(resolve(FOLDER), step);
    try {
      const port = await apiPort(config.host, config.port);
      if (reset) await step(`${FOLDER} cleared`, () => home.clear());
      cluster = new UpCluster({
        config,
        port,
        env: process.env,
        home,
        step,
        watch,
        onEnd: (...ended) => void tellOfEnd(output, ...ended),
        onBack: (name, error) =>
          output.note(
            error === null ? `${name} is started again.` : `${name} cannot be started again: ${errorText(error)}`,
          ),
      });
      await run(cluster, config, output, step, ending.signal);
    } finally {
      await cluster?.stop();
      await home.release();
    }
    return EXIT.done;
  } catch (error) {
    if (error instanceof AskedToEnd) return EXIT.done;
    if (error instanceof LocalRedisError) {
      output.note(error.message);
      return EXIT.error;
    }
    return reportError(error, output);
  } finally {
    release();
  }
}

async function run(
  cluster: UpCluster,
  config: Config,
  output: Output,
  step: Step,
  signal: AbortSignal,
): Promise<never> {
  const { client } = cluster;
  await cluster.start(signal);
  for (const [application, wanted] of await samples()) {
    await step(
      `samples of ${application}`,
      () => ensureSamples(client, wanted, signal),
      (told) => `${application}: ${told}`,
    );
  }
  await step(
    "stitches settled",
    () => untilSettled(client, signal),
    (settled) => (settled ? "stitches settled" : "some stitches are still on their way"),
  );
  const asOf = await showTables(client, output, signal);
  output.print("\nTry in another terminal:");
  for (const line of curlLines(client.url, config.token !== null)) output.print(`  ${line}`);
  output.print("\nWhat happens from here on (Ctrl-C stops everything):");
  return await follow(client, output, asOf, signal);
}

/** Ends by the signal alone. */
async function follow(client: Client, output: Output, asOf: string, signal: AbortSignal): Promise<never> {
  // Ids of events begin with Redis's time: nothing that happens after the tables were read is missed.
  let since: string | undefined = `${Date.parse(asOf)}-0`;
  for (;;) {
    try {
      const onGap = (): void => output.note("Some events were missed.");
      const options = { since, signal, onGap, giveUpAfterMs: Number.POSITIVE_INFINITY };
      for await (const event of client.followEvents(options)) output.print(eventLine(event));
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ApiError && error.code === "events_gone" && since !== undefined)) {
        output.note(`Events are not shown any more (${errorText(error)}). The cluster goes on.`);
        return await aborted(signal);
      }
      since = undefined;
    }
  }
}

/** Rejects with the signal's reason, once it aborts. */
const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    const end = () => reject(signal.reason as Error);
    if (signal.aborted) end();
    else signal.addEventListener("abort", end, { once: true });
  });

async function tellOfEnd(
  output: Output,
  name: string,
  how: string,
  part: Part | null,
  backInMs: number | null,
): Promise<void> {
  output.note(`\n${name} has ended: ${how}.`);
  if (part !== null) output.note(await logsOf([part]));
  output.note(
    backInMs === null
      ? "The others go on. To have it back: Ctrl-C, then start again; the state is kept.\n"
      : `The others go on. It is started again in ${backInMs / 1000} s.\n`,
  );
}
