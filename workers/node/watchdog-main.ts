import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

/**
 * The watchdog process. Reads from its worker, a line each:
 * - `+<pid>` a process group to guard; `+<pid> <ms>` one that must not outlive the lease, with the grace between SIGTERM
 *   and SIGKILL; `-<pid>` one that is gone.
 * - `=<ms>` the lease holds until then, by the clock that both processes share.
 * - `bye` the worker ends in good order.
 *
 * When the input ends without `bye`, the worker is dead: everything it guarded dies. When the lease has run out, whether
 * Redis is away or the worker hangs, the groups that must not outlive it are ended. It prints the pid of each before that,
 * a line each: for the worker this is no exit like others, also when it hears of it with a new lease in hand.
 */
const session = process.argv[2] ?? "";
/** Grace of the groups that end with the lease; null for the others. */
const guarded = new Map<number, number | null>();
let bye = false;
let leaseUntilMs = Number.POSITIVE_INFINITY;
let leaseTimer: NodeJS.Timeout | undefined;

// It lives in a group of its own; a terminal's Ctrl-C or an operator's kill of the wrong process must not disarm it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

/** Monotonic and the same in every process of the machine. */
const sharedNowMs = (): number => Number(process.hrtime.bigint() / 1_000_000n);

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  if (line === "bye") bye = true;
  const [number = "", grace] = line.slice(1).split(" ");
  const value = Number(number);
  if (!Number.isInteger(value) || value < 2) return;
  if (line.startsWith("+")) guard(value, grace === undefined ? null : Number(grace));
  if (line.startsWith("-")) guarded.delete(value);
  if (line.startsWith("=")) renew(value);
});
// A worker that has died reads nothing; what is left to do for it must be done all the same.
process.stdout.on("error", () => undefined);
input.on("close", () => {
  if (!bye) endEverything();
  process.exit(0);
});

function guard(pid: number, graceMs: number | null): void {
  guarded.set(pid, graceMs);
  // Started in the last moment of the lease, or told after it: its end is due now.
  if (graceMs !== null && sharedNowMs() >= leaseUntilMs) endWithLease(pid, graceMs);
}

function renew(untilMs: number): void {
  clearTimeout(leaseTimer);
  // Heard too late: the timer was due before, and that the lease holds again does not make up for it.
  if (sharedNowMs() >= leaseUntilMs) endAllWithLease();
  leaseUntilMs = untilMs;
  leaseTimer = setTimeout(endAllWithLease, Math.max(0, untilMs - sharedNowMs()));
}

function endAllWithLease(): void {
  for (const [pid, graceMs] of guarded) if (graceMs !== null) endWithLease(pid, graceMs);
}

function endWithLease(pid: number, graceMs: number): void {
  process.stdout.write(`${pid}\n`);
  kill(-pid, "SIGTERM");
  setTimeout(() => {
    // Still guarded, so its worker has not seen it go; a number that has become another's is guarded no more.
    if (guarded.has(pid)) kill(-pid, "SIGKILL");
  }, graceMs);
}

function endEverything(): void {
  for (const pid of guarded.keys()) kill(-pid, "SIGKILL");
  // A stitch that was started in the worker's last moment, and what left its group, still carry the session.
  for (let round = 0; round < 3; round++) for (const pid of ofSession()) kill(pid, "SIGKILL");
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone already, which is what is wanted.
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
