import { type ChildProcess, spawn } from "node:child_process";
import { statSync } from "node:fs";
import type { Readable } from "node:stream";
import type { ProcessSpec } from "../../../src/domain/spec.ts";
import type { StepError } from "../../../src/domain/stitch.ts";
import type { Watchdog } from "../watchdog.ts";
import type { Adaptor, Exit, StartContext, Started, StitchInstance } from "./adaptor.ts";
import { readLines } from "./lines.ts";

/** With protocol `none`, alive after this is running (http.md, "When a step has succeeded"). */
const ALIVE_AFTER_MS = 1000;
const TAIL_LINES = 20;
const TAIL_BYTES = 4096;
/** How often a group that was killed is looked for, until the kernel has taken it away. */
const GONE_POLL_MS = 10;
const GONE_LIMIT_MS = 5000;
/** Output of a program that has exited is waited for this long: a process that left its group may hold the pipe for ever. */
const DRAIN_MS = 500;

/** Passed on to a stitch from the worker's environment; nothing else is, so that no secret of the node reaches it. */
const INHERITED = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

function environment(context: StartContext, spec: ProcessSpec): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of INHERITED) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return {
    ...env,
    ...spec.env,
    STITCH_NODE_ID: context.node,
    STITCH_ID: context.id,
    STITCH_GROUP: context.group,
    STITCH_DATA_DIR: context.dataDir,
    STITCH_SESSION: context.session,
  };
}

const failed = (error: StepError): Started => ({ kind: "failed", error });

/** Runs programs as child processes, each the leader of a process group of its own. */
export function processAdaptor(watchdog: Watchdog): Adaptor {
  return (context) => {
    const { spec } = context;
    if (spec.adaptor !== "process") return neverStarted("this adaptor starts processes only");
    if (spec.protocol !== "none")
      return neverStarted(`this node does not speak the protocol ${spec.protocol} yet; use "protocol": "none"`);
    const cwd = spec.cwd ?? context.dataDir;
    // spawn reports a missing folder as if the program were missing.
    if (!statSync(cwd, { throwIfNoEntry: false })?.isDirectory())
      return neverStarted(`the working folder ${cwd} does not exist on ${context.node}`);
    const [program, ...args] = spec.command;
    let child: ChildProcess;
    try {
      child = spawn(program, args, {
        cwd,
        env: environment(context, spec),
        detached: true,
        stdio: ["pipe", "pipe", "pipe"],
      });
    } catch (error) {
      return neverStarted(`${program}: ${error instanceof Error ? error.message : String(error)}`);
    }
    return child.pid === undefined
      ? notSpawned(child, program)
      : new ProcessInstance(child, child.pid, context, spec, watchdog);
  };
}

function neverStarted(message: string): StitchInstance {
  const exit: Exit = { code: null, signal: null };
  return {
    pid: null,
    started: Promise.resolve(failed({ code: "spawn_failed", message })),
    exited: Promise.resolve(exit),
    stop: () => Promise.resolve(exit),
  };
}

function notSpawned(child: ChildProcess, program: string): StitchInstance {
  const exit: Exit = { code: null, signal: null };
  const started = new Promise<Started>((resolve) => {
    child.once("error", (error: NodeJS.ErrnoException) => {
      const why =
        error.code === "ENOENT"
          ? `there is no program "${program}" on this node's PATH`
          : error.code === "EACCES"
            ? `"${program}" may not be executed`
            : error.message;
      resolve(failed({ code: "spawn_failed", message: why }));
    });
  });
  return { pid: null, started, exited: started.then(() => exit), stop: () => Promise.resolve(exit) };
}

class ProcessInstance implements StitchInstance {
  readonly pid: number;
  readonly started: Promise<Started>;
  readonly exited: Promise<Exit>;
  readonly #stderrTail: string[] = [];
  #stopping = false;

  constructor(child: ChildProcess, pid: number, context: StartContext, spec: ProcessSpec, watchdog: Watchdog) {
    this.pid = pid;
    watchdog.guard(pid);
    child.on("error", (error) => void context.log("system", `error: ${error.message}`));
    // A program that does not read its input must not end the worker when the pipe breaks.
    child.stdin?.on("error", () => undefined);
    const drained = Promise.all([
      this.#read(child.stdout, "stdout", context),
      this.#read(child.stderr, "stderr", context),
    ]);
    const ended = new Promise<Exit>((resolve) => {
      child.once("exit", (code, signal) => resolve({ code, signal }));
    });
    this.exited = ended.then(async (exit) => {
      // The leader is gone; what it started in its group goes with it.
      await endGroup(pid);
      watchdog.release(pid);
      await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, DRAIN_MS).unref())]);
      child.stdout?.destroy();
      child.stderr?.destroy();
      return exit;
    });
    this.started = this.#watchStart(ended, spec);
  }

  async #read(stream: Readable | null, source: "stdout" | "stderr", context: StartContext): Promise<void> {
    if (stream === null) return;
    await readLines(stream, (line) => {
      if (source === "stderr") this.#remember(line);
      return context.log(source, line);
    });
  }

  #remember(line: string): void {
    this.#stderrTail.push(line.slice(0, TAIL_BYTES));
    if (this.#stderrTail.length > TAIL_LINES) this.#stderrTail.shift();
  }

  async #watchStart(ended: Promise<Exit>, spec: ProcessSpec): Promise<Started> {
    let timer: NodeJS.Timeout | undefined;
    const alive = new Promise<"alive">((resolve) => {
      timer = setTimeout(() => resolve("alive"), ALIVE_AFTER_MS);
    });
    const first = await Promise.race([alive, ended]);
    clearTimeout(timer);
    if (first === "alive") return { kind: "running" };
    await this.exited;
    if (first.code === 0 && spec.restart.policy !== "always") return { kind: "finished" };
    const how = first.signal === null ? `with code ${first.code}` : `by ${first.signal}`;
    const tail = this.#stderrTail.join("\n").slice(-TAIL_BYTES);
    return failed({
      code: "exited_early",
      message: this.#stopping
        ? "it was stopped while it started"
        : `it exited ${how} within ${ALIVE_AFTER_MS} ms of its start`,
      ...(tail === "" ? {} : { stderrTail: tail }),
    });
  }

  async stop(graceMs: number): Promise<Exit> {
    if (!this.#stopping) {
      this.#stopping = true;
      signalGroup(this.pid, "SIGTERM");
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), graceMs);
    });
    const first = await Promise.race([this.exited, late]);
    clearTimeout(timer);
    if (first !== "late") return first;
    signalGroup(this.pid, "SIGKILL");
    return this.exited;
  }
}

/** @returns false where the group is gone. */
function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-pid, signal);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return false;
    throw error;
  }
}

/**
 * Kills what is left of a process group, and resolves when the kernel has taken it away. Bounded: where nobody reaps
 * orphans (a container without an init), a dead process stays listed for ever and is nothing to wait for.
 */
async function endGroup(pid: number): Promise<void> {
  for (let waitedMs = 0; waitedMs < GONE_LIMIT_MS && signalGroup(pid, "SIGKILL"); waitedMs += GONE_POLL_MS)
    await new Promise((resolve) => setTimeout(resolve, GONE_POLL_MS));
}
