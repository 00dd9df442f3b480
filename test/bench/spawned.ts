import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeToStitch } from "../../workers/node/protocol/process-v1.ts";
import { ANSWERS } from "../support/stitch-programs.ts";

export type StartAndStop = { readonly startMs: number; readonly stopMs: number };

/** Starts the program `count` times with nothing around it, until each has answered a heartbeat; then stops it with `_exit`. */
export async function spawned(count: number, cwd: string): Promise<StartAndStop> {
  const [program = "", ...args] = ANSWERS;
  const system = { from: "", node: "n1", data: "", re: null };
  const beganMs = performance.now();
  const children = Array.from({ length: count }, () =>
    spawn(program, args, { cwd, detached: true, stdio: ["pipe", "pipe", "pipe"] }),
  );
  try {
    for (const { stdin } of children) stdin.write(writeToStitch({ ...system, id: 2, channel: "_heartbeat" }));
    await Promise.all(children.map(({ stdout }) => once(stdout, "data")));
    const runningMs = performance.now();
    const exits = children.map((child) => once(child, "exit"));
    for (const { stdin } of children) stdin.write(writeToStitch({ ...system, id: 4, channel: "_exit" }));
    await Promise.all(exits);
    return { startMs: runningMs - beganMs, stopMs: performance.now() - runningMs };
  } finally {
    for (const child of children) child.kill("SIGKILL");
  }
}
