import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export const MAIN = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));
/** What `test/run.ts` has bundled, which starts in half the time; else the sources. For what needs no part of the cluster. */
export const STITCH = process.env["TEST_STITCH"] ?? MAIN;

export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };
export type Started = {
  readonly kill: (signal: NodeJS.Signals) => void;
  /** Resolves when something is on stdout. */
  readonly firstOutput: Promise<void>;
  readonly ended: Promise<Ended>;
};

/** The environment without what would steer `stitch`. */
export function bareEnv(env: Record<string, string>): Record<string, string | undefined> {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(STITCH_|REDIS_URL$|NO_COLOR$|FORCE_COLOR$|NODE_TEST)/.test(name),
  );
  return { ...Object.fromEntries(kept), ...env };
}

/** Starts `stitch` as a process of its own, with pipes for its output; ended by force after 20 s. */
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
  // It may end before it has read all of it.
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

/** Runs several, a few at once: all of them together are so slow to start that they would be ended by force. */
export async function runEach(cases: readonly (readonly string[])[], env: Record<string, string>): Promise<Ended[]> {
  const ends: Ended[] = [];
  for (let at = 0; at < cases.length; at += AT_ONCE)
    ends.push(...(await Promise.all(cases.slice(at, at + AT_ONCE).map((args) => runStitch(args, env)))));
  return ends;
}
