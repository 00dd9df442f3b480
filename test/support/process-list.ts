import { execFile, execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The processes that work in a folder, or have it in their command line, as `pid command`, without this process. */
export async function processesOf(folder: string): Promise<string[]> {
  const all = process.platform === "linux" ? await fromProc() : await fromPs();
  return all.filter((line) => line.includes(folder) && !line.startsWith(`${process.pid} `));
}

async function fromProc(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  return await Promise.all(
    pids.map(async (pid) => {
      // A process may end while it is read.
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      const folder = await readlink(`/proc/${pid}/cwd`).catch(() => "");
      return `${pid} ${command.split("\0").join(" ")} [in ${folder}]`;
    }),
  );
}

async function fromPs(): Promise<string[]> {
  const { stdout } = await run("ps", ["-axo", "pid=,command="]);
  return stdout.split("\n").map((line) => line.trim());
}

/** Does it run? A zombie does not: it has ended, but its parent has not collected it yet, perhaps because the parent hangs. */
export function isRunning(pid: number): boolean {
  try {
    const state =
      process.platform === "linux"
        ? // What follows its name. The name may hold anything, a parenthesis included.
          readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "")
        : execFileSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "latin1" });
    return !/^[ZX]/.test(state);
  } catch {
    return false;
  }
}
