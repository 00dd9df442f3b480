import { execFile } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { endianness } from "node:os";
import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";

/** A process as the system shows it. */
export type ProcessRow = {
  readonly pid: number;
  readonly parent: number;
  /** The process group. */
  readonly group: number;
  /** It has ended and waits for its parent to notice: it can neither be killed nor does it use anything. */
  readonly zombie: boolean;
  /** Resident memory; what it shares with others is counted in each. */
  readonly memoryBytes: number;
  /** Since its start. */
  readonly cpuMs: number;
  /** Of its children that have ended and that it has waited for, and of theirs. 0 where the system does not tell. */
  readonly childrenCpuMs: number;
  /** In the kernel's count: with the pid it names a process for good. 0 where the system does not tell. */
  readonly startedAt: number;
};

const NONE: ReadonlySet<number> = new Set();

/** Every process of the machine but those in `except`, as they are by then; null where the system does not show them. */
export async function readProcesses(except = NONE): Promise<ProcessRow[] | null> {
  return (await processesFromProc(except)) ?? (await processesFromPs());
}

/** So many are read before other work gets its turn: 1 to 2 ms. */
const SLICE = 64;

/**
 * Linux. The files are read synchronously, a slice at a time: 1000 processes cost 20 to 30 ms of CPU so, and 130 ms when
 * they go through the thread pool one by one (measured with Node 24 on a core at 2.6 GHz). The kernel makes them on
 * the spot and waits for nothing.
 */
export async function processesFromProc(except = NONE): Promise<ProcessRow[] | null> {
  if (process.platform !== "linux") return null;
  const names = await readdir("/proc").catch(() => []);
  const rows: ProcessRow[] = [];
  let untilTurn = SLICE;
  for (const name of names) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || except.has(pid)) continue;
    const row = readProcess(pid);
    if (row !== null) rows.push(row);
    if (--untilTurn > 0) continue;
    await nextTurn();
    untilTurn = SLICE;
  }
  return rows.length === 0 ? null : rows;
}

/** Longer than any line of a `stat` file. */
const line = Buffer.allocUnsafe(2048);

/** One process, from /proc as it is now; null where it is gone or there is no /proc. */
export function readProcess(pid: number): ProcessRow | null {
  let length = 0;
  try {
    const file = openSync(`/proc/${pid}/stat`, "r");
    try {
      length = readSync(file, line, 0, line.length, null);
    } finally {
      closeSync(file);
    }
  } catch {
    return null;
  }
  // pid (name) state …: the name is the program's to choose and may hold anything. See proc_pid_stat(5).
  const text = line.toString("latin1", 0, length);
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const field = (number: number): number => Number(fields[number - 3]);
  const msPerTick = 1000 / kernel.ticksPerSecond;
  return {
    pid,
    parent: field(4),
    group: field(5),
    zombie: fields[0] === "Z" || fields[0] === "X",
    memoryBytes: field(24) * kernel.pageBytes,
    cpuMs: (field(14) + field(15)) * msPerTick,
    childrenCpuMs: (field(16) + field(17)) * msPerTick,
    startedAt: field(22),
  };
}

const kernel = kernelUnits();

/** What /proc counts in: the kernel tells each program at its start. See getauxval(3). */
function kernelUnits(): { readonly pageBytes: number; readonly ticksPerSecond: number } {
  const [AT_PAGESZ, AT_CLKTCK] = [6n, 17n];
  const told = new Map<bigint, number>();
  try {
    const { buffer, byteOffset, byteLength } = readFileSync("/proc/self/auxv");
    const view = new DataView(buffer, byteOffset, byteLength);
    const little = endianness() === "LE";
    for (let at = 0; at + 16 <= byteLength; at += 16)
      told.set(view.getBigUint64(at, little), Number(view.getBigUint64(at + 8, little)));
  } catch {
    // No /proc: nothing will be counted.
  }
  return { pageBytes: told.get(AT_PAGESZ) ?? 4096, ticksPerSecond: told.get(AT_CLKTCK) ?? 100 };
}

const PS_LIMIT_MS = 10_000;
const PS_MAX_BYTES = 64 * 1024 * 1024;
const run = promisify(execFile);

/** Elsewhere. It tells neither when a process started nor what its children used. */
export async function processesFromPs(): Promise<ProcessRow[] | null> {
  const args = ["-axo", "pid=,ppid=,pgid=,stat=,rss=,time="];
  const options = { timeout: PS_LIMIT_MS, maxBuffer: PS_MAX_BYTES, env: { ...process.env, LC_ALL: "C" } };
  const output = await run("ps", args, options).then(
    ({ stdout }) => stdout,
    () => "",
  );
  const rows = output.split("\n").flatMap((text): ProcessRow[] => {
    const [pid, parent, group, state = "", kib, time = ""] = text.trim().split(/\s+/);
    if (time === "") return [];
    return [
      {
        pid: Number(pid),
        parent: Number(parent),
        group: Number(group),
        zombie: state.startsWith("Z"),
        memoryBytes: Number(kib) * 1024,
        cpuMs: cpuMsOf(time),
        childrenCpuMs: 0,
        startedAt: 0,
      },
    ];
  });
  return rows.length === 0 ? null : rows;
}

/** @param time `[[days-]hours:]minutes:seconds`, on some systems with hundredths. */
export function cpuMsOf(time: string): number {
  const [clock = "", days = "0"] = time.split("-").reverse();
  const seconds = clock.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  return Math.round((Number(days) * 86_400 + seconds) * 1000);
}
