import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const PS_LIMIT_MS = 5000;

/**
 * Distinguishes a process from a later one with the same pid: the time when it started, as the system writes it. Only for
 * comparison, on the same machine and in the same boot.
 * @returns null if no process with this pid lives (a zombie counts as ended), or the system does not tell.
 */
export async function processIdentity(pid: number): Promise<string | null> {
  return process.platform === "linux" ? await startOnLinux(pid) : await startByPs(pid);
}

async function startOnLinux(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // proc_pid_stat(5). The name in brackets may hold anything; after it come the state (field 3) … start time (22).
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state, started] = [fields[0], fields[19]];
    return started === undefined || state === "Z" || state === "X" ? null : `${await bootId()}/${started}`;
  } catch {
    return null;
  }
}

/** Start times count from the boot, so the same start time means another process after the next boot. */
async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}

async function startByPs(pid: number): Promise<string | null> {
  try {
    const { stdout } = await run("ps", ["-o", "stat=,lstart=", "-p", String(pid)], {
      timeout: PS_LIMIT_MS,
      env: { ...process.env, LC_ALL: "C", TZ: "UTC" },
    });
    const [state = "", ...started] = stdout.trim().split(/\s+/);
    return started.length === 0 || state.startsWith("Z") ? null : started.join(" ");
  } catch {
    return null;
  }
}
