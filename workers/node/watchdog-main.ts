import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

/**
 * The watchdog process. Reads from its worker, a line each: `+<pid>` a process group to guard, `-<pid>` one that is gone,
 * `bye` the worker ends in good order. When the input ends without `bye`, the worker is dead: everything it guarded dies.
 */
const session = process.argv[2] ?? "";
const guarded = new Set<number>();
let bye = false;

// It lives in a group of its own; a terminal's Ctrl-C or an operator's kill of the wrong process must not disarm it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  if (line === "bye") bye = true;
  const pid = Number(line.slice(1));
  if (!Number.isInteger(pid) || pid < 2) return;
  if (line.startsWith("+")) guarded.add(pid);
  if (line.startsWith("-")) guarded.delete(pid);
});
input.on("close", () => {
  if (!bye) endEverything();
  process.exit(0);
});

function endEverything(): void {
  for (const pid of guarded) kill(-pid);
  // A stitch that was started in the worker's last moment, and what left its group, still carry the session.
  for (let round = 0; round < 3; round++) for (const pid of ofSession()) kill(pid);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
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
