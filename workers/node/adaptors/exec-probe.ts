import type { ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";
import { LATE, orLate, pause } from "../../../src/bounded-wait.ts";
import type { ProcessSpec } from "../../../src/domain/stitch/spec.ts";
import type { Handles } from "../processes/handles.ts";
import { groupGone, signalGroup } from "../processes/process-group.ts";
import type { Watchdog } from "../processes/watchdog.ts";
import type { StartContext } from "../protocol/adaptor.ts";
import { environment } from "./command-line.ts";
import { refusalText, type Wanted } from "./failed-launch.ts";
import { type Launcher, type SpawnCall, spawnCall } from "./launcher.ts";
import { failedLook, type Finding, findingOf, type Probe } from "./probe.ts";

export type ExecProbeOptions = {
  readonly watchdog: Pick<Watchdog, "guard" | "release">;
  readonly launcher: Pick<Launcher, "launch" | "refusal">;
  readonly handles: Pick<Handles, "refusal">;
  readonly context: StartContext;
  readonly spec: ProcessSpec;
};

/** Of the command's output, the end is kept: there a command says why it fails. */
const KEPT_BYTES = 2048;
const SAID_CHARS = 400;
/** What a command prints beyond this is read slowly, so that a flood costs the node little. */
const FAST_BYTES = 64 * 1024;
const SLOW_READ_MS = 20;
/** How long the output of a command that has failed is waited for: a process that left its group may hold the pipe open. */
const DRAIN_MS = 200;
/** How long a killed command is waited for. A process that hangs in the kernel may never end. */
const KILLED_MS = 2000;
/** The same for the rest of its group. A machine may take seconds to clear dead processes away that have no parent. */
const REST_MS = 100;

/**
 * Looks at a program by running a command, in the program's folder and environment. The command leads a process group of its
 * own, which is killed when the command has ended, or the look is given up. The watchdog guards it as it guards the program,
 * and it carries the marks of the stitch: so it ends with the worker and the lease, and what leaves its group ends with the
 * stitch.
 */
export function execProbe(command: readonly string[], options: ExecProbeOptions): Probe {
  /** The process of a look that was given up, while it is still there. */
  let left: number | null = null;
  return async (signal) => {
    if (left !== null) return failedLook(`process ${left} of an earlier check was killed, and is still there`);
    const noHandles = options.handles.refusal();
    if (noHandles !== null) return { kind: "not made", reason: noHandles };
    const run = await start(command, options);
    if (!("exited" in run)) return run;
    const finding = await look(run, signal, options);
    if (finding !== null) return finding;
    left = run.pid;
    void run.exited.then(() => (left = null));
    return { kind: "given up", said: run.output.text };
  };
}

type Ended = { readonly code: number | null; readonly signal: string | null };

type Run = {
  readonly pid: number;
  readonly call: SpawnCall;
  readonly wanted: Wanted;
  readonly output: Output;
  /** Sends SIGKILL to the group, unless the command has ended: the rest of the group gets it then. */
  readonly kill: () => void;
  readonly exited: Promise<Ended>;
  /** Resolves when nothing of the group is left, or when the rest of it cannot be ended. */
  readonly gone: Promise<void>;
};

async function start(
  command: readonly string[],
  { context, spec, launcher, watchdog }: ExecProbeOptions,
): Promise<Run | Finding> {
  const [program = "", ...args] = command;
  const cwd = spec.cwd ?? context.dataDir;
  const env = environment(context, spec);
  const call = launcher.launch(cwd, program, args);
  const wanted: Wanted = { node: context.node, program, cwd, path: env["PATH"] ?? "" };
  let child: ChildProcess;
  try {
    child = spawnCall(call, env, "ignore");
  } catch (error) {
    return findingOf(error);
  }
  const { pid } = child;
  if (pid === undefined) return new Promise((resolve) => child.once("error", (error) => resolve(findingOf(error))));
  watchdog.guard(pid, spec.onDisconnect === "stop" ? { stitch: context.id, graceMs: spec.stopGraceMs } : null);
  const output = new Output(child);
  let hasExited = false;
  const exited = new Promise<Ended>((resolve) => {
    child.once("exit", (code, signal) => {
      hasExited = true;
      resolve({ code, signal });
    });
  });
  const gone = exited.then(async () => {
    await groupGone(pid, () => true);
    watchdog.release(pid);
  });
  const kill = () => {
    if (!hasExited) signalGroup(pid, "SIGKILL");
  };
  return { pid, call, wanted, output, kill, exited, gone };
}

/** Waits for the end of the command. @returns null if it was killed, and is still there. */
async function look(run: Run, signal: AbortSignal, { launcher }: ExecProbeOptions): Promise<Finding | null> {
  const { call, wanted, output, kill, exited, gone } = run;
  const given = Promise.withResolvers<null>();
  const giveUp = () => {
    kill();
    given.resolve(null);
  };
  signal.addEventListener("abort", giveUp);
  if (signal.aborted) giveUp();
  const first = await Promise.race([exited, given.promise]);
  signal.removeEventListener("abort", giveUp);
  const exit = first ?? (await orLate(exited, KILLED_MS));
  if (exit !== LATE) await orLate(gone, REST_MS);
  if (first === null) {
    output.close();
    return exit === LATE ? null : { kind: "given up", said: output.text };
  }
  if (first.code === 0) {
    output.close();
    return { kind: "well" };
  }
  await orLate(output.drained, DRAIN_MS);
  output.close();
  const refusal = launcher.refusal(first.code, output.lineOf(call.tools));
  if (refusal !== null) return failedLook(await refusalText(refusal, wanted));
  const how = first.signal === null ? `exited with code ${first.code}` : `was ended by ${first.signal}`;
  return failedLook(output.text === "" ? how : `${how}: ${output.text}`);
}

/** The end of what a command prints. It does not go to the stitch's log. */
class Output {
  /** Resolves when all of it is read. */
  readonly drained: Promise<unknown>;
  readonly #streams: readonly Readable[];
  #kept = Buffer.alloc(0);
  #readBytes = 0;

  constructor({ stdout, stderr }: ChildProcess) {
    this.#streams = [stdout, stderr].filter((stream) => stream !== null);
    this.drained = Promise.all(this.#streams.map((stream) => this.#read(stream)));
  }

  async #read(stream: Readable): Promise<void> {
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        this.#kept = Buffer.from(Buffer.concat([this.#kept, chunk]).subarray(-KEPT_BYTES));
        this.#readBytes += chunk.length;
        if (this.#readBytes > FAST_BYTES) await pause(SLOW_READ_MS);
      }
    } catch {
      // The pipe broke, or `close` destroyed it: that is the end of the output.
    }
  }

  /** Reads no more. */
  close(): void {
    for (const stream of this.#streams) stream.destroy();
  }

  get #lines(): string[] {
    return this.#kept
      .toString()
      .split(/[\r\n]+/)
      .map((line) => line.replace(/\p{Cc}+/gu, " ").trim())
      .filter((line) => line !== "");
  }

  /** The line that one of these tools has printed; null if there is none. */
  lineOf(tools: readonly string[]): string | null {
    return this.#lines.find((line) => tools.some((tool) => line.startsWith(tool))) ?? null;
  }

  /** In one line. */
  get text(): string {
    return this.#lines.join("; ").slice(-SAID_CHARS);
  }
}
