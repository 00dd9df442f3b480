import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { ENDING_SIGNALS } from "../../../src/ending-signals.mjs";
import { EscapedProcesses } from "./escaped-processes.ts";
import { GuardedGroups } from "./guarded-groups.ts";

/**
 * The watchdog process. Reads from its worker, a line each:
 * - `+<pid>` a process group to guard; `+<pid> <ms> <stitch>` one that must not outlive the lease, with the grace between
 *   SIGTERM and SIGKILL; `-<pid>` one that is gone.
 * - `=<ms>` the lease holds until then, by the clock that both processes share.
 * - `bye` the worker ends in good order.
 *
 * If the input ends without `bye`, the worker is dead: the watchdog kills everything that it guards. If the lease has run
 * out, because Redis is away or the worker hangs, it ends the groups that must not outlive the lease, and the processes
 * that left them. Before that it prints the pid of each group, a line each: so the worker knows that the lease ended the
 * group, even if it reads this when it has a new lease.
 */
const session = process.argv[2] ?? "";
let bye = false;

// The watchdog has its own process group. A Ctrl-C in a terminal, or a kill of the wrong process, must not end it.
for (const signal of ENDING_SIGNALS) process.on(signal, () => undefined);

// Nobody reads the watchdog's errors. Processes that it may not kill are left.
const escaped = new EscapedProcesses(session, () => undefined);
const groups = new GuardedGroups({
  nowMs: () => Number(process.hrtime.bigint() / 1_000_000n),
  signal: (pid, signal) => kill(-pid, signal),
  onLeaseEnd: (pid) => process.stdout.write(`${pid}\n`),
  endEscaped: (stitch, isDue) => void escaped.end(stitch, isDue),
});

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  if (line === "bye") bye = true;
  const [number = "", graceMs, stitch] = line.slice(1).split(" ");
  const value = Number(number);
  if (!Number.isInteger(value) || value < 2) return;
  if (line.startsWith("+"))
    groups.guard(value, graceMs === undefined || stitch === undefined ? null : { stitch, graceMs: Number(graceMs) });
  if (line.startsWith("-")) groups.release(value);
  if (line.startsWith("=")) groups.renew(value);
});
// A dead worker reads nothing, but its processes must still be ended.
process.stdout.on("error", () => undefined);
input.on("close", () => {
  if (!bye) endEverything();
  process.exit(0);
});

function endEverything(): void {
  for (const pid of groups.pids) kill(-pid, "SIGKILL");
  // A stitch that was started at the worker's last moment, and processes that left their group, still carry the session.
  for (let round = 0; round < 3; round++) for (const pid of ofSession()) kill(pid, "SIGKILL");
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // The process is gone, as wanted. Or it is another user's, and no signal from here ends it; its worker reports that.
  }
}

/** Processes with this worker's session in their environment. Linux only; elsewhere only the process groups are known. */
function ofSession(): number[] {
  if (process.platform !== "linux" || session === "") return [];
  const mark = `STITCH_SESSION=${session}\0`;
  const found: number[] = [];
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (`${readFileSync(`/proc/${name}/environ`, "latin1")}\0`.includes(mark)) found.push(pid);
    } catch {
      // The process is gone, or belongs to another user: it is not ours.
    }
  }
  return found;
}
