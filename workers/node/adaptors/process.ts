import type { ChildProcess } from "node:child_process";
import { statSync } from "node:fs";
import { errorCode, errorText } from "../../../src/error-text.ts";
import { signalGroup } from "../processes/process-group.ts";
import { type Adaptor, type Exit, neverStarted, type Started, type StitchInstance } from "../protocol/adaptor.ts";
import type { Wanted } from "./failed-launch.ts";
import { type ProcessAdaptorOptions, ProcessInstance, failed } from "./process-instance.ts";
import { environment, processV1Command } from "./command-line.ts";
import { spawnCall } from "./launcher.ts";

/** Runs programs as child processes, each the leader of a process group of its own, without a shell. */
export function processAdaptor(options: ProcessAdaptorOptions): Adaptor {
  return (context) => {
    const { spec } = context;
    if (spec.adaptor !== "process") return neverStarted("this adaptor starts processes only");
    const heldUp = options.orphans.holdUp(context.id);
    if (heldUp !== null) return neverStarted(heldUp, { heldUp });
    const noHandles = options.handles.refusal();
    if (noHandles !== null) return neverStarted(noHandles);
    const [program = "", ...args] =
      spec.protocol === "process-v1" ? processV1Command(context, spec.command) : spec.command;
    const cwd = spec.cwd ?? context.dataDir;
    const env = environment(context, spec);
    const call = options.launcher.launch(cwd, program, args);
    const wanted: Wanted = { node: context.node, program, cwd, path: env["PATH"] ?? "" };
    // spawn reports a missing folder as if the program were missing.
    if (call.tools.length === 0 && !statSync(cwd, { throwIfNoEntry: false })?.isDirectory())
      return neverStarted(`the working folder ${cwd} does not exist on ${context.node}`);
    let child: ChildProcess;
    try {
      // A program without ProcessV1 gets no input, and if it reads, it must not wait for any.
      child = spawnCall(call, env, spec.protocol === "process-v1" ? "pipe" : "ignore");
    } catch (error) {
      return neverStarted(spawnText(error, wanted));
    }
    if (child.pid === undefined) return notSpawned(child, wanted);
    try {
      return new ProcessInstance(child, child.pid, context, spec, call, wanted, options);
    } catch (error) {
      // Nobody knows this process, so it must not run on.
      const { pid } = child;
      signalGroup(pid, "SIGKILL");
      child.once("exit", () => options.watchdog.release(pid));
      return neverStarted(spawnText(error, wanted));
    }
  };
}

function notSpawned(child: ChildProcess, wanted: Wanted): StitchInstance {
  const exit: Exit = { code: null, signal: null, neverRan: true };
  const started = new Promise<Started>((resolve) => {
    child.once("error", (error) => resolve(failed({ code: "spawn_failed", message: spawnText(error, wanted) })));
  });
  return { pid: null, started, exited: started.then(() => exit), stop: () => Promise.resolve(exit) };
}

/** The system's reason for starting no process, and what to do about it. */
function spawnText(error: unknown, { program }: Wanted): string {
  const message = errorText(error);
  switch (errorCode(error)) {
    case "ENOENT":
      return `there is no program "${program}" on this node's PATH`;
    case "EACCES":
      return `"${program}" may not be executed`;
    case "EAGAIN":
      return (
        `the system lets this node start no more processes (${message}); raise the limit for the worker's user ` +
        "(ulimit -u) or its container, or run fewer stitches there"
      );
    case "EMFILE":
    case "ENFILE":
      return `this node has no file or connection left to open (${message}); raise ulimit -n for its worker`;
    case "ENOMEM":
      return `this node has no memory left for another process (${message}); run fewer stitches there`;
    default:
      return `${program}: ${message}`;
  }
}
