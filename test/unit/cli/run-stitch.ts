import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export const MAIN = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));
/**
 * The bundle that `test/run.ts` made, which starts in half the time; without it, the sources. Only for tests that start no
 * part of the cluster.
 */
export const STITCH = process.env["TEST_STITCH"] ?? MAIN;

export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };
export type Started = {
  readonly kill: (signal: NodeJS.Signals) => void;
  /** Resolves when something is on stdout. */
  readonly firstOutput: Promise<void>;
  readonly ended: Promise<Ended>;
};

/** The environment without the variables that would change what `stitch` does. */
export function bareEnv(env: Record<string, string>): Record<string, string | undefined> {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(STITCH_|REDIS_URL$|NO_COLOR$|FORCE_COLOR$|NODE_TEST)/.test(name),
  );
  return { ...Object.fromEntries(kept), ...env };
}

/** Starts `stitch` as its own process, with pipes for its output. It is killed after 20 s. */
export function startStitch(
  args: readonly string[],
  env: Record<string, string>,
  input: string | Uint8Array = "",
): Started {
  const child = spawn(process.execPath, [STITCH, ...args], {
    env: bareEnv(env),
    stdio: "pipe",
    timeout: 20_000,
    killSignal: "SIGKILL",
  });
  // The process may end before it has read all input.
  child.stdin.on("error", () => undefined).end(input);
  let stdout = "";
  let stderr = "";
  const firstOutput = Promise.withResolvers<void>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    firstOutput.resolve();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, stdout, stderr }));
  return { kill: (signal) => child.kill(signal), firstOutput: firstOutput.promise, ended };
}

export function runStitch(
  args: readonly string[],
  env: Record<string, string>,
  input: string | Uint8Array = "",
): Promise<Ended> {
  return startStitch(args, env, input).ended;
}

const AT_ONCE = 4;

/** Runs several commands, a few at once: all of them together would start so slowly that the time limit would kill them. */
export async function runEach(cases: readonly (readonly string[])[], env: Record<string, string>): Promise<Ended[]> {
  const ends: Ended[] = [];
  for (let at = 0; at < cases.length; at += AT_ONCE)
    ends.push(...(await Promise.all(cases.slice(at, at + AT_ONCE).map((args) => runStitch(args, env)))));
  return ends;
}
