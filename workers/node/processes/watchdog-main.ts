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
 * When the input ends without `bye`, the worker is dead: everything it guarded dies. When the lease has run out, whether
 * Redis is away or the worker hangs, the groups that must not outlive it are ended, with what has left them. It prints the
 * pid of each before that, a line each: for the worker this is no exit like others, also when it hears of it with a new lease in hand.
 */
const session = process.argv[2] ?? "";
let bye = false;

// It lives in a group of its own; a terminal's Ctrl-C or an operator's kill of the wrong process must not disarm it.
for (const signal of ENDING_SIGNALS) process.on(signal, () => undefined);

// Nobody reads what it has to say; what may not be killed is left.
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
// A worker that has died reads nothing; what is left to do for it must be done all the same.
process.stdout.on("error", () => undefined);
input.on("close", () => {
  if (!bye) endEverything();
  process.exit(0);
});

function endEverything(): void {
  for (const pid of groups.pids) kill(-pid, "SIGKILL");
  // A stitch that was started in the worker's last moment, and what left its group, still carry the session.
  for (let round = 0; round < 3; round++) for (const pid of ofSession()) kill(pid, "SIGKILL");
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone already, which is what is wanted; or another user's, which no signal from here ends: its worker tells of that.
  }
}

/** Processes with this worker's session in their environment. Linux only; elsewhere process groups are all there is. */
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
      // Gone meanwhile, or another user's: not ours.
    }
  }
  return found;
}
